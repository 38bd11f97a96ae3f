// Real text found on this machine, in an order that is the same in every run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <warpheap/hd.hpp>

namespace warpheap::bench {

/// Files one behind the other in one block of bytes.
struct text_corpus {
  std::vector<std::string> paths;
  std::vector<std::uint32_t> offsets = {0};  // file f is text[offsets[f] .. offsets[f + 1])
  std::string text;

  std::size_t files() const { return paths.size(); }
  std::string_view file(std::size_t f) const {
    return std::string_view(text).substr(offsets[f], offsets[f + 1] - offsets[f]);
  }
};

/// What to collect.
struct corpus_limits {
  std::size_t total_bytes = std::size_t{32} << 20;
  std::size_t file_bytes = std::size_t{256} << 10;  // the rest of a longer file is left out
};

/// Directories that Debian fills with text.
std::vector<std::string> default_text_roots();

/// Collects regular files below `roots` that everybody may read, in the order of the roots and of
/// the paths, ".gz" decompressed, without links and without files that look binary. No root gets
/// more than its share of the bytes while later ones have text. `step` is called now and then.
text_corpus load_text_corpus(const std::vector<std::string>& roots, const corpus_limits& limits,
                             const std::function<void(std::size_t files, std::size_t bytes)>& step);

/// Words are runs of ASCII letters and digits and of all bytes beyond ASCII; case is ignored.
WARPHEAP_HD constexpr bool is_word_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
         || static_cast<unsigned char>(c) >= 0x80;
}
WARPHEAP_HD constexpr char folded(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}
/// FNV-1a, one byte further.
inline constexpr std::uint32_t hash_start = 2166136261u;
WARPHEAP_HD constexpr std::uint32_t hash_step(std::uint32_t hash, char c) {
  return (hash ^ static_cast<unsigned char>(c)) * 16777619u;
}

}  // namespace warpheap::bench
