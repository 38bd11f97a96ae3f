// A handle's calls, observed: counted by class, timed, and written into a ring of events
// (common/warpheap/observation.hpp). Only kernels that ask for observation include this file.
//
// Lanes that call together combine their notes, so that a warp makes one atomic operation per
// class, one per bucket of the histogram, and one for its slots in the ring. All are relaxed: the
// host reads the results after the kernels have ended. The ring's counter also defines the order of
// events. The malloc of an object is recorded after its slot was claimed, its free before the slot
// is given back, with a barrier of the lanes between the two steps. So the recorded free of an
// object happens before the recorded malloc of the next object in its place, and the ring's
// counter, changed by operations that are ordered so, keeps this order.
#pragma once

#include <warpheap/detail/mark.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// The clock for latencies: cycles of the multiprocessor on CUDA, nanoseconds on the executor.
__device__ __forceinline__ std::uint64_t ticks() { return static_cast<std::uint64_t>(clock64()); }

__device__ __forceinline__ unsigned latency_bucket(std::uint64_t took) {
  const unsigned b = 64 - static_cast<unsigned>(bits::countl_zero(took));
  return b < latency_buckets ? b : latency_buckets - 1;
}

/// Number of the calling warp within its launch.
__device__ inline std::uint32_t warp_in_launch() {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  return block * ((blockDim.x * blockDim.y * blockDim.z + 31) / 32) + thread / 32;
}

/// Class of the page that an address of the heap lies in.
__device__ inline unsigned class_at(const heap_view& h, const void* p) {
  const std::uint64_t offset =
      reinterpret_cast<std::uint64_t>(p) - reinterpret_cast<std::uint64_t>(h.base);
  return page_entry{atomic::load<order::relaxed>(h.entry + (offset >> page_shift))}.cls();
}

/// Adds one to `*counter` for each lane of the mask, which may name different counters.
WARPHEAP_OUTLINED void count_together(lane_mask mask, std::uint64_t* counter) {
  const lane_mask same = __match_any_sync(mask, reinterpret_cast<unsigned long long>(counter));
  if (lane_id() == leader_of(same)) count(*counter, static_cast<unsigned>(__popc(same)));
}

/// Writes an event for each lane of the mask, as long as there is room. Never waits.
WARPHEAP_OUTLINED void put_event(const heap_view& h, lane_mask mask, device_op op, const void* p,
                                 std::uint64_t bytes, unsigned cls, unsigned log2_align) {
  mask = __match_any_sync(mask, static_cast<unsigned long long>(key_of(h, 0)));
  device_observation& o = h.state->observed;
  if (o.event_slots == 0) return;
  unsigned long long at = 0;
  if (lane_id() == leader_of(mask))
    at = atomic::fetch_add<order::relaxed>(&o.events_so_far.value,
                                           std::uint64_t{static_cast<unsigned>(__popc(mask))});
  at = __shfl_sync(mask, at, static_cast<int>(leader_of(mask))) + rank_in(mask);
  // A slot has one writer. The counter runs on past the slots, and so tells how many events were
  // lost.
  if (at < o.event_slots)
    o.events[at] = {reinterpret_cast<std::uint64_t>(p),
                    bytes,
                    now_ns(),
                    warp_in_launch(),
                    op,
                    static_cast<std::uint8_t>(cls),
                    static_cast<std::uint8_t>(log2_align),
                    0};
}

/// Records an object that each lane of the mask has just made, or failed to make.
WARPHEAP_SLOW_PATH void note_malloc(const heap_view& h, lane_mask mask, void* p, std::uint64_t took,
                                    std::size_t size, std::size_t align) {
  device_observation& o = h.state->observed;
  const bool failed = p == nullptr;
  mask = __ballot_sync(mask, p != h.base);
  if (p == h.base) return;  // 0 bytes
  // The object pins its page's class. A failure is counted under the class that was asked for.
  const unsigned cls =
      failed ? counted_class(aligned_route(align == 0 ? 1 : align, size)) : class_at(h, p);
  const auto kind = static_cast<unsigned>(failed ? latency_kind::failure : latency_kind::malloc);
  const lane_mask made = __ballot_sync(mask, !failed);
  if (!failed) {
    if (atomic::load<order::relaxed>(&o.active) == 0)
      atomic::store<order::relaxed>(&o.active, std::uint64_t{1});
    count_together(made, &o.mallocs[cls]);
  }
  count_together(mask, &o.latency[kind][latency_bucket(took)]);
  __syncwarp(mask);
  put_event(h, mask, failed ? device_op::failure : device_op::malloc, p, size, cls,
            align == 0 ? 0 : static_cast<unsigned>(bits::countr_zero(std::uint64_t{align})));
}
WARPHEAP_SLOW_ENTRY(note_malloc);

