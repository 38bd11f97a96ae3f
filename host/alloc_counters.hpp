#pragma once

// Counters that one thread writes and all may read.

#include <array>
#include <atomic>
#include <cstdint>

#include <warpheap/size_classes.hpp>

#include "host/free_status.hpp"
#include "host/one_instruction.hpp"

namespace warpheap {

/// A counter that one thread writes and others read.
class owned_counter {
 public:
  void add(std::uint64_t n) {
    // Load and store suffice: there is no other writer. Release: a reader that sees a free counted
    // also sees its malloc counted, as that happened before the free.
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_release);
  }
  void increment() { increment_owned(value_); }
  std::uint64_t get() const { return value_.load(std::memory_order_acquire); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// What one thread has done. Summed over threads, these are the heap's figures; see
/// host_heap_stats.
struct alloc_counters {
  std::array<owned_counter, num_classes> mallocs;
  std::array<owned_counter, num_classes> frees;
  owned_counter tiny_mallocs, tiny_frees, tiny_blocks_taken, tiny_blocks_freed;
  owned_counter large_bytes_taken, large_bytes_freed;
  owned_counter out_of_memory, refused, refills, freed_by_reset, cleared_bytes;
  std::array<owned_counter, free_statuses> wrong_frees;  // by free_status; success stays 0

  void add(const alloc_counters& other) {
    for (unsigned c = 0; c < num_classes; ++c) {
      mallocs[c].add(other.mallocs[c].get());
      frees[c].add(other.frees[c].get());
    }
    for (unsigned i = 0; i < wrong_frees.size(); ++i)
      wrong_frees[i].add(other.wrong_frees[i].get());
    for (owned_counter alloc_counters::*const figure :
         {&alloc_counters::tiny_mallocs, &alloc_counters::tiny_frees,
          &alloc_counters::tiny_blocks_taken, &alloc_counters::tiny_blocks_freed,
          &alloc_counters::large_bytes_taken, &alloc_counters::large_bytes_freed,
          &alloc_counters::out_of_memory, &alloc_counters::refused, &alloc_counters::refills,
          &alloc_counters::freed_by_reset, &alloc_counters::cleared_bytes}) {
      (this->*figure).add((other.*figure).get());
    }
  }
};

}  // namespace warpheap
