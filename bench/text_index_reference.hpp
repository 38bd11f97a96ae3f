// The inverted index that the heap's one is compared with, built the plain way.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "bench/text_corpus.hpp"

namespace warpheap::bench {

/// Where a word stands: file, and byte offset in it.
struct posting {
  std::uint32_t file;
  std::uint32_t offset;
  auto operator<=>(const posting&) const = default;
};

/// Word in lower case -> its places, ascending.
using reference_index = std::unordered_map<std::string, std::vector<posting>>;

reference_index build_reference_index(const text_corpus& corpus);

/// A piece of a file whose words one lane indexes: those that start in [begin, end) of the text.
struct text_piece {
  std::uint32_t file;
  std::uint32_t file_begin;
  std::uint32_t file_end;
  std::uint32_t begin;
  std::uint32_t end;
};

/// Cuts every file into pieces of at most `bytes`.
std::vector<text_piece> cut_into_pieces(const text_corpus& corpus, std::uint32_t bytes);

}  // namespace warpheap::bench
