#pragma once

// The walk over the free slots of a span, in order. (Go: freeindex and allocCache of mspan.)

#include <cstdint>

#include <warpheap/bits.hpp>

#include "host/persistentalloc.hpp"

namespace warpheap {

/// Iterates over the set bits among nelems bits, held in 64-bit words. `Words` is called with a
/// word's index and returns the word: bit = 1 is a free slot, and bits past nelems are ignored.
template <class Words>
class free_cursor {
 public:
  static constexpr unsigned no_index = ~0u;

  free_cursor(unsigned nelems, Words words) : words_(words), nelems_(nelems) {
    refill_alloc_cache(0);
  }

  unsigned freeindex() const { return freeindex_; }
  std::uint64_t alloc_cache() const { return alloc_cache_; }

  /// The next free slot, from the cached word only; no_index when that is used up, or when the slot
  /// after it would need another word.
  unsigned next_free_fast() {
    if (alloc_cache_ == 0) return no_index;
    const auto skip = static_cast<unsigned>(bits::countr_zero(alloc_cache_));
    const unsigned i = freeindex_ + skip;
    const unsigned next = i + 1;
    if (i >= nelems_ || (next % 64 == 0 && next != nelems_)) return no_index;
    alloc_cache_ = alloc_cache_ >> skip >> 1;
    freeindex_ = next;
    return i;
  }

  /// The next free slot at or after freeindex, loading words as needed; nelems when there is none.
  unsigned next_free_index() {
    if (freeindex_ > nelems_) fatal("s.freeindex > s.nelems");
    unsigned at = freeindex_;
    if (at == nelems_) return at;
    while (alloc_cache_ == 0) {
      at = (at / 64 + 1) * 64;
      if (at >= nelems_) return freeindex_ = nelems_;
      refill_alloc_cache(at / 64);
    }
    const auto skip = static_cast<unsigned>(bits::countr_zero(alloc_cache_));
    const unsigned i = at + skip;
    if (i >= nelems_) return freeindex_ = nelems_;
    alloc_cache_ = alloc_cache_ >> skip >> 1;
    freeindex_ = i + 1;
    if (freeindex_ % 64 == 0 && freeindex_ != nelems_) refill_alloc_cache(freeindex_ / 64);
    return i;
  }

  /// The next free slot, by the fast path or else the slow one; nelems at the end.
  unsigned next() {
    const unsigned i = next_free_fast();
    return i != no_index ? i : next_free_index();
  }

 private:
  void refill_alloc_cache(unsigned w) { alloc_cache_ = words_(w); }

  Words words_;
  unsigned nelems_;
  unsigned freeindex_ = 0;
  std::uint64_t alloc_cache_ = 0;
};

}  // namespace warpheap
