// How much work the long tests do: a sanitizer build runs a tenth of the loops of a plain one.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdlib>

namespace warpheap::testing {

/// Times and resident memory are not tested under the address and thread sanitizers, which make a
/// program several times slower and keep a shadow of its memory.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

/// The factor from the environment variable WARPHEAP_TEST_SCALE; 1 where it is unset, not a number,
/// or not positive.
inline double test_scale() {
  static const double factor = [] {
    const char* text = std::getenv("WARPHEAP_TEST_SCALE");
    const double value = text == nullptr ? 1.0 : std::strtod(text, nullptr);
    return value > 0.0 ? value : 1.0;
  }();
  return factor;
}

/// A loop count for this run: `n` times the factor, but never under `least`. For counts of rounds,
/// not for sizes whose exact value a test relies on.
template <std::integral T>
T scaled(T n, T least = 1) {
  return std::max(least, static_cast<T>(static_cast<double>(n) * test_scale()));
}

}  // namespace warpheap::testing
