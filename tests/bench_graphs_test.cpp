// Graphs that are made: repeatable, of the shape they claim.
#include <algorithm>

#include <gtest/gtest.h>

#include "bench/graph_makers.hpp"

namespace warpheap::bench {
namespace {

std::uint32_t degree(const graph_rows& graph, std::size_t v) {
  return graph.offsets[v + 1] - graph.offsets[v];
}

std::uint32_t largest_degree(const graph_rows& graph) {
  std::uint32_t most = 0;
  for (std::size_t v = 0; v < graph.vertices(); ++v) most = std::max(most, degree(graph, v));
  return most;
}

void expect_rows(const graph_rows& graph) {
  ASSERT_EQ(graph.offsets.back(), graph.edges());
  for (std::size_t v = 0; v < graph.vertices(); ++v)
    for (std::uint32_t e = graph.offsets[v]; e < graph.offsets[v + 1]; ++e) {
      EXPECT_LT(graph.targets[e], graph.vertices());
      if (e > graph.offsets[v]) {
        EXPECT_LT(graph.targets[e - 1], graph.targets[e]);
      }
    }
}

TEST(BenchGraphMakers, RowsAreSortedAndMerged) {
  const graph_rows rows = rows_from_edges(4, {{2, 1}, {0, 3}, {2, 0}, {0, 3}});
  EXPECT_EQ(rows.offsets, (std::vector<std::uint32_t>{0, 1, 1, 3, 3}));
  EXPECT_EQ(rows.targets, (std::vector<std::uint32_t>{3, 0, 1}));
  EXPECT_EQ(rows_from_edges(0, {}).vertices(), 0u);
}

TEST(BenchGraphMakers, RmatHasFewVerticesWithVeryManyEdges) {
  const graph_rows graph = make_rmat(10, 8, 1);
  EXPECT_EQ(graph.vertices(), 1024u);
  EXPECT_GT(graph.edges(), 4096u);
  EXPECT_LE(graph.edges(), 8192u);
  expect_rows(graph);
  EXPECT_GT(largest_degree(graph), 10 * graph.edges() / graph.vertices());
  EXPECT_EQ(make_rmat(10, 8, 1).targets, graph.targets);
  EXPECT_NE(make_rmat(10, 8, 2).targets, graph.targets);
}

TEST(BenchGraphMakers, RoadsHaveSmallDegreesInBothDirections) {
  const graph_rows graph = make_roads(40, 30, 1);
  EXPECT_EQ(graph.vertices(), 1200u);
  expect_rows(graph);
  EXPECT_LE(largest_degree(graph), 8u);
  const double mean = static_cast<double>(graph.edges()) / 1200;
  EXPECT_GT(mean, 3.0);
  EXPECT_LT(mean, 4.0);
  for (std::uint32_t v = 0; v < graph.vertices(); ++v)
    for (std::uint32_t e = graph.offsets[v]; e < graph.offsets[v + 1]; ++e) {
      const auto* const row = graph.targets.data();
      const std::uint32_t back = graph.targets[e];
      EXPECT_TRUE(std::binary_search(row + graph.offsets[back], row + graph.offsets[back + 1], v));
    }
}

}  // namespace
}  // namespace warpheap::bench
