// Atomic operations on plain words; memory order and scope are named at each use.
//
// The heap's words are in arrays that kernels and bulk operations address by index, hence free
// functions on pointers rather than std::atomic members. On CUDA they are PTX's atom/ld/st with
// .relaxed/.acquire/.release and .gpu/.sys, and words must be in global memory (device, managed, or
// mapped host memory). On the SIMT executor they are the compiler's __atomic built-ins, each
// preceded by a switch point, where an explorer may let another lane run. Orders are template
// arguments so that they reach the compiler as constants.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <warpheap/memory_order.hpp>
#include <warpheap/platform.hpp>

#ifdef __CUDACC__
#include <warpheap/ptx_atomics.hpp>
#endif

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace atomic {

namespace detail {
#ifdef __CUDA_ARCH__
/// A word of T as PTX's type, and back.
template <class T>
using raw = std::conditional_t<sizeof(T) == 8, unsigned long long, unsigned>;
template <class To, class From>
__device__ __forceinline__ To as(From from) {
  static_assert(sizeof(To) == sizeof(From) && (sizeof(To) == 4 || sizeof(To) == 8));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
#endif
}  // namespace detail

#ifdef __CUDACC__
#define WARPHEAP_ATOMIC_FN __host__ __device__ __forceinline__
#else
#define WARPHEAP_ATOMIC_FN inline __attribute__((always_inline))
#endif

// `ptx`: used in CUDA kernels, with p as a pointer to the raw word. Host code under nvcc has the
// built-ins too, without the switch point.
#ifdef __CUDA_ARCH__
#define WARPHEAP_ATOMIC_OP(ptx, builtin)           \
  using raw = detail::raw<std::remove_const_t<T>>; \
  return ptx
#define WARPHEAP_RAW(p) reinterpret_cast<raw*>(p)
#elif defined(__CUDACC__)
#define WARPHEAP_ATOMIC_OP(ptx, builtin) return builtin
#else
#define WARPHEAP_ATOMIC_OP(ptx, builtin) \
  ::warpheap::simt::switch_point();      \
  return builtin
#endif

template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN T load(const T* p) {
  static_assert(O == order::relaxed || O == order::acquire);
  WARPHEAP_ATOMIC_OP(detail::as<T>(ptx::load<O, S>(reinterpret_cast<const raw*>(p))),
                     __atomic_load_n(p, detail::to_builtin(O)));
}

template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN void store(T* p, T value) {
  static_assert(O == order::relaxed || O == order::release);
  WARPHEAP_ATOMIC_OP((ptx::store<O, S>(WARPHEAP_RAW(p), detail::as<raw>(value))),
                     __atomic_store_n(p, value, detail::to_builtin(O)));
}

/// Each fetch_ operation and exchange returns the value that it replaced.
template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN T fetch_and(T* p, T mask) {
  WARPHEAP_ATOMIC_OP(detail::as<T>(ptx::fetch_and<O, S>(WARPHEAP_RAW(p), detail::as<raw>(mask))),
                     __atomic_fetch_and(p, mask, detail::to_builtin(O)));
}

template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN T fetch_or(T* p, T bits) {
  WARPHEAP_ATOMIC_OP(detail::as<T>(ptx::fetch_or<O, S>(WARPHEAP_RAW(p), detail::as<raw>(bits))),
                     __atomic_fetch_or(p, bits, detail::to_builtin(O)));
}

template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN T fetch_add(T* p, T amount) {
  WARPHEAP_ATOMIC_OP(detail::as<T>(ptx::fetch_add<O, S>(WARPHEAP_RAW(p), detail::as<raw>(amount))),
                     __atomic_fetch_add(p, amount, detail::to_builtin(O)));
}

template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN T exchange(T* p, T value) {
  WARPHEAP_ATOMIC_OP(detail::as<T>(ptx::exchange<O, S>(WARPHEAP_RAW(p), detail::as<raw>(value))),
                     __atomic_exchange_n(p, value, detail::to_builtin(O)));
}

/// One strong compare-and-swap. `expected` receives the value found; failure has relaxed order.
template <order O, scope S = scope::device, class T>
WARPHEAP_ATOMIC_FN bool compare_exchange(T* p, T& expected, T desired) {
  [[maybe_unused]] const T wanted = expected;
  WARPHEAP_ATOMIC_OP((expected = detail::as<T>(ptx::compare_exchange<O, S>(
                          WARPHEAP_RAW(p), detail::as<raw>(expected), detail::as<raw>(desired))),
                      expected == wanted),
                     __atomic_compare_exchange_n(p, &expected, desired, false,
                                                 detail::to_builtin(O), __ATOMIC_RELAXED));
}

/// A sequentially consistent fence for the whole system: of two threads that each write a word,
/// pass a fence and read the other's word, at least one sees the other's write.
WARPHEAP_ATOMIC_FN void fence() {
#if defined(__CUDACC__) && !defined(__CUDA_ARCH__)
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#else
  __threadfence_system();
#endif
}

#undef WARPHEAP_ATOMIC_OP
#undef WARPHEAP_ATOMIC_FN
#undef WARPHEAP_RAW

}  // namespace atomic
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
