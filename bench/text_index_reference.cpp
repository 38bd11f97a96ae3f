#include "bench/text_index_reference.hpp"

#include <algorithm>

namespace warpheap::bench {

reference_index build_reference_index(const text_corpus& corpus) {
  reference_index out;
  std::string word;
  for (std::size_t f = 0; f < corpus.files(); ++f) {
    const std::string_view text = corpus.file(f);
    for (std::size_t i = 0; i < text.size();) {
      if (!is_word_byte(text[i])) {
        ++i;
        continue;
      }
      const std::size_t begin = i;
      word.clear();
      for (; i < text.size() && is_word_byte(text[i]); ++i) word += folded(text[i]);
      out[word].push_back({static_cast<std::uint32_t>(f), static_cast<std::uint32_t>(begin)});
    }
  }
  return out;
}

std::vector<text_piece> cut_into_pieces(const text_corpus& corpus, std::uint32_t bytes) {
  std::vector<text_piece> out;
  for (std::uint32_t f = 0; f < corpus.files(); ++f) {
    const std::uint32_t first = corpus.offsets[f];
    const std::uint32_t last = corpus.offsets[f + 1];
    for (std::uint32_t at = first; at < last; at += bytes)
      out.push_back({f, first, last, at, std::min(last, at + bytes)});
  }
  return out;
}

}  // namespace warpheap::bench
