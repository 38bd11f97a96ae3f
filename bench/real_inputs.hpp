// The inputs of the suite real, loaded once for all allocators.
#pragma once

#include "bench/graph_rows.hpp"
#include "bench/registry.hpp"
#include "bench/trace.hpp"

namespace warpheap::bench {

/// Each throws no_input when its input is not on this machine, or was not given.
graph_rows debian_graph(const run_context& run);
graph_rows rmat_graph(const run_context& run);
graph_rows road_graph(const run_context& run);
graph_rows file_graph(const run_context& run);

/// Recorded at the first call; the same trace serves all cases of a run.
const trace& perl_trace(const run_context& run);
const trace& compiler_trace(const run_context& run);
const trace& file_trace(const run_context& run);

/// Throws no_input for a trace in which nothing happens.
void require_events(const trace& what);

}  // namespace warpheap::bench
