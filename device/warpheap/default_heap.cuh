// device_malloc and device_free: the bound default heap, for kernels that take no handle.
//
// Without relocatable device code a kernel cannot see a variable of another translation unit, so
// each one that calls device_malloc has a handle of its own, set by `bind` in that same unit.
#pragma once

#include <warpheap/device_heap.cuh>
#include <warpheap/launch.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {
#ifdef __CUDACC__
[[maybe_unused]] static __constant__ heap_view bound_heap;
#else
[[maybe_unused]] static heap_view bound_heap;
#endif
}  // namespace core

/// Makes `view` (from `heap::device()`) the heap of device_malloc and device_free in this
/// translation unit. A host call; no kernel of this unit may run meanwhile. Bind a default
/// constructed view to unbind: device_malloc then answers nullptr.
[[maybe_unused]] static void bind(const heap_view& view) {
#ifdef __CUDACC__
  launch_detail::check_launch("cudaMemcpyToSymbol",
                              cudaMemcpyToSymbol(core::bound_heap, &view, sizeof view));
#else
  core::bound_heap = view;
#endif
}

/// As device_heap::malloc, on the bound heap; nullptr when none is bound.
[[maybe_unused]] static __device__ __forceinline__ void* device_malloc(std::size_t size) {
  return core::bound_heap.base == nullptr ? nullptr
                                          : core::malloc(core::bound_heap, __activemask(), size);
}

/// As device_heap::free, on the bound heap; does nothing when none is bound.
[[maybe_unused]] static __device__ __forceinline__ void device_free(void* p) {
  if (core::bound_heap.base != nullptr) core::free(core::bound_heap, __activemask(), p);
}

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
