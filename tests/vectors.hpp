#pragma once

// Reading of the Go test cases in tests/data.

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string>

#include "host/page_bits.hpp"

namespace warpheap::test {

inline nlohmann::json load_cases(const std::string& name) {
  std::ifstream file(std::string(WARPHEAP_TEST_DATA "/") + name);
  if (!file) throw std::runtime_error("no such test data: " + name);
  return nlohmann::json::parse(file).at("cases");
}

/// The names of the kinds of cases in a file, so that none of them is there without a reader.
inline std::set<std::string> kinds_of_cases(const std::string& name) {
  const nlohmann::json cases = load_cases(name);
  std::set<std::string> kinds;
  for (const auto& [kind, unused] : cases.items()) kinds.insert(kind);
  return kinds;
}

inline std::uint64_t hex(const nlohmann::json& text) {
  return std::stoull(text.get<std::string>(), nullptr, 16);
}

/// Page number of {"chunk": c, "page": p}.
inline std::size_t page_of(const nlohmann::json& at) {
  return at.at("chunk").get<std::size_t>() * chunk_pages + at.at("page").get<std::size_t>();
}

/// Bits of [[first, count], ...].
inline page_bits bits_of(const nlohmann::json& ranges) {
  page_bits b;
  for (const auto& r : ranges) b.set_range(r[0].get<unsigned>(), r[1].get<unsigned>());
  return b;
}

}  // namespace warpheap::test