/// free for all lanes of the mask.
WARPHEAP_SLOW_PATH void observed_free(const heap_view& h, lane_mask mask, void* p) {
  device_observation& o = h.state->observed;
  const std::uint64_t offset =
      reinterpret_cast<std::uint64_t>(p) - reinterpret_cast<std::uint64_t>(h.base);
  const bool inside = p != nullptr && offset != 0 && offset < h.bytes;
  const unsigned cls = inside ? class_at(h, p) : no_class;
  const lane_mask told = __ballot_sync(mask, inside);
  if (inside) put_event(h, told, device_op::free, p, 0, cls, 0);
  __syncwarp(mask);
  const std::uint64_t began = ticks();
  const bool freed = core::free<true>(h, mask, p);
  const std::uint64_t took = ticks() - began;
  mask = __ballot_sync(mask, freed);
  if (!freed) return;
  count_together(mask, &o.frees[cls]);
  count_together(mask, &o.latency[static_cast<unsigned>(latency_kind::free)][latency_bucket(took)]);
}
WARPHEAP_SLOW_ENTRY(observed_free);

/// For realloc: the objects that it makes and frees are observed like all others.
struct observed_moves {
  static __device__ void* malloc(const heap_view& h, lane_mask mask, std::size_t size) {
    const std::uint64_t began = ticks();
    void* p = plain_moves::malloc(h, mask, size);
    note_malloc(h, mask, p, ticks() - began, size, 1);
    return p;
  }
  static __device__ void free(const heap_view& h, lane_mask mask, void* p) {
    observed_free(h, mask, p);
  }
  static __device__ void resized(const heap_view& h, lane_mask mask, bool stay, void* p,
                                 std::size_t size) {
    mask = __ballot_sync(mask, stay);
    if (stay) put_event(h, mask, device_op::resize, p, size, class_at(h, p), 0);
  }
};

WARPHEAP_SLOW_PATH void* observed_realloc(const heap_view& h, lane_mask mask, void* p,
                                          std::size_t size) {
  return realloc_by<observed_moves>(h, mask, p, size);
}
WARPHEAP_SLOW_ENTRY(observed_realloc);

/// The observed counterpart of plain_calls.
struct observed_calls {
  static __device__ void* malloc(const heap_view& h, std::size_t size) {
    const lane_mask mask = __activemask();
    return malloc(h, mask, size);
  }
  template <std::size_t Size, std::size_t Align>
  static __device__ void* malloc_fixed(const heap_view& h) {
    const lane_mask mask = __activemask();
    const std::uint64_t began = ticks();
    void* p = core::malloc_fixed<Size, Align>(h, mask);
    note_malloc_entry(*h.self, mask, p, ticks() - began, Size, Align);
    return p;
  }
  /// Each object is recorded with the time of the whole call.
  static __device__ unsigned malloc_n(const heap_view& h, std::size_t size, unsigned n,
                                      void** out) {
    lane_mask mask = __activemask();
    const std::uint64_t began = ticks();
    const unsigned got = malloc_n_entry(*h.self, mask, size, n, out);
    const std::uint64_t took = ticks() - began;
    for (unsigned i = 0;; ++i) {
      // A lane that got fewer than it wanted records one failure, as the call counts one.
      const bool more = i < got || (i == got && got < n);
      mask = __ballot_sync(mask, more);
      if (!more) return got;
      note_malloc_entry(*h.self, mask, i < got ? out[i] : nullptr, took, size, 1);
    }
  }
  static __device__ void* calloc(const heap_view& h, std::size_t n, std::size_t size) {
    const lane_mask mask = __activemask();
    const std::size_t bytes = calloc_bytes(n, size);
    void* p = malloc(h, mask, bytes);
    zero_objects_entry(mask, p, p == nullptr ? 0 : bytes);
    return p;
  }
  static __device__ void* realloc(const heap_view& h, void* p, std::size_t size) {
    return observed_realloc_entry(*h.self, __activemask(), p, size);
  }
  static __device__ void* aligned_alloc(const heap_view& h, std::size_t align, std::size_t size) {
    const lane_mask mask = __activemask();
    const std::uint64_t began = ticks();
    void* p = aligned_alloc_entry(*h.self, mask, align, size);
    note_malloc_entry(*h.self, mask, p, ticks() - began, size, align);
    return p;
  }
  static __device__ void free(const heap_view& h, void* p) {
    observed_free_entry(*h.self, __activemask(), p);
  }

 private:
  static __device__ void* malloc(const heap_view& h, lane_mask mask, std::size_t size) {
    const std::uint64_t began = ticks();
    void* p = core::malloc(h, mask, size);
    note_malloc_entry(*h.self, mask, p, ticks() - began, size, 1);
    return p;
  }
};

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
