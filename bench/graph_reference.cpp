#include "bench/graph_reference.hpp"

#include <algorithm>

#include "bench/random_below.hpp"

namespace warpheap::bench {
namespace {

constexpr std::size_t focused_sources = 64;

}  // namespace

reference_graph::reference_graph(const graph_rows& from)
    : rows_(from.vertices()), edges_(from.edges()) {
  for (std::size_t v = 0; v < rows_.size(); ++v)
    rows_[v].assign(from.targets.begin() + from.offsets[v],
                    from.targets.begin() + from.offsets[v + 1]);
}

bool reference_graph::insert(edge one) {
  auto& row = rows_[one.source];
  const auto at = std::lower_bound(row.begin(), row.end(), one.target);
  if (at != row.end() && *at == one.target) return false;
  row.insert(at, one.target);
  ++edges_;
  return true;
}

bool reference_graph::erase(edge one) {
  auto& row = rows_[one.source];
  const auto at = std::lower_bound(row.begin(), row.end(), one.target);
  if (at == row.end() || *at != one.target) return false;
  row.erase(at);
  --edges_;
  return true;
}

update_batch make_batch(const reference_graph& graph, bool inserts, batch_kind kind,
                        std::size_t count, std::mt19937_64& random) {
  update_batch out{inserts, kind, {}, {}};
  if (graph.vertices() == 0) count = 0;

  std::vector<std::uint32_t> focus;
  for (std::size_t i = 0; i < focused_sources; ++i)
    focus.push_back(random_below(random, graph.vertices()));
  const auto source = [&] {
    return kind == batch_kind::focused_sources ? focus[random_below(random, focus.size())]
                                               : random_below(random, graph.vertices());
  };
  while (out.updates.size() < count) {
    edge one{source(), random_below(random, graph.vertices())};
    if (!inserts && random_below(random, 20) != 0) {
      // A vertex without edges is given up after a few draws: the graph may have none at all.
      for (int tries = 0; tries < 16 && graph.row(one.source).empty(); ++tries)
        one.source = source();
      if (const auto& row = graph.row(one.source); !row.empty())
        one.target = row[random_below(random, row.size())];
    }
    out.updates.push_back(one);
  }
  std::stable_sort(out.updates.begin(), out.updates.end(),
                   [](edge a, edge b) { return a.source < b.source; });
  for (std::uint32_t i = 0; i < out.updates.size(); ++i)
    if (i == 0 || out.updates[i].source != out.updates[i - 1].source) out.begins.push_back(i);
  out.begins.push_back(static_cast<std::uint32_t>(out.updates.size()));
  return out;
}

std::size_t apply(reference_graph& graph, const update_batch& batch) {
  std::size_t changed = 0;
  for (const edge one : batch.updates)
    changed += batch.inserts ? graph.insert(one) : graph.erase(one);
  return changed;
}

}  // namespace warpheap::bench
