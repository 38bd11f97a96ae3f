// A graph as the benchmark's inputs give it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace warpheap::bench {

/// A directed graph in compressed rows: the edges of vertex v are
/// targets[offsets[v] .. offsets[v + 1]), ascending, without repetitions.
struct graph_rows {
  std::vector<std::string> names;  // of the vertices; empty where they have none
  std::vector<std::uint32_t> offsets;
  std::vector<std::uint32_t> targets;
  std::vector<std::string> sources;  // files that were read, or how it was made

  std::size_t vertices() const { return offsets.empty() ? 0 : offsets.size() - 1; }
  std::size_t edges() const { return targets.size(); }
};

/// Rows from edges in any order; repetitions are merged. Both ends of each edge are below
/// `vertices`.
graph_rows rows_from_edges(std::size_t vertices,
                           std::vector<std::pair<std::uint32_t, std::uint32_t>> edges);

}  // namespace warpheap::bench
