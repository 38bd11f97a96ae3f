#pragma once

// The bitmap of a chunk: 512 pages of 8 KiB, 4 MiB. (Go: pageBits, pallocBits.)

#include <array>
#include <cstddef>
#include <cstdint>

#include <warpheap/bits.hpp>

#include "host/page_summary.hpp"

namespace warpheap {

/// 512 bits, one per page. In the allocator's bitmap a set bit is an allocated page. The initial
/// state is all zero, so that lazily touched memory serves as a table of them.
class page_bits {
 public:
  static constexpr unsigned size = chunk_pages;
  static constexpr unsigned words = size / 64;
  static constexpr unsigned none = ~0u;

  bool get(unsigned i) const { return (word_[i / 64] >> (i % 64) & 1) != 0; }
  std::uint64_t word(unsigned w) const { return word_[w]; }
  void set_word(unsigned w, std::uint64_t value) { word_[w] = value; }

  void set_range(unsigned i, unsigned n) {
    for_words(i, n, [&](unsigned w, std::uint64_t mask) { word_[w] |= mask; });
  }
  void clear_range(unsigned i, unsigned n) {
    for_words(i, n, [&](unsigned w, std::uint64_t mask) { word_[w] &= ~mask; });
  }
  unsigned popcount_range(unsigned i, unsigned n) const {
    unsigned count = 0;
    for_words(i, n, [&](unsigned w, std::uint64_t mask) {
      count += static_cast<unsigned>(bits::popcount(word_[w] & mask));
    });
    return count;
  }

  /// The numbers of zero bits at the start, in the longest run, and at the end.
  page_summary summarize() const {
    unsigned start = none;
    unsigned longest = 0;
    unsigned run = 0;  // zero bits just below the current place
    const auto close = [&] {
      if (start == none) start = run;
      if (run > longest) longest = run;
      run = 0;
    };
    for (unsigned w = 0; w < words; ++w) {
      const std::uint64_t x = word_[w];
      unsigned at = 0;
      while (at < 64) {
        const std::uint64_t rest = x >> at;
        const unsigned zeros = rest == 0 ? 64 - at : static_cast<unsigned>(bits::countr_zero(rest));
        run += zeros;
        at += zeros;
        if (at == 64) break;
        close();
        at += static_cast<unsigned>(bits::countr_zero(~(x >> at)));
      }
    }
    if (start == none) return page_summary::pack(size, size, size);  // nothing but zeros
    const unsigned end = run;
    if (run > longest) longest = run;
    return page_summary::pack(start, longest, end);
  }

  /// First place of n consecutive zero bits, from the word that contains `from` on; none if there
  /// is none.
  unsigned find(unsigned n, unsigned from = 0) const {
    unsigned run = 0;  // zero bits up to the end of the previous word
    for (unsigned w = from / 64; w < words; ++w) {
      const std::uint64_t x = word_[w];
      if (x == 0) {
        run += 64;
        if (run >= n) return w * 64 + 64 - run;
        continue;
      }
      const unsigned low = static_cast<unsigned>(bits::countr_zero(x));
      if (run + low >= n) return w * 64 - run;
      if (n <= 64) {
        const int inside = bits::first_run(~x, n);
        if (inside < 64) return w * 64 + static_cast<unsigned>(inside);
      }
      run = static_cast<unsigned>(bits::countl_zero(x));
    }
    return none;
  }

  friend bool operator==(const page_bits&, const page_bits&) = default;

 private:
  template <class F>
  static void for_words(unsigned i, unsigned n, F&& f) {
    while (n > 0) {
      const unsigned bit = i % 64;
      const unsigned here = n < 64 - bit ? n : 64 - bit;
      f(i / 64, bits::low_mask(here) << bit);
      i += here;
      n -= here;
    }
  }

  std::array<std::uint64_t, words> word_{};
};

/// A chunk's pages: which are allocated, and which free ones were given back to the system.
struct chunk_bits {
  page_bits alloc;
  page_bits scavenged;
};

}  // namespace warpheap
