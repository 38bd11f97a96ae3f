#pragma once

// Chunks of pages for regions. (Go: user arenas.)
//
// A chunk that comes back is made to fault where the backend can do that, and is not reused for
// anything until a bounded number of bytes, or of chunks, has come back after it: a use after free
// ends in a signal at the instruction. Meanwhile the chunk holds no memory, and its quarantine ends
// early when the heap has no other pages left.

#include <cstddef>
#include <mutex>

#include "host/mheap.hpp"
#include "host/span_list.hpp"

namespace warpheap {

/// Thread-safe. Its lock is taken before mheap's.
class region_pool {
 public:
  /// Chunks in quarantine at most. Each may split one of the system's mappings in three, and a
  /// process can have some 65,000 of them.
  static constexpr std::size_t max_quarantined = 1024;
  /// The part of the heap that may be in quarantine.
  static constexpr std::size_t quarantine_part = 8;

  explicit region_pool(mheap& heap) : heap_(&heap) {}
  region_pool(const region_pool&) = delete;
  region_pool& operator=(const region_pool&) = delete;

  /// Consecutive pages, contents indeterminate; nullptr when there is no room.
  std::byte* take(std::size_t pages);
  /// Takes a chunk back; `start` is what take returned (else aborts).
  void give(std::byte* start);
  /// Ends the quarantine of all chunks. Returns the bytes that can be used again.
  std::size_t release();

  /// For a fork: no other thread is in here between the two.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  std::size_t end_oldest();

  mheap* heap_;
  std::mutex mutex_;
  span_list quarantine_;  // oldest first
  std::size_t quarantined_pages_ = 0;
};

}  // namespace warpheap
