// Graphs on any allocator: build, batches of updates, expansion. The survey's ninth and tenth test
// and Gallatin's graph expansion.
#pragma once

#include <algorithm>
#include <bit>
#include <functional>
#include <string>

#include "bench/graph_kernels.cuh"
#include "bench/graph_makers.hpp"
#include "bench/rounds.cuh"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {

struct graph_run {
  bool updates = true;     // batches of 10,000 inserts and deletes
  unsigned doublings = 0;  // of every degree, after the build
};

/// Builds the graph in memory of the allocator, changes it, compares it, frees it.
template <allocator_adapter A>
result run_graph_on(const run_context& run, const graph_rows& input, graph_run what) {
  using handle = typename A::handle;
  if (input.edges() == 0) throw no_input("the graph has no edges");
  constexpr std::size_t batch_size = 10'000;
  // Arrays double as rows grow; a batch adds a few hundred edges to a row at the most.
  std::uint32_t degree = 0;
  for (std::size_t v = 0; v < input.vertices(); ++v)
    degree = std::max(degree, input.offsets[v + 1] - input.offsets[v]);
  require_sizes<A>(sizeof(std::uint32_t)
                   * std::bit_ceil((std::uint64_t{degree} << what.doublings) + 512));
  const unsigned warm_ups = run.wanted.warm_ups();
  timings build("build", warm_ups), insert("insert", warm_ups), erase("delete", warm_ups),
      focused_insert("focused_insert", warm_ups), focused_erase("focused_delete", warm_ups),
      expand("expand", warm_ups), free("free", warm_ups);
  heap_figures figures;
  std::uint64_t mallocs = 0;
  A allocator(run.reserve_bytes);
  heap_graph<handle> graph(run, allocator.device(), input);
  const point_clock clock(run);
  for (unsigned i = 0; clock.wants(i); ++i) {
    run.repetition(i);
    build.add(graph.build(), input.edges());
    mallocs += graph.counts().mallocs;
    std::uint64_t live = graph.counts().malloc_bytes - graph.counts().free_bytes;
    const std::string name = "repetition " + std::to_string(i + 1);
    if (what.updates) {
      reference_graph reference(input);
      graph.require_equal(reference, name + ", after the build");
      std::mt19937_64 random(i);
      for (const auto kind : {batch_kind::random_sources, batch_kind::focused_sources})
        for (const bool inserts : {true, false}) {
          const update_batch batch = make_batch(reference, inserts, kind, batch_size, random);
          timings& time = kind == batch_kind::focused_sources
                              ? (inserts ? focused_insert : focused_erase)
                              : (inserts ? insert : erase);
          time.add(graph.update(batch), batch.updates.size());
          mallocs += graph.counts().mallocs;
          live += graph.counts().malloc_bytes - graph.counts().free_bytes;
          if (const auto changed = apply(reference, batch); changed != graph.counts().changes)
            throw integrity_error(name + ": expected " + std::to_string(changed)
                                  + " changed edges, found "
                                  + std::to_string(graph.counts().changes));
          graph.require_equal(reference, name + (inserts ? ", after inserts" : ", after deletes"));
        }
    } else {
      graph.require_repeated(1);
      for (unsigned d = 1; d <= what.doublings; ++d) {
        expand.add(graph.expand(), input.edges() << d);
        mallocs += graph.counts().mallocs;
        live += graph.counts().malloc_bytes - graph.counts().free_bytes;
        graph.require_repeated(1u << d);
      }
    }
    if (i == 0) figures.full(allocator, live);
    const elapsed took = graph.destroy();
    free.add(took, graph.counts().frees);
    rest(allocator);
  }
  figures.end(allocator, mallocs);
  result out;
  out.params = {{"vertices", std::uint64_t{input.vertices()}},
                {"edges", std::uint64_t{input.edges()}}};
  if (what.updates) out.params.emplace_back("updates_per_batch", std::uint64_t{batch_size});
  for (const auto& source : input.sources) out.params.emplace_back("source", source);
  for (const timings* one :
       {&build, &insert, &erase, &focused_insert, &focused_erase, &expand, &free})
    if (!one->warm().empty()) out.operations.push_back(one->finish());
  out.heap = figures.use();
  return out;
}

namespace survey {

inline graph_rows survey_graph(scale how) {
  const unsigned log_vertices = how == scale::paper ? 20 : how == scale::executor ? 15 : 12;
  return make_rmat(log_vertices, 8, 1);
}

template <allocator_adapter A>
void add_graph_cases() {
  add_case<A>(
      "survey", 9, "survey/graph", "build and batches of updates, a power-law graph",
      [](const run_context& run) { return run_graph_on<A>(run, survey_graph(scale_of(run)), {}); });
  add_case<A>("survey", 14, "survey/gallatin-expansion", "every degree doubled, again and again",
              [](const run_context& run) {
                return run_graph_on<A>(run, survey_graph(scale_of(run)),
                                       {.updates = false, .doublings = 3});
              });
}

}  // namespace survey
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
