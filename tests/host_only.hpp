// Options of heaps whose kernels do not matter.
#pragma once

#include <cstddef>
#include <warpheap/heap.hpp>

namespace warpheap::testing {

/// For tests of the host's objects: no refill service, not a word about what stays live.
inline heap_options host_only(std::size_t reserve_bytes) {
  heap_options o;
  o.reserve_bytes = reserve_bytes;
  o.backend = backend_kind::simt;
  o.refill_service = false;
  o.report_leaks = false;
  return o;
}

}  // namespace warpheap::testing
