#pragma once

// Marks on the objects of one span, for a sweep on request. (Go: gcmarkBits.)

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include <warpheap/bits.hpp>

#include "host/sys_pool.hpp"

namespace warpheap {

/// One bit for each slot, or for each byte of a page of tiny objects. Belongs to the cycle that
/// begins with the sweep; marks of other cycles mean nothing. Made and dropped under a lock, set by
/// any thread.
class span_marks {
 public:
  /// nullptr when the system has no memory.
  static span_marks* make(unsigned nbits, std::uint32_t cycle) {
    const std::uint32_t words = (nbits + 63) / 64;
    void* p = sys_pool::alloc(bytes_for(words));
    return p == nullptr ? nullptr : new (p) span_marks(words, cycle);
  }
  static void drop(span_marks* m) {
    if (m != nullptr) sys_pool::free(m, bytes_for(m->words_));
  }

  std::uint32_t cycle() const { return cycle_; }
  bool get(unsigned i) const {
    return (word(i / 64).load(std::memory_order_relaxed) >> (i % 64) & 1) != 0;
  }
  /// True when it was set before. Relaxed: the sweep comes after all marks by its caller's doing.
  bool set(unsigned i) {
    const std::uint64_t bit = std::uint64_t{1} << (i % 64);
    return (word(i / 64).fetch_or(bit, std::memory_order_relaxed) & bit) != 0;
  }
  /// f(i) for each mark.
  template <class F>
  void for_each(F&& f) const {
    for (unsigned w = 0; w < words_; ++w) {
      for (std::uint64_t rest = word(w).load(std::memory_order_relaxed); rest != 0;
           rest &= rest - 1) {
        f(w * 64 + bits::lowest_bit(rest));
      }
    }
  }

 private:
  using word_type = std::atomic<std::uint64_t>;
  span_marks(std::uint32_t words, std::uint32_t cycle) : cycle_(cycle), words_(words) {
    for (std::uint32_t w = 0; w < words; ++w) new (&word(w)) word_type(0);
  }
  static std::size_t bytes_for(std::uint32_t words) {
    return sizeof(span_marks) + words * sizeof(word_type);
  }
  // The words follow the record in its block.
  word_type& word(unsigned w) { return reinterpret_cast<word_type*>(this + 1)[w]; }
  const word_type& word(unsigned w) const {
    return reinterpret_cast<const word_type*>(this + 1)[w];
  }

  std::uint32_t cycle_;
  std::uint32_t words_;
};

}  // namespace warpheap
