// The graph that the heap's one is compared with, and the updates that both get.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "bench/graph_rows.hpp"

namespace warpheap::bench {

/// One edge to insert or delete.
struct edge {
  std::uint32_t source;
  std::uint32_t target;
};

/// Adjacency as sorted vectors.
class reference_graph {
 public:
  explicit reference_graph(const graph_rows& from);

  bool insert(edge one);  // false: it was there
  bool erase(edge one);   // false: it was not there
  std::size_t vertices() const { return rows_.size(); }
  std::size_t edges() const { return edges_; }
  const std::vector<std::uint32_t>& row(std::uint32_t v) const { return rows_[v]; }

 private:
  std::vector<std::vector<std::uint32_t>> rows_;
  std::size_t edges_ = 0;
};

enum class batch_kind { random_sources, focused_sources };

/// The updates of one batch, grouped by source: updates[begins[i] .. begins[i + 1]) have the same
/// source, so one lane can own it.
struct update_batch {
  bool inserts;
  batch_kind kind;
  std::vector<edge> updates;
  std::vector<std::uint32_t> begins;

  std::size_t sources() const { return begins.size() - 1; }
};

/// `count` updates drawn with `random`; focused ones touch 64 sources only. Most inserts are new
/// edges and most deletes hit one that exists; a twentieth of the deletes names any pair.
update_batch make_batch(const reference_graph& graph, bool inserts, batch_kind kind,
                        std::size_t count, std::mt19937_64& random);

/// Applies the batch; returns how many updates changed the graph.
std::size_t apply(reference_graph& graph, const update_batch& batch);

}  // namespace warpheap::bench
