// Graphs of any size, made from a number: the same number gives the same graph on every machine.
#pragma once

#include <cstdint>

#include "bench/graph_rows.hpp"

namespace warpheap::bench {

/// R-MAT (Chakrabarti, Zhan, Faloutsos 2004) with the Graph500's probabilities: few vertices with
/// very many edges. 2^log_vertices vertices, about `degree` edges each, fewer where edges repeat.
graph_rows make_rmat(unsigned log_vertices, unsigned degree, std::uint64_t seed);

/// A road network: a grid of `width` x `height` crossings, each with streets to its neighbours in
/// both directions, a tenth of them missing, and now and then a diagonal one. Degrees of 1 to 8.
graph_rows make_roads(std::uint32_t width, std::uint32_t height, std::uint64_t seed);

}  // namespace warpheap::bench
