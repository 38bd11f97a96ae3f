#include "bench/graph_makers.hpp"

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "bench/random_below.hpp"

namespace warpheap::bench {
namespace {

using edge_list = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

}  // namespace

graph_rows make_rmat(unsigned log_vertices, unsigned degree, std::uint64_t seed) {
  // Probabilities of the four quarters in 1/100: 57, 19, 19, 5.
  std::mt19937_64 random(seed);
  const std::size_t vertices = std::size_t{1} << log_vertices;
  edge_list edges;
  edges.reserve(vertices * degree);
  for (std::size_t e = 0; e < vertices * degree; ++e) {
    std::uint32_t source = 0;
    std::uint32_t target = 0;
    for (unsigned bit = 0; bit < log_vertices; ++bit) {
      const std::uint32_t draw = random_below(random, 100);
      source = source << 1 | (draw >= 76 ? 1u : 0u);
      target = target << 1 | ((draw >= 57 && draw < 76) || draw >= 95 ? 1u : 0u);
    }
    edges.emplace_back(source, target);
  }
  graph_rows out = rows_from_edges(vertices, std::move(edges));
  out.sources = {"R-MAT, 2^" + std::to_string(log_vertices) + " vertices, degree "
                 + std::to_string(degree) + ", seed " + std::to_string(seed)};
  return out;
}

graph_rows make_roads(std::uint32_t width, std::uint32_t height, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  edge_list edges;
  const auto street = [&](std::uint32_t x, std::uint32_t y, std::uint32_t to_x,
                          std::uint32_t to_y) {
    const std::uint32_t from = y * width + x;
    const std::uint32_t to = to_y * width + to_x;
    edges.emplace_back(from, to);
    edges.emplace_back(to, from);
  };
  for (std::uint32_t y = 0; y < height; ++y)
    for (std::uint32_t x = 0; x < width; ++x) {
      if (x + 1 < width && random_below(random, 10) != 0) street(x, y, x + 1, y);
      if (y + 1 < height && random_below(random, 10) != 0) street(x, y, x, y + 1);
      if (x + 1 < width && y + 1 < height && random_below(random, 20) == 0)
        street(x, y, x + 1, y + 1);
    }
  graph_rows out = rows_from_edges(std::size_t{width} * height, std::move(edges));
  out.sources = {"roads, " + std::to_string(width) + " x " + std::to_string(height) + ", seed "
                 + std::to_string(seed)};
  return out;
}

}  // namespace warpheap::bench
