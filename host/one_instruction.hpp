#pragma once

// Accesses to atomic words on the fast paths of malloc and free for which compilers use more
// instructions than the processor needs: they load each word into a register first.

#include <atomic>
#include <cstdint>
#include <type_traits>

#if defined(__has_feature)
#define WARPHEAP_HAS_FEATURE(x) __has_feature(x)
#else
#define WARPHEAP_HAS_FEATURE(x) 0
#endif
// The thread sanitizer does not see into inline assembly.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__SANITIZE_THREAD__) \
    && !WARPHEAP_HAS_FEATURE(thread_sanitizer)
#define WARPHEAP_ONE_INSTRUCTION 1
#else
#define WARPHEAP_ONE_INSTRUCTION 0
#endif
#undef WARPHEAP_HAS_FEATURE

namespace warpheap {

/// Adds 1 to a word that no other thread writes: a load and a store that releases.
inline void increment_owned(std::atomic<std::uint64_t>& word) {
#if WARPHEAP_ONE_INSTRUCTION
  // An aligned store of 8 bytes is a single store for concurrent readers too, and every store of
  // this processor is a release.
  asm("incq %0" : "+m"(word) : : "cc");
#else
  word.store(word.load(std::memory_order_relaxed) + 1, std::memory_order_release);
#endif
}

/// Whether a relaxed load of an atomic pointer finds the address `value`.
template <class Pointer>
inline bool is_equal(const Pointer& pointer, std::uintptr_t value) {
  return reinterpret_cast<std::uintptr_t>(pointer.load(std::memory_order_relaxed)) == value;
}
#if WARPHEAP_ONE_INSTRUCTION
// The comparison needs `value`, so it comes after the load that found `value`; this processor keeps
// loads in order.
template <class T>
inline bool is_equal(const std::atomic<T*>& pointer, std::uintptr_t value) {
  bool equal;
  asm("cmpq %2, %1" : "=@cce"(equal) : "m"(pointer), "r"(value));
  return equal;
}
#endif

/// Sets a bit of `word`, unless it is set there or in `other`, or `word` would become `refused`:
/// then returns false and does nothing. No bit is set in both words. Relaxed loads and a relaxed
/// store of words that no other thread writes. Only the lowest six bits of `bit` count.
template <class Word>
inline bool set_if_clear(Word& word, const Word& other, std::uint64_t bit,
                         const std::uint64_t& refused) {
#if WARPHEAP_ONE_INSTRUCTION
  if constexpr (std::is_same_v<Word, std::atomic<std::uint64_t>>) {
    // One instruction tests and changes a bit. It is applied to the bits of both words, and those
    // of `other` are taken away again.
    asm goto(
        "movq %[word], %%r11\n\t"
        "xorq %[other], %%r11\n\t"
        "btsq %[bit], %%r11\n\t"
        "jc %l[is_refused]\n\t"
        "xorq %[other], %%r11\n\t"
        "cmpq %[refused], %%r11\n\t"
        "je %l[is_refused]\n\t"
        "movq %%r11, %[word]"
        :
        : [word] "m"(word), [other] "m"(other), [bit] "a"(bit), [refused] "m"(refused)
        : "r11", "cc", "memory"
        : is_refused);
    return true;
  is_refused:
    return false;
  }
#endif
  const std::uint64_t old = word.load(std::memory_order_relaxed);
  const std::uint64_t mask = std::uint64_t{1} << (bit % 64);
  if (((old | other.load(std::memory_order_relaxed)) & mask) != 0) return false;
  if ((old | mask) == refused) return false;
  word.store(old | mask, std::memory_order_relaxed);
  return true;
}

}  // namespace warpheap

#undef WARPHEAP_ONE_INSTRUCTION
