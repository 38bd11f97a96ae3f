// A handle's calls, as kernels make them when not observed. detail/observe.cuh has the same calls
// with counters, times and events.
#pragma once

#include <warpheap/detail/mark.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

struct plain_calls {
  static __device__ __forceinline__ void* malloc(const heap_view& h, std::size_t size) {
    return core::malloc(h, converged(), size);
  }
  template <std::size_t Size, std::size_t Align>
  static __device__ __forceinline__ void* malloc_fixed(const heap_view& h) {
    return core::malloc_fixed<Size, Align>(h, converged());
  }
  static __device__ __forceinline__ unsigned malloc_n(const heap_view& h, std::size_t size,
                                                      unsigned n, void** out) {
    return malloc_n_entry(*h.self, __activemask(), size, n, out);
  }
  static __device__ __forceinline__ void* calloc(const heap_view& h, std::size_t n,
                                                 std::size_t size) {
    return core::calloc(h, __activemask(), n, size);
  }
  static __device__ __forceinline__ void* realloc(const heap_view& h, void* p, std::size_t size) {
    return realloc_entry(*h.self, __activemask(), p, size);
  }
  static __device__ __forceinline__ void* aligned_alloc(const heap_view& h, std::size_t align,
                                                        std::size_t size) {
    return aligned_alloc_entry(*h.self, __activemask(), align, size);
  }
  static __device__ __forceinline__ void free(const heap_view& h, void* p) {
    core::free(h, converged(), p);
  }
};

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
