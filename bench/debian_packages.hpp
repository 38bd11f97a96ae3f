// The dependency graph of the Debian packages this machine knows about.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bench/graph_rows.hpp"

namespace warpheap::bench {

/// The vertices are packages and virtual packages.
struct package_graph : graph_rows {
  std::size_t packages = 0;  // stanzas that were read
};

/// Reads the control format of apt's package lists and of dpkg's status file, in pieces of any
/// size. Edges: package -> every name in Depends, Pre-Depends and Recommends (all alternatives,
/// without version constraint, architecture and profile), and provided name -> package that
/// provides it.
class package_reader {
 public:
  explicit package_reader(std::size_t max_packages) : max_packages_(max_packages) {}

  /// Returns false once max_packages stanzas were read.
  bool feed(std::string_view piece);
  /// Ends a file: its last stanza counts even without an empty line behind it.
  void end_of_file();
  std::size_t packages() const { return packages_; }
  /// Sorts and merges what was read. The reader is empty afterwards.
  package_graph finish();

 private:
  enum class field { other, relation, provides };

  void line(std::string_view text);
  void relations(std::string_view list);
  void end_of_stanza();
  std::uint32_t vertex(std::string_view name);

  std::size_t max_packages_;
  std::size_t packages_ = 0;
  std::string rest_;     // an unfinished line
  std::string package_;  // of the stanza at hand
  field field_ = field::other;
  std::vector<std::string> depends_;
  std::vector<std::string> provides_;
  std::unordered_map<std::string, std::uint32_t> vertices_;
  std::vector<std::string> names_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> edges_;
};

/// Where to look, for tests; the defaults are the system's.
struct package_sources {
  std::string lists_directory = "/var/lib/apt/lists";
  std::string status_file = "/var/lib/dpkg/status";
};

/// The *_Packages files (plain or compressed) of a directory in the order of their names.
std::vector<std::string> find_package_lists(const std::string& directory);

/// Reads apt's package lists, else dpkg's status file, up to max_packages packages.
/// The graph is empty if there is neither.
package_graph load_package_graph(const package_sources& where, std::size_t max_packages);

}  // namespace warpheap::bench
