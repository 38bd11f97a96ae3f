#pragma once

// The heap that is a process's malloc.

#include <atomic>
#include <cstddef>

#include "host/host_heap.hpp"

namespace warpheap {

/// Made by the first call of any function of malloc's family, before any constructor of the program
/// has run, and never destroyed. All its memory and records come from mmap.
class process_heap {
 public:
  /// The heap; the first call makes it. Aborts when there is no address space for one, and when
  /// making it calls malloc.
  static host_heap& get() {
    host_heap* h = heap_.load(std::memory_order_acquire);
    return h != nullptr ? *h : make();
  }

  /// The largest object: a request for more than the system could ever back is refused, as by the
  /// C library under the default overcommit mode.
  static std::size_t max_object() { return max_object_; }

  /// Counts a wrong pointer and says so on standard error, the first few times.
  static void report(free_status status, const void* p);

 private:
  static host_heap& make();

  static std::atomic<host_heap*> heap_;
  static std::size_t max_object_;
};

/// What is asked of the heap for n bytes, so that every object that could hold 16 bytes lies at a
/// multiple of 16, and each has an address of its own: of the slots only those of 8 and 24 bytes
/// are not aligned so.
constexpr std::size_t slot_request(std::size_t n) {
  if (n - 17 < 8) return 32;
  return n + (n == 0);
}

}  // namespace warpheap
