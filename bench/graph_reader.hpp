// Graphs from files: MatrixMarket and lists of edges.
#pragma once

#include <string>
#include <string_view>

#include "bench/bad_input.hpp"
#include "bench/graph_rows.hpp"

namespace warpheap::bench {

/// The coordinate form of MatrixMarket, square or not: an entry (i, j) is an edge i -> j, the
/// values are left out; symmetric, skew-symmetric and hermitian ones stand for both directions.
/// Throws bad_input, with `name` for the file's.
graph_rows parse_matrix_market(std::string_view text, const std::string& name);

/// A line for each edge, "source target" with anything behind it, separated by blanks, tabs or a
/// comma; lines that begin with # or % are comments. Vertices may have any numbers up to 2^64 - 1:
/// they are renumbered in ascending order. Throws bad_input.
graph_rows parse_edge_list(std::string_view text, const std::string& name);

/// Reads the file, decompressed by its name; MatrixMarket by its first line, else a list of edges.
/// Throws bad_input.
graph_rows read_graph(const std::string& path);

}  // namespace warpheap::bench
