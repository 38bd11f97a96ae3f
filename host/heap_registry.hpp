#pragma once

#include <cstdint>
#include <mutex>

#include "host/sys_vector.hpp"

namespace warpheap {

class host_heap;

/// The heaps of the process that exist. A thread that ends asks here which of its caches' heaps
/// still do; a fork locks all of them. Members other than the mutex need it held.
struct heap_registry {
  struct entry {
    std::uint64_t id;
    host_heap* heap;
  };

  /// Never destroyed: threads may end after static objects are gone.
  static heap_registry& instance();

  /// The heap's number, never used before. Throws std::bad_alloc.
  std::uint64_t add(host_heap* heap);
  void remove(std::uint64_t id);
  /// Gives a heap another number, so that all caches that threads have of it are of a heap that is
  /// gone.
  std::uint64_t renew(std::uint64_t id);
  /// nullptr when it is gone.
  host_heap* find(std::uint64_t id) const;

  std::mutex mutex;         // taken before all locks of a heap
  sys_vector<entry> heaps;  // ids rise

 private:
  std::uint64_t last_id_ = 0;
};

}  // namespace warpheap
