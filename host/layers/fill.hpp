#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace warpheap {

/// Patterns for memory without data, which people and has_fill can tell from data.
inline constexpr std::uint32_t freed_fill = 0xdeadbeef;
inline constexpr std::uint32_t zone_fill = 0xfdfdfdfd;

inline unsigned char fill_byte(std::uint32_t fill, std::size_t i) {
  return static_cast<unsigned char>(fill >> (8 * (i % 4)));
}
/// Fills with the word at each multiple of 4 from p, and with its first bytes in the rest.
inline void put_fill(void* p, std::size_t bytes, std::uint32_t fill) {
  auto* at = static_cast<unsigned char*>(p);
  std::size_t i = 0;
  for (; i + 4 <= bytes; i += 4) std::memcpy(at + i, &fill, 4);
  for (; i < bytes; ++i) at[i] = fill_byte(fill, i);
}
inline bool has_fill(const void* p, std::size_t bytes, std::uint32_t fill) {
  const auto* at = static_cast<const unsigned char*>(p);
  for (std::size_t i = 0; i < bytes; ++i) {
    if (at[i] != fill_byte(fill, i)) return false;
  }
  return true;
}

}  // namespace warpheap
