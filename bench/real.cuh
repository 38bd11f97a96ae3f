// Real inputs on any allocator: graphs, and the traces of real programs replayed in kernels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/real_inputs.hpp"
#include "bench/rounds.cuh"
#include "bench/survey_graph.cuh"
#include "bench/trace.hpp"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {
namespace real {

/// Each lane makes the calls of its own objects, in their order. With `check` every object carries
/// its number at both ends, frees look for it, and addresses are to be multiples of the power of
/// two that the size is, `aligned_to` at most.
template <class Handle>
__global__ void replay_kernel(Handle heap, void** objects, const std::uint64_t* sizes,
                              const trace_event* events, const std::uint32_t* begins,
                              std::uint32_t lanes, bool check, std::uint32_t aligned_to,
                              unsigned long long* nulls, unsigned long long* wrong) {
  const std::size_t lane = global_thread();
  if (lane >= lanes) return;
  for (std::uint32_t e = begins[lane]; e < begins[lane + 1]; ++e) {
    const std::uint32_t object = events[e].object;
    const auto mark = static_cast<unsigned char>(object * 31 + 7);
    const std::uint64_t size = sizes[object];
    if (!events[e].is_free) {
      void* p = heap.malloc(size);
      objects[object] = p;
      if (p == nullptr)
        atomicAdd(nulls, 1ull);
      else if (check && size != 0) {
        const auto bytes = static_cast<std::uint32_t>(size >> 32 == 0 ? size : 4096);
        if (reinterpret_cast<std::uintptr_t>(p)
                % size_plan{bytes, bytes, aligned_to}.alignment(bytes)
            != 0)
          atomicAdd(wrong, 1ull);
        static_cast<unsigned char*>(p)[0] = mark;
        static_cast<unsigned char*>(p)[size - 1] = mark;
      }
      continue;
    }
    void* p = objects[object];
    if (p == nullptr) continue;
    if (check && size != 0
        && (static_cast<unsigned char*>(p)[0] != mark
            || static_cast<unsigned char*>(p)[size - 1] != mark))
      atomicAdd(wrong, 1ull);
    heap.free(p);
  }
}

template <allocator_adapter A>
result run_replay(const run_context& run, const trace& what) {
  using handle = typename A::handle;
  require_events(what);
  require_sizes<A>(*std::max_element(what.sizes.begin(), what.sizes.end()));
  const auto lanes = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(what.objects(), run.backend == backend_kind::cuda ? 8192 : 1024));
  const lane_events split = split_by_lane(what, lanes);
  const device_array<trace_event> events{std::span<const trace_event>(split.events)};
  const device_array<std::uint32_t> begins{std::span<const std::uint32_t>(split.begins)};
  const device_array<std::uint64_t> sizes{std::span<const std::uint64_t>(what.sizes)};
  device_array<void*> objects(what.objects());
  device_array<unsigned long long> nulls(1);
  device_array<unsigned long long> wrong(1);
  A allocator(run.reserve_bytes);
  const auto replay = [&](std::uint32_t of, bool check) {
    return time_of([&] {
      launch(blocks_for(lanes), block_threads, replay_kernel<handle>, allocator.device(),
             objects.data(), sizes.data(), events.data(), begins.data(), of, check,
             is_warpheap<A> ? 128u : 16u, nulls.data(), wrong.data());
    });
  };
  replay(0, false);  // loads the kernel
  timings event("event", run.wanted.warm_ups());
  const point_clock clock(run);
  unsigned i = 0;
  for (; clock.wants(i); ++i) {
    run.repetition(i);
    event.add(replay(lanes, false), what.events.size());
    rest(allocator);
    const auto count = [&] {
      const std::uint64_t found = nulls.to_host().front();
      nulls.clear();
      run.count(what.objects(), found);
      // Lanes are not where the program was: all of its objects may be live at once.
      if constexpr (is_warpheap<A>)
        require_served(found, what.objects(), what.total_bytes, run.reserve_bytes);
    };
    count();
    if (i == 0) {  // the same once more, with its contents checked, outside of the time
      replay(lanes, true);
      if (const auto found = wrong.to_host().front(); found != 0)
        throw integrity_error("replay of '" + what.source + "': expected every object as it was "
                              "written, found " + std::to_string(found) + " that are not");
      rest(allocator);
      count();
    }
  }
  result out;
  out.params = {{"source", what.source},
                {"events", std::uint64_t{what.events.size()}},
                {"objects", what.objects()},
                {"lanes", std::uint64_t{lanes}}};
  out.operations = {event.finish()};
  out.metrics = {{"peak_bytes_of_the_trace", what.peak_bytes},
                 {"total_bytes_of_the_trace", what.total_bytes}};
  return out;
}

template <allocator_adapter A>
void add_real_cases() {
  struct graph_case {
    const char* name;
    const char* summary;
    graph_rows (*load)(const run_context&);
  };
  for (const graph_case& one :
       {graph_case{"real/graph-debian", "the Debian packages: build, updates", debian_graph},
        graph_case{"real/graph-rmat", "R-MAT: few vertices with very many edges", rmat_graph},
        graph_case{"real/graph-roads", "a road network: small degrees", road_graph},
        graph_case{"real/graph-file", "the graph of --graph FILE", file_graph}})
    add_case<A>("real", 1, one.name, one.summary, [load = one.load](const run_context& run) {
      return run_graph_on<A>(run, load(run), {});
    });
  struct trace_case {
    const char* name;
    const char* summary;
    const trace& (*load)(const run_context&);
  };
  for (const trace_case& one :
       {trace_case{"real/trace-perl", "perl counting words, replayed in a kernel", perl_trace},
        trace_case{"real/trace-compiler", "a compiler at work, replayed in a kernel",
                   compiler_trace},
        trace_case{"real/trace-file", "the trace of --trace FILE, in a kernel", file_trace}})
    add_case<A>("real", 2, one.name, one.summary, [load = one.load](const run_context& run) {
      return run_replay<A>(run, load(run));
    });
}

}  // namespace real
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
