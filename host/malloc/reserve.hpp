#pragma once

#include <cstddef>

namespace warpheap {

/// Address space for the heap of a process. Like that of the functions below, it cannot be accessed
/// yet.
struct process_reservation {
  std::byte* base = nullptr;  ///< nullptr when there is none; aligned to arena_bytes
  std::size_t bytes = 0;
  /// The system counts all usable pages, so only those in use may be usable.
  bool is_counted = false;
};

/// How much address space a process's heap may take in all: 1 TiB, or what the limit on address
/// space (RLIMIT_AS, ulimit -v) leaves.
std::size_t most_process_bytes();

/// How much it requests first: 1 TiB, or half of what that limit leaves, in whole chunks.
std::size_t process_reserve_bytes();

/// Reserves `bytes`, or the largest half, quarter, eighth ... that the system grants, down to the
/// least that a heap can have.
process_reservation reserve_process_heap(std::size_t bytes);

/// Address space for arenas beyond the reservation: `bytes`, a multiple of arena_bytes and aligned
/// to it; directly behind `after` if possible, otherwise at a hint (arena_hints.hpp), otherwise
/// anywhere. nullptr when the system has none.
std::byte* reserve_arenas(std::byte* after, std::size_t bytes);

/// The most bytes of one object that can be backed: memory and swap; without bound where the system
/// was told to promise everything (vm.overcommit_memory = 1).
std::size_t largest_backed_object();

}  // namespace warpheap
