#pragma once

// Random numbers for inputs that have to be the same everywhere.

#include <cstddef>
#include <cstdint>
#include <random>

namespace warpheap::bench {

/// Uniform in [0, bound), bound at most 2^32. Not a std::uniform_int_distribution: what that makes
/// of a generator's numbers differs between libraries.
inline std::uint32_t random_below(std::mt19937_64& random, std::size_t bound) {
  return static_cast<std::uint32_t>(((random() >> 32) * std::uint64_t{bound}) >> 32);
}

}  // namespace warpheap::bench
