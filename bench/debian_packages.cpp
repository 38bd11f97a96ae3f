#include "bench/debian_packages.hpp"

#include <algorithm>
#include <filesystem>

#include "bench/command.hpp"

namespace warpheap::bench {
namespace {

constexpr std::string_view blanks = " \t\r";

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(blanks);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

// "libc6:any (>= 2.36) [amd64] <!nocheck>" -> "libc6"
std::string_view bare_name(std::string_view relation) {
  relation = trimmed(relation);
  return relation.substr(0, relation.find_first_of(" \t\r:([<"));
}

bool same_word(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

bool package_reader::feed(std::string_view piece) {
  while (packages_ < max_packages_ && !piece.empty()) {
    const auto end = piece.find('\n');
    if (end == piece.npos) {
      rest_ += piece;
      break;
    }
    if (rest_.empty()) {
      line(piece.substr(0, end));
    } else {
      rest_ += piece.substr(0, end);
      line(rest_);
      rest_.clear();
    }
    piece.remove_prefix(end + 1);
  }
  return packages_ < max_packages_;
}

void package_reader::end_of_file() {
  if (packages_ < max_packages_) {
    if (!rest_.empty()) line(rest_);
    end_of_stanza();
  }
  rest_.clear();
}

void package_reader::line(std::string_view text) {
  const std::string_view content = trimmed(text);
  if (content.empty()) return end_of_stanza();
  if (text.front() == ' ' || text.front() == '\t') {  // continues the field before
    if (field_ != field::other) relations(content);
    return;
  }
  field_ = field::other;
  if (text.front() == '#') return;
  const auto colon = text.find(':');
  if (colon == text.npos) return;
  const std::string_view name = text.substr(0, colon);
  const std::string_view value = trimmed(text.substr(colon + 1));
  if (same_word(name, "Package")) {
    package_ = value;
  } else if (same_word(name, "Depends") || same_word(name, "Pre-Depends")
             || same_word(name, "Recommends")) {
    field_ = field::relation;
    relations(value);
  } else if (same_word(name, "Provides")) {
    field_ = field::provides;
    relations(value);
  }
}

void package_reader::relations(std::string_view list) {
  auto& names = field_ == field::provides ? provides_ : depends_;
  while (!list.empty()) {
    const auto end = std::min(list.find_first_of(",|"), list.size());
    if (const auto name = bare_name(list.substr(0, end)); !name.empty()) names.emplace_back(name);
    list.remove_prefix(std::min(end + 1, list.size()));
  }
}

void package_reader::end_of_stanza() {
  if (!package_.empty()) {
    const std::uint32_t own = vertex(package_);
    for (const auto& name : depends_) edges_.emplace_back(own, vertex(name));
    for (const auto& name : provides_) edges_.emplace_back(vertex(name), own);
    ++packages_;
  }
  package_.clear();
  depends_.clear();
  provides_.clear();
  field_ = field::other;
}

std::uint32_t package_reader::vertex(std::string_view name) {
  const auto [entry, added] =
      vertices_.try_emplace(std::string(name), static_cast<std::uint32_t>(names_.size()));
  if (added) names_.emplace_back(name);
  return entry->second;
}

package_graph package_reader::finish() {
  package_graph out{rows_from_edges(names_.size(), std::move(edges_)), packages_};
  out.names = std::move(names_);
  *this = package_reader(max_packages_);
  return out;
}

std::vector<std::string> find_package_lists(const std::string& directory) {
  namespace fs = std::filesystem;
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    const auto mark = name.rfind("_Packages");
    if (mark == name.npos) continue;
    const std::string rest = name.substr(mark + 9);
    const bool known = rest.empty() || rest == ".lz4" || rest == ".gz" || rest == ".xz"
                       || rest == ".bz2" || rest == ".zst";
    std::error_code ignored;
    if (known && at->is_regular_file(ignored)) found.push_back(at->path().string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

package_graph load_package_graph(const package_sources& where, std::size_t max_packages) {
  package_reader reader(max_packages);
  std::vector<std::string> read;
  const auto take = [&](const std::string& path) {
    const std::size_t before = reader.packages();
    if (before >= max_packages) return;
    read_file(path, true, [&](std::string_view piece) { return reader.feed(piece); });
    reader.end_of_file();
    if (reader.packages() > before) read.push_back(path);
  };
  for (const auto& path : find_package_lists(where.lists_directory)) take(path);
  if (read.empty()) take(where.status_file);

  package_graph out = reader.finish();
  out.sources = std::move(read);
  return out;
}

}  // namespace warpheap::bench
