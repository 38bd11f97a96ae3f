#pragma once

// Memory for the allocator's own containers. It comes from the system, never from malloc: where
// this heap is the process's malloc, a vector inside it that grew by malloc would call the function
// that it is part of.

#include <cstddef>

namespace warpheap {

/// Blocks whose sizes are powers of two from 16 bytes to a page, with a free list for each size;
/// larger blocks have pages of their own. Thread-safe; its lock is the innermost of all.
class sys_pool {
 public:
  static constexpr std::size_t smallest = 16;
  static constexpr std::size_t largest = 4096;

  /// nullptr when the system has no memory. Aligned to the block's size, up to a page.
  static void* alloc(std::size_t bytes) noexcept;
  /// Takes a block back; `bytes` as in alloc. nullptr is ignored.
  static void free(void* p, std::size_t bytes) noexcept;
  /// Bytes taken from the system and not given back.
  static std::size_t sys_bytes() noexcept;

  /// For a fork: no other thread is in the pool between the two.
  static void lock() noexcept;
  static void unlock() noexcept;
};

}  // namespace warpheap
