// The dependency graph of the Debian packages, kept in the heap by kernels.
// Built, updated in batches and freed by the kernels of graph_kernels.cuh; compared with a graph on
// the host after the build and after every batch.
#include <warpheap/device_heap.cuh>
#include <warpheap/heap.hpp>

#include "bench/debian_packages.hpp"
#include "bench/device_tools.cuh"
#include "bench/graph_kernels.cuh"
#include "bench/graph_reference.hpp"
#include "bench/measure.hpp"
#include "bench/registry.hpp"

namespace warpheap::bench {
namespace {

struct graph_times {
  timings build{"build"};
  timings insert{"insert"};
  timings erase{"delete"};
  timings focused_insert{"focused_insert"};  // 64 sources only
  timings focused_erase{"focused_delete"};
  timings free{"free"};

  timings& of(const update_batch& batch) {
    if (batch.kind == batch_kind::focused_sources)
      return batch.inserts ? focused_insert : focused_erase;
    return batch.inserts ? insert : erase;
  }
};

result run_graph(const run_context& run) {
  run.step("reads the package lists");
  const package_graph input = load_package_graph({}, run.wanted.quick ? 100'000 : 1'000'000);
  if (input.edges() == 0)
    throw no_input("no packages in /var/lib/apt/lists and /var/lib/dpkg/status");
  const std::size_t updates = 10'000;
  const unsigned rounds = run.wanted.quick ? 1 : 3;

  heap tested(run.heap_of_case());
  heap_graph<device_heap> graph(run, device_heap(tested.device()), input);
  graph_times times;
  std::uint64_t mallocs = 0;
  std::uint64_t frees = 0;
  heap_snapshot full;
  std::uint64_t payload = 0;
  const unsigned repetitions = run.wanted.repetitions();
  for (unsigned i = 0; i < repetitions; ++i) {
    const std::string name = "repetition " + std::to_string(i + 1);
    run.step(name + ": build");
    reference_graph reference(input);
    std::mt19937_64 random(i);
    std::uint64_t malloc_bytes = 0;
    std::uint64_t free_bytes = 0;
    const auto counted = [&] {
      mallocs += graph.counts().mallocs;
      frees += graph.counts().frees;
      malloc_bytes += graph.counts().malloc_bytes;
      free_bytes += graph.counts().free_bytes;
    };
    times.build.add(graph.build(), input.edges());
    counted();
    graph.require_equal(reference, name + ", after the build");
    full = snapshot(tested);
    payload = malloc_bytes - free_bytes;

    for (unsigned round = 0; round < rounds; ++round) {
      for (const auto kind : {batch_kind::random_sources, batch_kind::focused_sources})
        for (const bool inserts : {true, false}) {
          const std::string which =
              name + ", after " + (inserts ? "inserts" : "deletes") + " of round "
              + std::to_string(round + 1)
              + (kind == batch_kind::focused_sources ? ", focused" : ", random");
          run.step(which);
          const update_batch batch = make_batch(reference, inserts, kind, updates, random);
          times.of(batch).add(graph.update(batch), batch.updates.size());
          counted();
          const std::size_t changed = apply(reference, batch);
          if (graph.counts().changes != changed)
            throw integrity_error(which + ": expected " + std::to_string(changed)
                                  + " changed edges, found "
                                  + std::to_string(graph.counts().changes));
          graph.require_equal(reference, which);
        }
    }
    run.step(name + ": free");
    const elapsed took = graph.destroy();
    counted();
    times.free.add(took, graph.counts().frees);
    if (malloc_bytes != free_bytes)
      throw integrity_error(name + ": expected " + std::to_string(malloc_bytes)
                            + " bytes freed, found " + std::to_string(free_bytes));
    require_empty(tested, name + ", after everything was freed");
  }

  result out;
  out.params = {{"packages", std::uint64_t{input.packages}},
                {"vertices", std::uint64_t{input.vertices()}},
                {"edges", std::uint64_t{input.edges()}},
                {"updates_per_batch", std::uint64_t{updates}},
                {"batches", std::uint64_t{4 * rounds}}};
  out.operations = {times.build.finish(),         times.insert.finish(),
                    times.erase.finish(),         times.focused_insert.finish(),
                    times.focused_erase.finish(), times.free.finish()};
  out.heap = usage(full, snapshot(tested), payload, mallocs);
  out.metrics = {{"payload_bytes", payload}, {"frees", frees}};
  for (const auto& source : input.sources)
    out.metrics.emplace_back("source_" + std::to_string(out.metrics.size() - 1), source);
  return out;
}

const registration of_graph({"debian-graph",
                             "adjacency lists of the Debian packages: build, update, free",
                             this_backend, 2, run_graph});

}  // namespace
}  // namespace warpheap::bench
