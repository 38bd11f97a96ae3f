// Counters and the ring of detected errors, in device memory; the host reads them at rest.
#pragma once

#include <warpheap/atomic.hpp>
#include <warpheap/detail/warp.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// Statistics order nothing else, and the host reads them after the kernels have ended: relaxed.
__device__ __forceinline__ void count(padded_counter& counter, std::uint64_t n = 1) {
  atomic::fetch_add<order::relaxed>(&counter.value, n);
}

/// Records a caller's error with the address that it passed. Nothing else changes.
WARPHEAP_SLOW_PATH void report(const heap_view& h, error_kind kind, std::uint64_t address) {
  device_state& s = *h.state;
  atomic::fetch_add<order::relaxed>(&s.errors[static_cast<unsigned>(kind)], std::uint64_t{1});
  const std::uint64_t n = atomic::fetch_add<order::relaxed>(&s.ring_next, std::uint64_t{1});
  // Two errors a whole ring apart may mix their words; both are still counted.
  atomic::store<order::relaxed>(&s.ring_kind[n % error_ring_slots],
                                static_cast<std::uint64_t>(kind));
  atomic::store<order::relaxed>(&s.ring_address[n % error_ring_slots], address);
}

/// Address of a slot of the span whose first page is p.
__device__ __forceinline__ std::byte* slot_address(const heap_view& h, page_index p, unsigned cls,
                                                   unsigned slot) {
  return h.base + (std::uint64_t{p} << page_shift) + std::uint64_t{slot} * slot_bytes(cls);
}

/// The same for a word of a class's counters. These are not padded: slow paths of two classes may
/// share a line, which delays nothing that they wait for.
__device__ __forceinline__ void count(std::uint64_t& counter, std::uint64_t n = 1) {
  atomic::fetch_add<order::relaxed>(&counter, n);
}

/// Counts a malloc that ended in nullptr. It does not go into the ring of errors, as a full heap
/// would flood that.
WARPHEAP_SLOW_PATH void report_out_of_memory(const heap_view& h, unsigned cls) {
  count(h.state->classes[cls].failures);
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
