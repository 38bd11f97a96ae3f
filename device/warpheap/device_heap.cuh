// malloc and free in kernels.
//
//   __global__ void kernel(warpheap::device_heap heap) {
//     int* p = static_cast<int*>(heap.malloc(100));
//     ...
//     heap.free(p);
//   }
//
// Start here to read the device side: `malloc` below, then detail/route.cuh and small.cuh. All
// calls may be made by any lanes of a warp, converged or not, in divergent branches and loops;
// lanes that happen to call together share one atomic operation.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>
#include <warpheap/construct.hpp>
#include <warpheap/heap_view.hpp>

// A file that defines WARPHEAP_OBSERVE as 1 before its first include of warpheap, or is added to
// its target by warpheap_add_kernels(... OBSERVE ...), has kernels whose calls are counted, timed
// and logged. They and others may use one heap, and be linked together: what depends on the choice
// stands in an inline namespace of its own. Hence a function that takes a device_heap from one kind
// of file cannot be called from the other kind; let it take a heap_view.
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
  /// ignores. The contents are undefined. The largest object has 128 GiB less a page.
  __device__ void* malloc(std::size_t size) const { return WARPHEAP_CALLS::malloc(view, size); }

  /// Frees an object of this heap, from a kernel or from the host, and reports everything else:
  /// foreign and interior pointers, objects that are free already (as long as their slot has no
  /// new owner) are counted, kept with their address for `heap::errors()`, and change nothing.
  __device__ void free(void* p) const { WARPHEAP_CALLS::free(view, p); }

  /// malloc of a size known at compile time: one look-up and one exchange between lanes less.
  template <std::size_t Size, std::size_t Align = 1>
  __device__ void* malloc() const {
    return WARPHEAP_CALLS::template malloc_fixed<Size, Align>(view);
  }

  /// Up to n objects of `size` bytes for the calling lane, their addresses written to out[0..];
  /// returns how many there was memory for. The wishes of lanes that call together are added up,
  /// and up to 64 objects cost one atomic operation. Each object is freed on its own.
  __device__ unsigned malloc_n(std::size_t size, unsigned n, void** out) const {
    return WARPHEAP_CALLS::malloc_n(view, size, n, out);
  }

  /// As C's calloc: zeroed memory for n objects of `size` bytes; nullptr also when n * size does
  /// not fit in a size_t.
  __device__ void* calloc(std::size_t n, std::size_t size) const {
    return WARPHEAP_CALLS::calloc(view, n, size);
  }

  /// As C's realloc: the object with at least `size` bytes, moved if need be; nullptr, and p stays
  /// as it is, when there is no memory. realloc(nullptr, n) is malloc(n); realloc(p, 0) frees p and
  /// answers what malloc(0) does. For objects made by kernels: anything else at p (an object of the
  /// host, an address inside an object, a freed one) is reported, answered by nullptr and left
  /// alone. Large objects grow in place where the pages behind them are free.
  __device__ void* realloc(void* p, std::size_t size) const {
    return WARPHEAP_CALLS::realloc(view, p, size);
  }

  /// `size` bytes at a multiple of `align`; nullptr unless align is a power of two.
  __device__ void* aligned_alloc(std::size_t align, std::size_t size) const {
    return WARPHEAP_CALLS::aligned_alloc(view, align, size);
  }

  /// Bytes that may be used at p: the whole slot; 0 for what is no live object of a kernel. Objects
  /// below 16 bytes lie side by side and the heap does not keep their sizes: what it answers for
  /// them is safe to use and at least 1, but may be less than was asked for.
  __device__ std::size_t usable_size(const void* p) const {
    return core::live_bytes_entry(*view.self, p);
  }

  /// Marks the object of a kernel at p, so that it outlives the next heap::sweep_device(). True for
  /// the one call, of whatever lane, that gave it its mark: who gets it goes on to what the object
  /// points to. False also for what is no live object of a kernel, which the sweep tells as
  /// dangling, and before heap::begin_device_marks().
  __device__ bool mark(const void* p) const { return core::mark_object_entry(*view.self, p); }

  /// malloc and construction of a T, aligned as T wants it; nullptr when there is no memory.
  template <class T, class... Args>
  __device__ T* make(Args&&... args) const {
    static_assert(alignof(T) <= page_size, "use aligned_alloc for alignments above a page");
    void* p = malloc<sizeof(T), alignof(T)>();
    return p == nullptr ? nullptr : construct<T>(p, std::forward<Args>(args)...);
  }

  /// Destruction and free of what `make` made; ignores nullptr.
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
