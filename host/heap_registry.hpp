#pragma once

#include <cstdint>
#include <mutex>

#include "host/sys_vector.hpp"

namespace warpheap {

class host_heap;

/// The live heaps of the process. A thread that ends asks here which of its caches' heaps still
/// exist; a fork locks all heaps. All members except the mutex need it held.
struct heap_registry {
  struct entry {
    std::uint64_t id;
    host_heap* heap;
  };

  /// Never destroyed: threads may end after static objects are gone.
  static heap_registry& instance();

  /// Returns the heap's number, which was never used before. Throws std::bad_alloc.
  std::uint64_t add(host_heap* heap);
  void remove(std::uint64_t id);
  /// Gives a heap a new number, so that threads' caches of it seem to be of a heap that is gone.
  std::uint64_t renew(std::uint64_t id);
  /// nullptr when the heap is gone.
  host_heap* find(std::uint64_t id) const;

  std::mutex mutex;         // taken before any lock of a heap
  sys_vector<entry> heaps;  // in the order of rising ids

 private:
  std::uint64_t last_id_ = 0;
};

}  // namespace warpheap
