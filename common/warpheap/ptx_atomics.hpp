// The atomic operations of atomic.hpp as PTX: one instruction each, on global memory.
//
// libcu++'s atomic_ref emits the same instructions, for generic addresses. For each
// read-modify-write the compiler then keeps a second path for words in shared or local memory: 28
// more instructions and 6 more registers for a 64-bit fetch_and on sm_90.
#pragma once

#include <warpheap/memory_order.hpp>

#ifdef __CUDACC__

namespace warpheap {
inline namespace on_cuda {
namespace ptx {

// The qualifiers of each order and scope, in PTX's spelling.
#define WARPHEAP_PTX_EACH(instruction, ...)                                     \
  if constexpr (S == scope::device) {                                           \
    if constexpr (O == order::relaxed) instruction("relaxed.gpu", __VA_ARGS__); \
    if constexpr (O == order::acquire) instruction("acquire.gpu", __VA_ARGS__); \
    if constexpr (O == order::release) instruction("release.gpu", __VA_ARGS__); \
    if constexpr (O == order::acq_rel) instruction("acq_rel.gpu", __VA_ARGS__); \
  } else {                                                                      \
    if constexpr (O == order::relaxed) instruction("relaxed.sys", __VA_ARGS__); \
    if constexpr (O == order::acquire) instruction("acquire.sys", __VA_ARGS__); \
    if constexpr (O == order::release) instruction("release.sys", __VA_ARGS__); \
    if constexpr (O == order::acq_rel) instruction("acq_rel.sys", __VA_ARGS__); \
  }

#define WARPHEAP_PTX_RMW(q, op, r)                            \
  asm volatile("atom." q ".global." op " %0, [%1], %2;"       \
               : "=" r(old)                                   \
               : "l"(__cvta_generic_to_global(p)), r(operand) \
               : "memory")
#define WARPHEAP_PTX_CAS(q, op, r)                                         \
  asm volatile("atom." q ".global.cas." op " %0, [%1], %2, %3;"            \
               : "=" r(old)                                                \
               : "l"(__cvta_generic_to_global(p)), r(expected), r(desired) \
               : "memory")
#define WARPHEAP_PTX_LOAD(q, op, r)               \
  asm volatile("ld." q ".global." op " %0, [%1];" \
               : "=" r(value)                     \
               : "l"(__cvta_generic_to_global(p)) \
               : "memory")
#define WARPHEAP_PTX_STORE(q, op, r)                        \
  asm volatile("st." q ".global." op " [%0], %1;"           \
               :                                            \
               : "l"(__cvta_generic_to_global(p)), r(value) \
               : "memory")

#define WARPHEAP_PTX_DEFINE_RMW(name, word, op, r)              \
  template <order O, scope S>                                   \
  __device__ __forceinline__ word name(word* p, word operand) { \
    word old;                                                   \
    WARPHEAP_PTX_EACH(WARPHEAP_PTX_RMW, op, r)                  \
    return old;                                                 \
  }
#define WARPHEAP_PTX_DEFINE(word, bits, r)                                                 \
  WARPHEAP_PTX_DEFINE_RMW(fetch_and, word, "and.b" bits, r)                                \
  WARPHEAP_PTX_DEFINE_RMW(fetch_or, word, "or.b" bits, r)                                  \
  WARPHEAP_PTX_DEFINE_RMW(fetch_add, word, "add.u" bits, r)                                \
  WARPHEAP_PTX_DEFINE_RMW(exchange, word, "exch.b" bits, r)                                \
  template <order O, scope S>                                                              \
  __device__ __forceinline__ word compare_exchange(word* p, word expected, word desired) { \
    word old;                                                                              \
    WARPHEAP_PTX_EACH(WARPHEAP_PTX_CAS, "b" bits, r)                                       \
    return old;                                                                            \
  }                                                                                        \
  template <order O, scope S>                                                              \
  __device__ __forceinline__ word load(const word* p) {                                    \
    word value;                                                                            \
    WARPHEAP_PTX_EACH(WARPHEAP_PTX_LOAD, "u" bits, r)                                      \
    return value;                                                                          \
  }                                                                                        \
  template <order O, scope S>                                                              \
  __device__ __forceinline__ void store(word* p, word value) {                             \
    WARPHEAP_PTX_EACH(WARPHEAP_PTX_STORE, "u" bits, r)                                     \
  }

WARPHEAP_PTX_DEFINE(unsigned, "32", "r")
WARPHEAP_PTX_DEFINE(unsigned long long, "64", "l")

#undef WARPHEAP_PTX_DEFINE
#undef WARPHEAP_PTX_DEFINE_RMW
#undef WARPHEAP_PTX_STORE
#undef WARPHEAP_PTX_LOAD
#undef WARPHEAP_PTX_CAS
#undef WARPHEAP_PTX_RMW
#undef WARPHEAP_PTX_EACH

}  // namespace ptx
}  // namespace on_cuda
}  // namespace warpheap

#endif
