#include "bench/graph_rows.hpp"

#include <algorithm>

namespace warpheap::bench {

graph_rows rows_from_edges(std::size_t vertices,
                           std::vector<std::pair<std::uint32_t, std::uint32_t>> edges) {
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());

  graph_rows out;
  out.offsets.assign(vertices + 1, 0);
  out.targets.reserve(edges.size());
  for (const auto& [source, target] : edges) {
    ++out.offsets[source + 1];
    out.targets.push_back(target);
  }
  for (std::size_t v = 0; v < vertices; ++v) out.offsets[v + 1] += out.offsets[v];
  return out;
}

}  // namespace warpheap::bench
