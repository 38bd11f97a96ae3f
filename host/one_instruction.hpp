#pragma once

// Uses of atomic words on the fast paths of malloc and free for which compilers need more
// instructions than the processor: they load each word into a register first.

#include <atomic>
#include <cstdint>
#include <type_traits>

#if defined(__has_feature)
#define WARPHEAP_HAS_FEATURE(x) __has_feature(x)
#else
#define WARPHEAP_HAS_FEATURE(x) 0
#endif
// The thread sanitizer does not see into them.
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
  // An aligned store of 8 bytes is one store, also for those who read meanwhile, and each store of
  // this processor releases.
  asm("incq %0" : "+m"(word) : : "cc");
#else
  word.store(word.load(std::memory_order_relaxed) + 1, std::memory_order_release);
#endif
}

/// What a relaxed load of the word finds is `value`.
template <class Word>
inline bool is_equal(const Word& word, std::uintptr_t value) {
#if WARPHEAP_ONE_INSTRUCTION
  if constexpr (std::is_same_v<Word, std::atomic<std::uintptr_t>>) {
    bool equal;
    asm("cmpq %2, %1" : "=@cce"(equal) : "m"(word), "r"(value));
    return equal;
  }
#endif
  return word.load(std::memory_order_relaxed) == value;
}

/// Of two arrays of n words each, one behind the other: sets a bit of the second, if it is clear in
/// both; else returns false. Loads and a store, all relaxed, of words that no other thread writes.
/// `bit` counts from bit 0 of the first word.
template <unsigned n, class Word>
inline bool set_if_clear(Word* words, std::uint64_t bit) {
  const std::uint64_t w = bit / 64;
#if WARPHEAP_ONE_INSTRUCTION
  if constexpr (std::is_same_v<Word, std::atomic<std::uint64_t>>) {
    // As below, with what compilers do without: addresses as sums of their parts, and bit numbers
    // of which the processor takes six bits.
    asm goto(
        "movq %c[second](%[words],%[w],8), %%rax\n\t"
        "movq (%[words],%[w],8), %%r11\n\t"
        "orq %%rax, %%r11\n\t"
        "btq %[bit], %%r11\n\t"
        "jc %l[is_set]\n\t"
        "btsq %[bit], %%rax\n\t"
        "movq %%rax, %c[second](%[words],%[w],8)"
        :
        : [words] "r"(words), [w] "r"(w), [bit] "r"(bit), [second] "i"(n * sizeof *words)
        : "rax", "r11", "cc", "memory"
        : is_set);
    return true;
  is_set:
    return false;
  }
#endif
  const std::uint64_t old = words[n + w].load(std::memory_order_relaxed);
  const std::uint64_t other = words[w].load(std::memory_order_relaxed);
  if (((old | other) >> (bit % 64) & 1) != 0) return false;
  words[n + w].store(old | std::uint64_t{1} << (bit % 64), std::memory_order_relaxed);
  return true;
}

}  // namespace warpheap

#undef WARPHEAP_ONE_INSTRUCTION
