// CUDA's atomic functions for a host compiler. Included by simt_words.hpp.
//
// Relaxed, as CUDA's are: neither the compiler nor ThreadSanitizer may assume an ordering that the
// GPU would not give. The _block and _system forms are the same operation, as the executor has one
// scope.
#pragma once

#include <warpheap/simt_words.hpp>

#define WARPHEAP_WORD inline __attribute__((always_inline))

namespace warpheap::simt::detail {

/// Read-modify-write by compare-and-swap, for operations without a processor instruction.
template <class T, class Change>
WARPHEAP_WORD T update(T* address, Change change) {
  using bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
  using aliased [[gnu::may_alias]] = bits;
  auto* word = reinterpret_cast<aliased*>(address);
  switch_point();
  bits found = __atomic_load_n(word, __ATOMIC_RELAXED);
  for (;;) {
    const T old = from_bits<T>(found);
    const bits desired = static_cast<bits>(to_bits<T>(change(old)));
    if (__atomic_compare_exchange_n(word, &found, desired, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED))
      return old;
  }
}

}  // namespace warpheap::simt::detail

namespace warpheap::simt::words {

#define WARPHEAP_ATOMIC_FORM(name, type, body) \
  WARPHEAP_WORD type name(type* address, type value) { body; }
#define WARPHEAP_ATOMIC(name, type, body)        \
  WARPHEAP_ATOMIC_FORM(name, type, body)         \
  WARPHEAP_ATOMIC_FORM(name##_block, type, body) \
  WARPHEAP_ATOMIC_FORM(name##_system, type, body)
#define WARPHEAP_ATOMIC_NATIVE(name, type, builtin) \
  WARPHEAP_ATOMIC(name, type, switch_point(); return builtin(address, value, __ATOMIC_RELAXED))
#define WARPHEAP_ATOMIC_UPDATE(name, type, expression)                                   \
  WARPHEAP_ATOMIC(name, type, return detail::update(address, [value](type old) -> type { \
                    return (expression);                                                 \
                  }))

WARPHEAP_ATOMIC_NATIVE(atomicAdd, int, __atomic_fetch_add)
WARPHEAP_ATOMIC_NATIVE(atomicAdd, unsigned, __atomic_fetch_add)
WARPHEAP_ATOMIC_NATIVE(atomicAdd, unsigned long long, __atomic_fetch_add)
WARPHEAP_ATOMIC_UPDATE(atomicAdd, float, old + value)
WARPHEAP_ATOMIC_UPDATE(atomicAdd, double, old + value)
WARPHEAP_ATOMIC_NATIVE(atomicSub, int, __atomic_fetch_sub)
WARPHEAP_ATOMIC_NATIVE(atomicSub, unsigned, __atomic_fetch_sub)
WARPHEAP_ATOMIC_NATIVE(atomicExch, int, __atomic_exchange_n)
WARPHEAP_ATOMIC_NATIVE(atomicExch, unsigned, __atomic_exchange_n)
WARPHEAP_ATOMIC_NATIVE(atomicExch, unsigned long long, __atomic_exchange_n)
WARPHEAP_ATOMIC_UPDATE(atomicExch, float, (static_cast<void>(old), value))

#define WARPHEAP_ATOMIC_INTEGER(type)                         \
  WARPHEAP_ATOMIC_NATIVE(atomicAnd, type, __atomic_fetch_and) \
  WARPHEAP_ATOMIC_NATIVE(atomicOr, type, __atomic_fetch_or)   \
  WARPHEAP_ATOMIC_NATIVE(atomicXor, type, __atomic_fetch_xor)
WARPHEAP_ATOMIC_INTEGER(int)
WARPHEAP_ATOMIC_INTEGER(unsigned)
WARPHEAP_ATOMIC_INTEGER(unsigned long long)
#undef WARPHEAP_ATOMIC_INTEGER

#define WARPHEAP_ATOMIC_ORDERED(type)                                \
  WARPHEAP_ATOMIC_UPDATE(atomicMin, type, value < old ? value : old) \
  WARPHEAP_ATOMIC_UPDATE(atomicMax, type, old < value ? value : old)
WARPHEAP_ATOMIC_ORDERED(int)
WARPHEAP_ATOMIC_ORDERED(unsigned)
WARPHEAP_ATOMIC_ORDERED(long long)
WARPHEAP_ATOMIC_ORDERED(unsigned long long)
#undef WARPHEAP_ATOMIC_ORDERED

WARPHEAP_ATOMIC_UPDATE(atomicInc, unsigned, old >= value ? 0u : old + 1u)
WARPHEAP_ATOMIC_UPDATE(atomicDec, unsigned, old == 0u || old > value ? value : old - 1u)

#define WARPHEAP_ATOMIC_CAS_FORM(name, type)                                       \
  WARPHEAP_WORD type name(type* address, type compare, type value) {               \
    switch_point();                                                                \
    __atomic_compare_exchange_n(address, &compare, value, false, __ATOMIC_RELAXED, \
                                __ATOMIC_RELAXED);                                 \
    return compare;                                                                \
  }
#define WARPHEAP_ATOMIC_CAS(type)                 \
  WARPHEAP_ATOMIC_CAS_FORM(atomicCAS, type)       \
  WARPHEAP_ATOMIC_CAS_FORM(atomicCAS_block, type) \
  WARPHEAP_ATOMIC_CAS_FORM(atomicCAS_system, type)
WARPHEAP_ATOMIC_CAS(int)
WARPHEAP_ATOMIC_CAS(unsigned)
WARPHEAP_ATOMIC_CAS(unsigned short)
WARPHEAP_ATOMIC_CAS(unsigned long long)

#undef WARPHEAP_ATOMIC_CAS
#undef WARPHEAP_ATOMIC_CAS_FORM
#undef WARPHEAP_ATOMIC_UPDATE
#undef WARPHEAP_ATOMIC_NATIVE
#undef WARPHEAP_ATOMIC
#undef WARPHEAP_ATOMIC_FORM

}  // namespace warpheap::simt::words

#undef WARPHEAP_WORD
