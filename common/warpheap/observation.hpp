// What kernels record about their calls, in device memory; the host reads it at rest.
//
// Growths, retirements, failures and searches happen on slow paths and are counted in every kernel.
// Calls of malloc and free are counted, timed and logged only by kernels that were compiled with
// WARPHEAP_OBSERVE=1 (device_heap.cuh): the fast paths of all others are unaffected.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>
#include <warpheap/layout.hpp>

namespace warpheap {

/// A counter on a cache line of its own.
struct alignas(128) padded_counter {
  std::uint64_t value;
};

/// Index of a counter by class: 1..67, tiny_blocks for objects below 16 bytes, large_class for
/// whole pages, no_class for the host's objects.
inline constexpr unsigned counted_classes = large_class + 1;

/// What slow paths did for one class.
struct class_counters {
  std::uint64_t grows;          ///< spans made
  std::uint64_t retires;        ///< spans given back
  std::uint64_t failures;       ///< objects requested and answered with nullptr
  std::uint64_t words_scanned;  ///< free words read by searches
};

/// Bucket b counts times from 2^(b-1) to 2^b - 1; bucket 0 counts zeros, the last all longer ones.
inline constexpr unsigned latency_buckets = 48;
inline constexpr unsigned latency_kinds = 3;
enum class latency_kind : unsigned {
  malloc,   ///< of objects that were made
  free,     ///< of objects that were freed
  failure,  ///< of calls that ended in nullptr
};

/// What happened in an event.
enum class device_op : std::uint8_t {
  malloc,  ///< an object was made
  free,    ///< a pointer is about to be freed: an object's, or an invalid one
  resize,  ///< realloc left the object in place; `bytes` is its new size
  failure  ///< `bytes` bytes were not available
};

/// One call, by one lane.
struct device_event {
  std::uint64_t address;
  std::uint64_t bytes;     ///< as requested; 0 for a free
  std::uint64_t clock_ns;  ///< by the clock that all warps share
  std::uint32_t warp;      ///< number of the warp in its launch
  device_op op;
  std::uint8_t cls;  ///< class index of the counters; for a failure that of the request, for an
                     ///< invalid pointer its page's
  std::uint8_t log2_align;
  std::uint8_t unused;
};
static_assert(sizeof(device_event) == 32);

/// Events in an order in which they could have occurred one by one.
struct device_events {
  std::vector<device_event> events;
  std::uint64_t lost = 0;  ///< later events for which there was no room
};

/// What observed kernels recorded. All words except `events` and `event_slots` are initially zero.
struct device_observation {
  std::uint64_t mallocs[counted_classes];  ///< objects made
  std::uint64_t frees[counted_classes];    ///< objects freed
  std::uint64_t latency[latency_kinds][latency_buckets];
  std::uint64_t active;  ///< 1 once an observed kernel has made an object: from then on, frees
                         ///< passed on by the host are observed, too
  padded_counter events_so_far;  ///< since the host last took them; those beyond the slots are lost
  device_event* events;          ///< [event_slots]
  std::uint64_t event_slots;
};

}  // namespace warpheap
