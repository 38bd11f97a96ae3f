#include "bench/text_corpus.hpp"

#include <algorithm>
#include <filesystem>

#include "bench/command.hpp"

namespace warpheap::bench {
namespace {

namespace fs = std::filesystem;

bool readable_by_all(const fs::file_status& status) {
  return fs::is_regular_file(status)
         && (status.permissions() & fs::perms::others_read) != fs::perms::none;
}

std::vector<std::string> files_below(const std::string& root) {
  std::vector<std::string> found;
  std::error_code error;
  const auto skip = fs::directory_options::skip_permission_denied;
  fs::recursive_directory_iterator at(root, skip, error), end;
  while (!error && at != end) {
    std::error_code ignored;
    if (readable_by_all(at->symlink_status(ignored))) found.push_back(at->path().string());
    at.increment(error);
  }
  std::sort(found.begin(), found.end());
  return found;
}

// Names that are known not to hold text; everything else is judged by its content.
bool worth_opening(std::string_view path) {
  constexpr std::string_view known[] = {".png",    ".gif", ".jpg", ".jpeg", ".svgz",   ".pdf",
                                        ".ico",    ".mo",  ".so",  ".bin",  ".tar.gz", ".ps.gz",
                                        ".pdf.gz", ".xz",  ".bz2", ".zst",  ".tgz"};
  return std::none_of(std::begin(known), std::end(known),
                      [&](std::string_view suffix) { return path.ends_with(suffix); });
}

bool looks_binary(std::string_view text) {
  const std::string_view head = text.substr(0, 8192);
  const auto odd = std::count_if(head.begin(), head.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' && c != '\r' && c != '\f';
  });
  return head.find('\0') != head.npos || static_cast<std::size_t>(odd) * 50 > head.size();
}

std::string read_text(const std::string& path, std::size_t most) {
  std::string text;
  read_file(path, false, [&](std::string_view piece) {
    text += piece.substr(0, most - text.size());
    return text.size() < most;
  });
  return looks_binary(text) ? std::string() : text;
}

}  // namespace

std::vector<std::string> default_text_roots() {
  return {"/usr/share/common-licenses", "/usr/share/perl", "/usr/share/perl5", "/etc",
          "/usr/share/doc"};
}

text_corpus load_text_corpus(const std::vector<std::string>& roots, const corpus_limits& limits,
                             const std::function<void(std::size_t, std::size_t)>& step) {
  text_corpus out;
  for (std::size_t r = 0; r < roots.size(); ++r) {
    // What earlier roots left over goes to the later ones.
    const std::size_t share = (limits.total_bytes - out.text.size()) / (roots.size() - r);
    const std::size_t stop = out.text.size() + share;
    for (const auto& path : files_below(roots[r])) {
      if (out.text.size() >= stop) break;
      if (!worth_opening(path)) continue;
      const std::string text = read_text(path, std::min(limits.file_bytes, stop - out.text.size()));
      if (text.empty()) continue;
      out.text += text;
      out.paths.push_back(path);
      out.offsets.push_back(static_cast<std::uint32_t>(out.text.size()));
      if (step) step(out.files(), out.text.size());
    }
  }
  return out;
}

}  // namespace warpheap::bench
