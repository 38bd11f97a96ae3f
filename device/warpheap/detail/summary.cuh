// A bitmap over pages with two levels above it that say where set bits may be.
//
// A bit of an upper level is set when the word below it changes from zero to non-zero. It is
// cleared only by a search that found that word zero: the search clears it first, then looks at the
// word again. Why no bit is lost: let T make the last change of a lower word from zero to non-zero.
// T then ors the upper bit (release). If that bit is 0 in the end, some clearer's fetch_and
// (acquire) came after T's fetch_or on the same word. Read-modify-writes form one chain, so the
// clearer acquires what T released, sees the lower word non-zero when it looks again, and sets the
// bit again. Hence release on every set, acquire on every clear, and never a plain store. Surplus
// bits are legal.
#pragma once

#include <warpheap/atomic.hpp>
#include <warpheap/detail/warp.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

class summary {
 public:
  __device__ summary(std::uint64_t* bits, page_index pages) : level0_(bits), pages_(pages) {}

  /// Sets the bit of page p. Release: a thread that clears it sees what the caller did before.
  __device__ void set(page_index p) const { set_in(level0_, pages_, p); }

  /// Clears the bit of page p. The caller must then look again at what the bit stands for.
  __device__ void clear(page_index p) const { clear_in(level0_, p); }

  /// Tells the upper levels that word w of level 0 has become non-zero.
  __device__ void raise(std::uint32_t w) const { raise_in(level0_, pages_, w); }

  /// The lowest set bit at or after `from`; 0 when there is none (bit 0 is never set).
  __device__ page_index next(page_index from) const { return next_in(level0_, pages_, from); }

  /// The highest word of level 0 below w that may be non-zero; 0 also when there is none.
  __device__ std::uint32_t word_below(std::uint32_t w) const {
    return word_below_in(level0_, pages_, w);
  }

  /// Word w of level 0. Relaxed: bits are taken by an acquiring read-modify-write.
  __device__ std::uint64_t word(std::uint32_t w) const {
    return atomic::load<order::relaxed>(level0_ + w);
  }
  __device__ std::uint64_t* word_address(std::uint32_t w) const { return level0_ + w; }
  __device__ page_index pages() const { return pages_; }

 private:
  WARPHEAP_OUTLINED static void set_in(std::uint64_t* bits, page_index pages, page_index p) {
    summary(bits, pages).set_here(p);
  }
  WARPHEAP_OUTLINED static void clear_in(std::uint64_t* bits, page_index p) {
    atomic::fetch_and<order::acquire>(bits + p / 64, ~bit_of(p));
  }
  WARPHEAP_OUTLINED static void raise_in(std::uint64_t* bits, page_index pages, std::uint32_t w) {
    summary(bits, pages).raise_here(w);
  }
  WARPHEAP_OUTLINED static page_index next_in(std::uint64_t* bits, page_index pages,
                                              page_index from) {
    return summary(bits, pages).next_here(from);
  }

  WARPHEAP_OUTLINED static std::uint64_t lower_in(std::uint64_t* bits, page_index pages,
                                                  std::uint32_t w) {
    return summary(bits, pages).lower_here(w);
  }
  WARPHEAP_OUTLINED static std::uint32_t next_word_in(std::uint64_t* bits, page_index pages,
                                                      std::uint32_t w) {
    return summary(bits, pages).next_word(w);
  }

  WARPHEAP_OUTLINED static std::uint32_t word_below_in(std::uint64_t* bits, page_index pages,
                                                       std::uint32_t w) {
    return summary(bits, pages).word_below_here(w);
  }

  __device__ std::uint32_t word_below_here(std::uint32_t w) const {
    for (std::uint32_t v = w / 64 + 1; v-- > 0;) {
      std::uint64_t here = atomic::load<order::relaxed>(level1() + v);
      if (v == w / 64) here &= bits::low_mask(w % 64);
      if (here != 0) return v * 64 + 63 - static_cast<unsigned>(bits::countl_zero(here));
    }
    return 0;
  }

  __device__ void set_here(page_index p) const {
    if (atomic::fetch_or<order::release>(level0_ + p / 64, bit_of(p)) == 0) raise(p / 64);
  }

  __device__ void raise_here(std::uint32_t w) const {
    if (atomic::fetch_or<order::release>(level1() + w / 64, bit_of(w)) == 0) raise2(w / 64);
  }

  /// The summary claimed that word w of level 0 is non-zero, but it is zero: clears its mark.
  /// Returns the word as it is afterwards.
  __device__ std::uint64_t lower_here(std::uint32_t w) const {
    atomic::fetch_and<order::acquire>(level1() + w / 64, ~bit_of(w));
    const std::uint64_t here = word(w);
    if (here != 0) raise(w);
    return here;
  }

  __device__ page_index next_here(page_index from) const {
    if (from >= pages_) return 0;
    std::uint32_t w = from / 64;
    std::uint64_t here = word(w) & from_bit(from);
    while (here == 0) {
      w = next_word_in(level0_, pages_, w + 1);
      if (w == 0) return 0;
      here = word(w);
      if (here == 0) here = lower_in(level0_, pages_, w);
    }
    return w * 64 + ctz(here);
  }

  __device__ static std::uint64_t bit_of(std::uint32_t i) { return std::uint64_t{1} << (i & 63); }
  __device__ static std::uint64_t from_bit(std::uint32_t i) {
    return ~std::uint64_t{0} << (i & 63);
  }
  __device__ static unsigned ctz(std::uint64_t x) {
    return static_cast<unsigned>(bits::countr_zero(x));
  }
  __device__ std::uint64_t* level1() const { return level0_ + level_words(pages_, 0); }
  __device__ std::uint64_t* level2() const { return level1() + level_words(pages_, 1); }

  __device__ void raise2(std::uint32_t v) const {
    atomic::fetch_or<order::release>(level2() + v / 64, bit_of(v));
  }

  /// The lowest word of level 0, at or after w, that level 1 calls non-zero; 0 when there is none
  /// (the search never asks for word 0).
  __device__ std::uint32_t next_word(std::uint32_t w) const {
    if (w >= level_words(pages_, 0)) return 0;
    std::uint32_t v = w / 64;
    std::uint64_t here = atomic::load<order::relaxed>(level1() + v) & from_bit(w);
    while (here == 0) {
      v = next_word1(v + 1);
      if (v == 0) return 0;
      here = atomic::load<order::relaxed>(level1() + v);
      if (here == 0) {
        atomic::fetch_and<order::acquire>(level2() + v / 64, ~bit_of(v));
        if ((here = atomic::load<order::relaxed>(level1() + v)) != 0) raise2(v);
      }
    }
    return v * 64 + ctz(here);
  }

  /// The same one level up; level 2 is short (a word for 2 GiB of pages), so it is scanned
  /// linearly.
  __device__ std::uint32_t next_word1(std::uint32_t v) const {
    const std::uint32_t end = static_cast<std::uint32_t>(level_words(pages_, 2));
    std::uint64_t mask = from_bit(v);
    for (std::uint32_t u = v / 64; u < end; ++u, mask = ~std::uint64_t{0}) {
      const std::uint64_t here = atomic::load<order::relaxed>(level2() + u) & mask;
      if (here != 0) return u * 64 + ctz(here);
    }
    return 0;
  }

  std::uint64_t* level0_;
  page_index pages_;
};

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
