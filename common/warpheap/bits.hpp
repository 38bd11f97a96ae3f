#pragma once

// Operations on 64-bit words of bits and on sizes, for the host and kernels alike.

#include <bit>
#include <cstddef>
#include <cstdint>

#include <warpheap/hd.hpp>

namespace warpheap::bits {

namespace detail {
/// std::popcount. If the processor is not known to have an instruction for it, adds up pairs,
/// nibbles and bytes in place: the compiler would call a function that looks up a table.
constexpr int popcount(std::uint64_t x) {
#ifdef __POPCNT__
  return std::popcount(x);
#else
  x -= x >> 1 & 0x5555555555555555u;
  x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  return static_cast<int>(x * 0x0101010101010101u >> 56);
#endif
}
}  // namespace detail

/// Number of zero bits below the lowest set bit; 64 for x == 0.
WARPHEAP_HD constexpr int countr_zero(std::uint64_t x) {
#ifdef __CUDA_ARCH__
  return x == 0 ? 64 : __ffsll(static_cast<long long>(x)) - 1;
#else
  return std::countr_zero(x);
#endif
}

/// Number of zero bits below the lowest set bit; needs x != 0. One instruction, where countr_zero
/// takes several on processors that may lack tzcnt.
WARPHEAP_HD constexpr unsigned lowest_bit(std::uint64_t x) {
#ifdef __CUDA_ARCH__
  return static_cast<unsigned>(__ffsll(static_cast<long long>(x)) - 1);
#elif defined(__GNUC__)
  return static_cast<unsigned>(__builtin_ctzll(x));
#else
  return static_cast<unsigned>(std::countr_zero(x));
#endif
}

/// Number of zero bits above the highest set bit; 64 for x == 0.
WARPHEAP_HD constexpr int countl_zero(std::uint64_t x) {
#ifdef __CUDA_ARCH__
  return __clzll(static_cast<long long>(x));
#else
  return std::countl_zero(x);
#endif
}

/// Number of set bits.
WARPHEAP_HD constexpr int popcount(std::uint64_t x) {
#ifdef __CUDA_ARCH__
  return __popcll(x);
#else
  return detail::popcount(x);
#endif
}

/// The n lowest bits set, 0 <= n <= 64.
WARPHEAP_HD constexpr std::uint64_t low_mask(unsigned n) {
  return n >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n) - 1;
}

/// Position of the set bit of rank r (r = 0: the lowest). Needs r < popcount(x). Halves the window
/// six times by popcount, so all lanes of a warp take the same path.
WARPHEAP_HD constexpr int select(std::uint64_t x, int r) {
  int pos = 0;
  for (int width = 32; width > 0; width >>= 1) {
    const int below = popcount(x & low_mask(static_cast<unsigned>(width)));
    if (r >= below) {
      r -= below;
      x >>= width;
      pos += width;
    }
  }
  return pos;
}

/// The n lowest set bits of x; x itself if it has no more than n.
WARPHEAP_HD constexpr std::uint64_t lowest_set(std::uint64_t x, int n) {
  return n >= popcount(x) ? x : x & low_mask(static_cast<unsigned>(select(x, n)));
}

/// Position of the first run of n ones in x, 64 if there is none; 1 <= n <= 64. Shortens every run
/// by shifting and and-ing, with doubling steps, until only the starts of long enough runs are
/// left.
WARPHEAP_HD constexpr int first_run(std::uint64_t x, unsigned n) {
  unsigned left = n - 1;
  unsigned step = 1;
  while (left > 0) {
    const unsigned s = step < left ? step : left;
    x &= x >> s;
    left -= s;
    step <<= 1;
  }
  return countr_zero(x);
}

WARPHEAP_HD constexpr bool is_power_of_two(std::size_t n) { return n != 0 && (n & (n - 1)) == 0; }

/// n rounded up to a multiple of align (a power of two). Wraps when n > SIZE_MAX - align + 1.
WARPHEAP_HD constexpr std::size_t align_up(std::size_t n, std::size_t align) {
  return (n + (align - 1)) & ~(align - 1);
}

/// n / d rounded up, for every n and d > 0, without overflow.
WARPHEAP_HD constexpr std::size_t ceil_div(std::size_t n, std::size_t d) {
  return n / d + (n % d != 0 ? 1 : 0);
}

/// True when n + m does not fit in a size_t.
WARPHEAP_HD constexpr bool add_overflows(std::size_t n, std::size_t m) { return n + m < n; }

/// True when n * m does not fit in a size_t.
WARPHEAP_HD constexpr bool mul_overflows(std::size_t n, std::size_t m) {
  return m != 0 && n > static_cast<std::size_t>(-1) / m;
}

}  // namespace warpheap::bits
