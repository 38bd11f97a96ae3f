// malloc and free of objects of every size: selects the path (small, tiny or large.cuh) for a
// request or a pointer.
#pragma once

#include <warpheap/detail/large.cuh>
#include <warpheap/detail/small.cuh>
#include <warpheap/detail/tiny.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// How a request is served: the class of a small object, else one of these.
inline constexpr unsigned route_tiny = 128;  ///< plus the size: lanes of one size work together
inline constexpr unsigned route_pages = 254;
inline constexpr unsigned route_zero = 255;

WARPHEAP_HD constexpr unsigned route_of(std::size_t size) {
  if (size - tiny_size <= max_small_size - tiny_size) return size_to_class(size);
  if (size > max_small_size) return route_pages;
  return size == 0 ? route_zero : route_tiny + static_cast<unsigned>(size);
}

/// The same for slow paths.
WARPHEAP_OUTLINED unsigned route_outlined(std::size_t size) { return route_of(size); }

/// The same for an address that is a multiple of `align`. An alignment that is no power of two, or
/// above a page, takes route_pages.
WARPHEAP_HD constexpr unsigned aligned_route(std::size_t align, std::size_t size) {
  if (!bits::is_power_of_two(align) || align > page_size || size > max_small_size)
    return route_pages;
  // Size 0 counts as 1: the address of 0-byte objects is only aligned as the heap is.
  const std::size_t rounded = bits::align_up(size == 0 ? 1 : size, align);
  if (rounded > max_small_size) return route_pages;
  if (rounded < tiny_size) return route_tiny + static_cast<unsigned>(rounded);
  // Slots lie at multiples of their size in a span that starts at a page boundary.
  unsigned cls = size_to_class(rounded);
  while (class_to_size(cls) % align != 0) ++cls;
  return cls;
}

/// Class to whose counters a request of this route is charged.
WARPHEAP_HD constexpr unsigned counted_class(unsigned route) {
  if (route < span_classes) return route;
  return route == route_pages ? large_class : route == route_zero ? no_class : tiny_blocks;
}

/// malloc of everything but small objects.
WARPHEAP_SLOW_PATH void* malloc_other(const heap_view& h, lane_mask group, std::size_t size) {
  if (size == 0) return h.base;
  if (size < tiny_size) {
    void* p = malloc_tiny(h, group, static_cast<unsigned>(size));
    if (p == nullptr) report_out_of_memory(h, tiny_blocks);
    return p;
  }
  void* p = malloc_pages(h, size);
  if (p == nullptr) report_out_of_memory(h, large_class);
  return p;
}
WARPHEAP_SLOW_ENTRY(malloc_other);

/// No span of the class is available. A large slot may still be cut from pages that are too few for
/// a span; a request of at most half a page has failed.
WARPHEAP_SLOW_PATH void* malloc_without_span(const heap_view& h, std::size_t size) {
  void* p = size > page_size / 2 ? malloc_pages(h, size) : nullptr;
  if (p == nullptr) report_out_of_memory(h, size_to_class(size));
  return p;
}
WARPHEAP_SLOW_ENTRY(malloc_without_span);

/// One object for each lane of a group whose lanes share one route.
__device__ __forceinline__ void* malloc_routed(const heap_view& h, lane_mask group, unsigned route,
                                               std::size_t size) {
  if (route >= span_classes) return malloc_other_entry(*h.self, group, size);
  void* p = malloc_small(h, group, route);
  return p != nullptr ? p : malloc_without_span_entry(*h.self, size);
}

/// The same for slow paths.
WARPHEAP_OUTLINED void* malloc_outlined(const heap_view& h, lane_mask group, unsigned route,
                                        std::size_t size) {
  if (route >= span_classes) return malloc_other(h, group, size);
  void* p = malloc_small_outlined(h, group, route);
  return p != nullptr ? p : malloc_without_span(h, size);
}

/// `mask` is the result of converged(), or a set of lanes all of which call.
__device__ __forceinline__ void* malloc(const heap_view& h, lane_mask mask, std::size_t size) {
  const unsigned route = route_of(size);
  return malloc_routed(h, group_of(mask, key_of(h, route)), route, size);
}

/// With constant size and alignment: lanes of one heap are one group.
template <std::size_t Size, std::size_t Align>
__device__ __forceinline__ void* malloc_fixed(const heap_view& h, lane_mask mask) {
  static_assert(bits::is_power_of_two(Align) && Align <= page_size);
  if constexpr (Size == 0) return h.base;
  constexpr unsigned route = aligned_route(Align, Size);
  constexpr std::size_t size = route < span_classes   ? class_to_size(route)
                               : route == route_pages ? Size
                                                      : route - route_tiny;
  return malloc_routed(h, group_of(mask, key_of(h, route)), route, size);
}

/// free of everything but small objects. True when an object was freed.
WARPHEAP_SLOW_PATH bool free_other(const heap_view& h, void* p, page_entry e) {
  [[maybe_unused]] const unbroken step;
  const std::uint64_t address = reinterpret_cast<std::uint64_t>(p);
  const std::uint64_t offset = address - reinterpret_cast<std::uint64_t>(h.base);
  if (offset >= h.bytes) {
    report(h, error_kind::foreign_pointer, address);
    return false;
  }
  const auto page = static_cast<page_index>(offset >> page_shift);
  if (e.cls() == no_class) return free_host_object(h, offset);
  if (e.cls() == tiny_blocks) return free_tiny(h, offset);
  if (e.cls() == large_class && offset % page_size == 0) return free_large(h, page, e, address);
  report(h, e.cls() == stock_class ? error_kind::not_allocated : error_kind::interior_pointer,
         address);
  return false;
}
WARPHEAP_SLOW_ENTRY(free_other);

/// True when an object was freed; exact only with `Tell` (free_small).
///
/// free reads the page's entry and then changes the word or mask that the entry leads to. An object
/// pins its span, so for a correct free nothing changes between the two. A second free pins
/// nothing, and goes undetected or is misattributed:
/// - when the slot has a new owner: it is then a free of a live object;
/// - when the span is retired and another one is published in its pages between the two accesses of
///   this very call. It sets the bit that its slot would have in the old geometry: at most one slot
///   of the new span is marked free while in use, and the free by its owner is reported. The word
///   has no bit to spare for an incarnation, and checking the entry afterwards comes too late: the
///   slot may be taken by then;
/// - in a tiny block that is open again, at an offset without an object: reported when the block is
///   closed. If an object was put there meanwhile, its own free is reported instead, and its block
///   may be reused while it lives.
template <bool Tell = false>
__device__ __forceinline__ bool free(const heap_view& h, lane_mask mask, void* p) {
  // One comparison excludes null and foreign addresses; page 0, of the zero-size object, has no
  // class.
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
  const lane_mask group = group_of(mask, reinterpret_cast<std::uint64_t>(h.word + place.at));
  if (place.at != 0) return free_small<Tell>(h, group, place);
  // The pointer, not the offset: only one of them stays live up to here, which saves two registers.
  return p != nullptr && p != h.base && free_other_entry(*h.self, p, e);
}

/// The same for slow paths.
WARPHEAP_OUTLINED void free_outlined(const heap_view& h, lane_mask mask, void* p) {
  free(h, mask, p);
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
