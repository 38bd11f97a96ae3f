#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace warpheap {

/// Reads a number of bytes such as "4096", "64M", "1.5G" or "3MiB": decimal, with a unit of K, M, G
/// or T (in either case, "iB" may follow), and with up to six digits after a point. nullopt for any
/// other text, and for 2^63 bytes and more. Allocates nothing.
constexpr std::optional<std::size_t> read_size(std::string_view text) {
  constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
  constexpr std::uint64_t parts = 1'000'000;  // of which the digits after the point are counted
  std::uint64_t whole = 0;
  std::uint64_t fraction = 0;
  std::size_t at = 0;
  const auto digit = [&] { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
  const auto value = [&] { return static_cast<std::uint64_t>(text[at] - '0'); };
  if (!digit()) return std::nullopt;
  for (; digit(); ++at) {
    if (whole > (most - value()) / 10) return std::nullopt;
    whole = whole * 10 + value();
  }
  if (at < text.size() && text[at] == '.') {
    ++at;
    if (!digit()) return std::nullopt;
    std::uint64_t weight = parts / 10;
    for (; digit(); ++at, weight /= 10) {
      if (weight == 0) return std::nullopt;
      fraction += value() * weight;
    }
  }
  unsigned shift = 0;
  if (at < text.size()) {
    constexpr std::string_view units = "KMGT";
    const auto unit = units.find(static_cast<char>(text[at] & ~0x20));
    if (unit == units.npos) return std::nullopt;
    shift = 10 * static_cast<unsigned>(unit + 1);
    const std::string_view rest = text.substr(at + 1);
    if (!rest.empty() && rest != "iB") return std::nullopt;
  }
  if (whole >= (most >> shift)) return std::nullopt;
  return static_cast<std::size_t>((whole << shift) + (fraction << shift) / parts);
}

}  // namespace warpheap
