// device_malloc and device_free: calls on a bound default heap, for kernels that take no handle.
//
// Without relocatable device code a kernel cannot see a variable of another translation unit. So
// each unit that calls device_malloc has its own handle, and calls `bind` to set it.
#pragma once

#include <warpheap/backend.hpp>
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

inline namespace WARPHEAP_OBSERVE_NS {

/// Makes `view` (from `heap::device()`) the heap of device_malloc and device_free in this
/// translation unit. To be called on the host, while no kernel of this unit runs. A
/// default-constructed view unbinds: device_malloc then returns nullptr. On CUDA, each device has
/// its own bound heap: a view is bound on its heap's device, and unbound on the current one.
[[maybe_unused]] static void bind(const heap_view& view) {
#ifdef __CUDACC__
  using launch_detail::check_launch;
  int device = current_cuda_device();
  if (view.self != nullptr) {
    cudaPointerAttributes of{};
    check_launch("cudaPointerGetAttributes", cudaPointerGetAttributes(&of, view.self));
    device = of.device;
  }
  const cuda_device_scope here(device);
  check_launch("cudaMemcpyToSymbolAsync",
               cudaMemcpyToSymbolAsync(core::bound_heap, &view, sizeof view, 0,
                                       cudaMemcpyHostToDevice, cudaStreamLegacy));
  // Kernels on non-blocking streams would not wait for the copy.
  check_launch("cudaStreamSynchronize", cudaStreamSynchronize(cudaStreamLegacy));
#else
  core::bound_heap = view;
#endif
}

/// device_heap::malloc on the bound heap; nullptr when none is bound.
[[maybe_unused]] static __device__ __forceinline__ void* device_malloc(std::size_t size) {
  return core::bound_heap.base == nullptr ? nullptr
                                          : WARPHEAP_CALLS::malloc(core::bound_heap, size);
}

/// device_heap::malloc<Size, Align> on the bound heap; nullptr when none is bound.
template <std::size_t Size, std::size_t Align = 1>
__device__ __forceinline__ void* device_malloc() {
  return core::bound_heap.base == nullptr
             ? nullptr
             : WARPHEAP_CALLS::template malloc_fixed<Size, Align>(core::bound_heap);
}

/// The members of device_heap of these names, on the bound heap; nullptr or 0 when none is bound.
[[maybe_unused]] static __device__ __forceinline__ unsigned device_malloc_n(std::size_t size,
                                                                            unsigned n,
                                                                            void** out) {
  return core::bound_heap.base == nullptr
             ? 0
             : WARPHEAP_CALLS::malloc_n(core::bound_heap, size, n, out);
}
[[maybe_unused]] static __device__ __forceinline__ void* device_calloc(std::size_t n,
                                                                       std::size_t size) {
  return core::bound_heap.base == nullptr ? nullptr
                                          : WARPHEAP_CALLS::calloc(core::bound_heap, n, size);
}
[[maybe_unused]] static __device__ __forceinline__ void* device_realloc(void* p, std::size_t size) {
  return core::bound_heap.base == nullptr ? nullptr
                                          : WARPHEAP_CALLS::realloc(core::bound_heap, p, size);
}
[[maybe_unused]] static __device__ __forceinline__ void* device_aligned_alloc(std::size_t align,
                                                                              std::size_t size) {
  return core::bound_heap.base == nullptr
             ? nullptr
             : WARPHEAP_CALLS::aligned_alloc(core::bound_heap, align, size);
}
[[maybe_unused]] static __device__ __forceinline__ std::size_t device_usable_size(const void* p) {
  return core::bound_heap.base == nullptr ? 0 : core::live_bytes_entry(*core::bound_heap.self, p);
}

/// device_heap::free on the bound heap; does nothing when none is bound.
[[maybe_unused]] static __device__ __forceinline__ void device_free(void* p) {
  if (core::bound_heap.base != nullptr) WARPHEAP_CALLS::free(core::bound_heap, p);
}

}  // namespace WARPHEAP_OBSERVE_NS
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
