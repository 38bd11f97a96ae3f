// malloc and free in kernels.
//
//   __global__ void kernel(warpheap::device_heap heap) {
//     int* p = static_cast<int*>(heap.malloc(100));
//     ...
//     heap.free(p);
//   }
//
// Start here to read the device side: `malloc` below, then detail/small.cuh. All calls may be made
// by any lanes of a warp, converged or not, in divergent branches and loops; lanes that happen to
// call together share one atomic operation.
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>
#include <warpheap/detail/large.cuh>
#include <warpheap/detail/small.cuh>
#include <warpheap/detail/tiny.cuh>
#include <warpheap/heap_view.hpp>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// How a request is served: its class for small ones, else one of these.
inline constexpr unsigned route_tiny = 128;  ///< plus the size: lanes of one size work together
inline constexpr unsigned route_pages = 254;
inline constexpr unsigned route_zero = 255;

__device__ __forceinline__ unsigned route_of(std::size_t size) {
  if (size - tiny_size <= max_small_size - tiny_size) return size_to_class(size);
  if (size > max_small_size) return route_pages;
  return size == 0 ? route_zero : route_tiny + static_cast<unsigned>(size);
}

/// Everything but small objects.
WARPHEAP_SLOW_PATH void* malloc_other(const heap_view& h, lane_mask group, std::size_t size) {
  if (size == 0) return h.base;
  void* p =
      size < tiny_size ? malloc_tiny(h, group, static_cast<unsigned>(size)) : malloc_pages(h, size);
  if (p == nullptr) report_out_of_memory(h, 1);
  return p;
}
WARPHEAP_SLOW_ENTRY(malloc_other);

/// No span of the class can be had. A large slot may still be cut from pages that are too few for
/// a span; whatever needs less than half a page has failed.
WARPHEAP_SLOW_PATH void* malloc_without_span(const heap_view& h, std::size_t size) {
  void* p = size > page_size / 2 ? malloc_pages(h, size) : nullptr;
  if (p == nullptr) report_out_of_memory(h, 1);
  return p;
}
WARPHEAP_SLOW_ENTRY(malloc_without_span);

__device__ __forceinline__ void* malloc(const heap_view& h, lane_mask mask, std::size_t size) {
  const unsigned route = route_of(size);
  const lane_mask group = __match_any_sync(mask, route);
  if (route >= span_classes) return malloc_other_entry(*h.self, group, size);
  void* p = malloc_small(h, group, route);
  return p != nullptr ? p : malloc_without_span_entry(*h.self, size);
}

/// Frees of everything but small objects.
WARPHEAP_SLOW_PATH void free_other(const heap_view& h, std::uint64_t offset, page_entry e) {
  const std::uint64_t address = reinterpret_cast<std::uint64_t>(h.base) + offset;
  if (offset >= h.bytes) return report(h, error_kind::foreign_pointer, address);
  const auto page = static_cast<page_index>(offset >> page_shift);
  if (e.cls() == no_class) return free_host_object(h, offset);
  if (e.cls() == tiny_blocks) return free_tiny(h, offset);
  if (e.cls() == stock_class) return report(h, error_kind::not_allocated, address);
  if (e.cls() == large_class && offset % page_size == 0) return free_large(h, page, e, address);
  report(h, error_kind::interior_pointer, address);
}
WARPHEAP_SLOW_ENTRY(free_other);

__device__ __forceinline__ void free(const heap_view& h, lane_mask mask, void* p) {
  // One comparison for null, the zero-size object, and addresses below and above the heap.
  const std::uint64_t offset =
      reinterpret_cast<std::uint64_t>(p) - reinterpret_cast<std::uint64_t>(h.base);
  page_entry e{};
  slot_place place{0, 0};
  if (offset < h.bytes) {
    const auto page = static_cast<page_index>(offset >> page_shift);
    e.bits = atomic::load<order::relaxed>(h.entry + page);
    if (e.cls() != no_class && e.cls() < tiny_blocks)
      place = place_of(page, e, static_cast<std::uint32_t>(offset & (page_size - 1)));
  }
  const lane_mask group = __match_any_sync(mask, place.at);
  if (place.at != 0)
    free_small(h, group, place);
  else if (p != nullptr && offset != 0)
    free_other_entry(*h.self, offset, e);
}

}  // namespace core

/// A heap as kernels see it: a handle, trivially copyable, passed to kernels by value. Valid as
/// long as the `heap` that it came from. All members may be called by any number of lanes, warps,
/// blocks and kernels at once.
struct device_heap {
  heap_view view;

  device_heap() = default;
  /// Implicit, so that `device_heap dev = heap.device();` reads as it should.
  WARPHEAP_HD device_heap(const heap_view& v) : view(v) {}

  /// `size` bytes, aligned to the largest power of two that divides the size class (at least 8
  /// from 8 bytes on; page-aligned above 32 KiB; 1..15 bytes as Go aligns tiny objects). nullptr
  /// when there is no memory, within a bound on the time. 0 bytes: one address for all, which free
  /// ignores. The contents are undefined.
  __device__ void* malloc(std::size_t size) const {
    return core::malloc(view, __activemask(), size);
  }

  /// Frees an object of this heap, from a kernel or from the host, and reports everything else:
  /// foreign and interior pointers, objects that are free already (as long as their slot has no
  /// new owner) are counted, kept with their address for `heap::errors()`, and change nothing.
  __device__ void free(void* p) const { core::free(view, __activemask(), p); }

  /// Bytes that may be used at p: the whole slot. 0 for what is no live-looking device object.
  __device__ std::size_t usable_size(const void* p) const {
    const std::uint64_t offset =
        reinterpret_cast<std::uint64_t>(p) - reinterpret_cast<std::uint64_t>(view.base);
    if (offset >= view.bytes) return 0;
    const page_entry e{atomic::load<order::relaxed>(view.entry + (offset >> page_shift))};
    if (e.cls() == tiny_blocks) return tiny_block_bytes - offset % tiny_block_bytes;
    if (e.cls() == large_class) return std::size_t{e.value()} * page_size;
    return e.cls() != no_class && e.cls() < tiny_blocks ? class_to_size(e.cls()) : 0;
  }

  /// malloc and construction of a T; nullptr when there is no memory.
  template <class T, class... Args>
  __device__ T* make(Args&&... args) const {
    static_assert(
        sizeof(T) > max_small_size
            ? alignof(T) <= page_size
            : sizeof(T) < tiny_size || alignof(T) <= class_to_align(size_to_class(sizeof(T))),
        "malloc(sizeof(T)) is not aligned enough for T");
    void* p = malloc(sizeof(T));
    return p == nullptr ? nullptr : new (p) T(std::forward<Args>(args)...);
  }

  /// Destruction and free of what `make` made; ignores nullptr.
  template <class T>
  __device__ void destroy(T* p) const {
    if (p != nullptr) p->~T();
    free(p);
  }
};

static_assert(std::is_trivially_copyable_v<device_heap>);

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
