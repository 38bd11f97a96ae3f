// Atomic operations on plain words, with the memory order and the scope named at each use.
//
// The words of the heap lie in arrays that kernels and bulk operations address by index, hence free
// functions on pointers and not std::atomic members. On CUDA they are libcu++'s atomic_ref, which
// compiles to atom/ld/st with .relaxed/.acquire/.release and .gpu/.sys; on the SIMT executor they
// are the compiler's __atomic built-ins with a switch point in front, where an explorer may let
// another lane run. Orders are template arguments so that they reach the compiler as constants.
#pragma once

#include <cstdint>
#include <warpheap/platform.hpp>

#ifdef __CUDACC__
#include <cuda/atomic>
#endif

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {

enum class order { relaxed, acquire, release, acq_rel };

/// device: between the threads of one GPU. system: between the GPU and the host.
enum class scope { device, system };

namespace atomic {

#ifdef __CUDACC__

namespace detail {
constexpr __host__ __device__ cuda::memory_order to_cuda(order o) {
  return o == order::relaxed   ? cuda::memory_order_relaxed
         : o == order::acquire ? cuda::memory_order_acquire
         : o == order::release ? cuda::memory_order_release
                               : cuda::memory_order_acq_rel;
}
constexpr cuda::thread_scope to_cuda(scope s) {
  return s == scope::device ? cuda::thread_scope_device : cuda::thread_scope_system;
}
template <scope S, class T>
using ref = cuda::atomic_ref<T, to_cuda(S)>;
}  // namespace detail

#define WARPHEAP_ATOMIC_OP(expression_on_cuda, expression_on_simt) return expression_on_cuda
#define WARPHEAP_ATOMIC_FN __host__ __device__ __forceinline__

#else

namespace detail {
constexpr int to_builtin(order o) {
  return o == order::relaxed   ? __ATOMIC_RELAXED
         : o == order::acquire ? __ATOMIC_ACQUIRE
         : o == order::release ? __ATOMIC_RELEASE
                               : __ATOMIC_ACQ_REL;
}
}  // namespace detail

#define WARPHEAP_ATOMIC_OP(expression_on_cuda, expression_on_simt) \
  ::warpheap::simt::switch_point();                                \
  return expression_on_simt
#define WARPHEAP_ATOMIC_FN inline __attribute__((always_inline))

#endif

template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN T load(const T* p) {
  static_assert(O == order::relaxed || O == order::acquire);
  WARPHEAP_ATOMIC_OP((detail::ref<S, T>(*const_cast<T*>(p)).load(detail::to_cuda(O))),
                     __atomic_load_n(p, detail::to_builtin(O)));
}

template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN void store(T* p, T value) {
  static_assert(O == order::relaxed || O == order::release);
  WARPHEAP_ATOMIC_OP((detail::ref<S, T>(*p).store(value, detail::to_cuda(O))),
                     __atomic_store_n(p, value, detail::to_builtin(O)));
}

/// Each fetch_ operation and exchange returns the value that it replaced.
template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN T fetch_and(T* p, T mask) {
  WARPHEAP_ATOMIC_OP((detail::ref<S, T>(*p).fetch_and(mask, detail::to_cuda(O))),
                     __atomic_fetch_and(p, mask, detail::to_builtin(O)));
}

template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN T fetch_or(T* p, T bits) {
  WARPHEAP_ATOMIC_OP((detail::ref<S, T>(*p).fetch_or(bits, detail::to_cuda(O))),
                     __atomic_fetch_or(p, bits, detail::to_builtin(O)));
}

template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN T fetch_add(T* p, T amount) {
  WARPHEAP_ATOMIC_OP((detail::ref<S, T>(*p).fetch_add(amount, detail::to_cuda(O))),
                     __atomic_fetch_add(p, amount, detail::to_builtin(O)));
}

template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN T exchange(T* p, T value) {
  WARPHEAP_ATOMIC_OP((detail::ref<S, T>(*p).exchange(value, detail::to_cuda(O))),
                     __atomic_exchange_n(p, value, detail::to_builtin(O)));
}

/// One strong compare-and-swap. `expected` receives the value found; a failure has relaxed order.
template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN bool compare_exchange(T* p, T& expected, T desired) {
  WARPHEAP_ATOMIC_OP((detail::ref<S, T>(*p).compare_exchange_strong(
                         expected, desired, detail::to_cuda(O), cuda::memory_order_relaxed)),
                     __atomic_compare_exchange_n(p, &expected, desired, false,
                                                 detail::to_builtin(O), __ATOMIC_RELAXED));
}

#undef WARPHEAP_ATOMIC_OP
#undef WARPHEAP_ATOMIC_FN

}  // namespace atomic
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
