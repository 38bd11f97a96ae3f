// malloc and free in kernels.
//
//   __global__ void kernel(warpheap::device_heap heap) {
//     int* p = static_cast<int*>(heap.malloc(100));
//     ...
//     heap.free(p);
//   }
//
// Start here to read the device side; device/README.md follows a malloc through it. Any lanes of a
// warp may make any call, converged or not, in divergent branches and loops. Lanes that call
// together share one atomic operation.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>
#include <warpheap/construct.hpp>
#include <warpheap/heap_view.hpp>

// In a file that defines WARPHEAP_OBSERVE as 1 before its first include of warpheap, or is added to
// its target by warpheap_add_kernels(... OBSERVE ...), the calls of kernels are counted, timed and
// logged. Observed and other kernels may use the same heap and be linked together: all that depends
// on the choice is in an inline namespace of its own. So a function of an observed file that takes
// a device_heap cannot be called from an unobserved one, or vice versa; let it take a heap_view.
#ifndef WARPHEAP_OBSERVE
#define WARPHEAP_OBSERVE 0
#endif
#if WARPHEAP_OBSERVE
#include <warpheap/detail/observe.cuh>
#define WARPHEAP_OBSERVE_NS observed
#define WARPHEAP_CALLS core::observed_calls
#else
#include <warpheap/detail/calls.cuh>
#define WARPHEAP_OBSERVE_NS unobserved
#define WARPHEAP_CALLS core::plain_calls
#endif

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
inline namespace WARPHEAP_OBSERVE_NS {
/// A heap as kernels see it: a trivially copyable handle, to be passed to kernels by value. It is
/// valid as long as the `heap` that it came from. Thread-safe: any number of lanes, warps, blocks
/// and kernels may call its members at once.
struct device_heap {
  heap_view view;

  device_heap() = default;
  /// Implicit, for `device_heap dev = heap.device();`.
  WARPHEAP_HD device_heap(const heap_view& v) : view(v) {}

  /// `size` bytes with indeterminate contents; at most 128 GiB less a page. nullptr when there is
  /// no memory, within a bounded time. 0 bytes: one address for all, which free ignores.
  ///
  /// Alignment: 16, with two exceptions. An object of 17..24 bytes is aligned to 8. One of 1..15
  /// bytes is aligned to the largest power of two that divides its size, as Go aligns tiny objects:
  /// 12 bytes to 4, 9 bytes to 1. An object above 32 KiB is aligned to a page (8 KiB).
  __device__ void* malloc(std::size_t size) const { return WARPHEAP_CALLS::malloc(view, size); }

  /// Frees an object of this heap, whether a kernel or the host allocated it. nullptr is ignored.
  /// Foreign pointers, pointers into objects, and second frees (as long as the slot has no new
  /// owner) are counted, and kept with their address for `heap::errors()`; they change nothing.
  __device__ void free(void* p) const { WARPHEAP_CALLS::free(view, p); }

  /// malloc(Size) for a size known at compile time, which saves one look-up and one exchange
  /// between lanes. The object is aligned to Align, a power of two up to a page, and at least as
  /// malloc aligns it.
  template <std::size_t Size, std::size_t Align = 1>
  __device__ void* malloc() const {
    return WARPHEAP_CALLS::template malloc_fixed<Size, Align>(view);
  }

  /// Allocates n objects of `size` bytes for the calling lane, or as many as there is memory for,
  /// and writes their addresses to out[0], out[1], ... Returns their number. The requests of lanes
  /// that call together are added up, and one atomic operation claims up to 64 small objects. Each
  /// object is freed on its own.
  __device__ unsigned malloc_n(std::size_t size, unsigned n, void** out) const {
    return WARPHEAP_CALLS::malloc_n(view, size, n, out);
  }

  /// Zeroed memory for n objects of `size` bytes, as C's calloc. nullptr also when n * size does
  /// not fit in a size_t.
  __device__ void* calloc(std::size_t n, std::size_t size) const {
    return WARPHEAP_CALLS::calloc(view, n, size);
  }

  /// Resizes the object at p to at least `size` bytes, as C's realloc, moving it if need be.
  /// nullptr when there is no memory; p is then unchanged. realloc(nullptr, n) is malloc(n).
  /// realloc(p, 0) frees p and returns what malloc(0) returns. Only for objects made by kernels:
  /// any other p (an object of the host, an address inside an object, a freed object) is reported
  /// and left alone, and the result is nullptr. Large objects grow in place if the pages after them
  /// are free.
  __device__ void* realloc(void* p, std::size_t size) const {
    return WARPHEAP_CALLS::realloc(view, p, size);
  }

  /// `size` bytes at a multiple of `align`; nullptr also if align is not a power of two.
  __device__ void* aligned_alloc(std::size_t align, std::size_t size) const {
    return WARPHEAP_CALLS::aligned_alloc(view, align, size);
  }

  /// Bytes that may be used at p: the whole slot; 0 if no live object of a kernel starts there. The
  /// heap does not keep the sizes of objects below 16 bytes, which lie side by side: the result for
  /// one of them is safe to use and at least 1, but may be less than was asked for.
  __device__ std::size_t usable_size(const void* p) const {
    return core::live_bytes_entry(*view.self, p);
  }

  /// Marks the object of a kernel at p, so that it survives the next heap::sweep_device(). True for
  /// one call only, the one that set the mark: its lane continues with what the object points to.
  /// False also before heap::begin_device_marks(), and if no live object of a kernel starts at p;
  /// the sweep then reports p as dangling.
  __device__ bool mark(const void* p) const { return core::mark_object_entry(*view.self, p); }

  /// Allocates a T, aligned as T needs, and constructs it; nullptr when there is no memory.
  template <class T, class... Args>
  __device__ T* make(Args&&... args) const {
    static_assert(alignof(T) <= page_size, "use aligned_alloc for alignments above a page");
    void* p = malloc<sizeof(T), alignof(T)>();
    return p == nullptr ? nullptr : construct<T>(p, std::forward<Args>(args)...);
  }

  /// Destroys and frees an object from `make`; nullptr is ignored.
  template <class T>
  __device__ void destroy(T* p) const {
    if (p != nullptr) p->~T();
    free(p);
  }
};

static_assert(std::is_trivially_copyable_v<device_heap>);

}  // namespace WARPHEAP_OBSERVE_NS
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
