// Who frees, who runs beside, and what is left when memory is out: the settings of real programs
// that benchmarks of allocators leave out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/device_lanes.cuh"
#include "bench/rounds.cuh"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {
namespace device_suite {

/// Frees the objects that other warps made: object i is freed `apart` further on.
template <class Handle>
__global__ void give_rotated_kernel(Handle heap, void** objects, std::size_t count,
                                    std::size_t apart) {
  const std::size_t i = global_thread();
  if (i < count) heap.free(objects[(i + apart) % count]);
}

/// Each lane allocates, marks and frees, over and over.
template <class Handle>
__global__ void pairs_kernel_of(Handle heap, std::size_t count, unsigned rounds, std::uint32_t size,
                                finding* found) {
  const std::size_t i = global_thread();
  if (i >= count) return;
  for (unsigned round = 0; round < rounds; ++round) {
    auto* p = static_cast<volatile std::uint32_t*>(heap.malloc(size));
    if (p == nullptr) {
      atomicAdd(&found->nulls, 1ull);
      continue;
    }
    const auto mark = static_cast<std::uint32_t>(i * rounds + round);
    p[0] = mark;
    p[size / 4 - 1] = mark;
    if (p[0] != mark || p[size / 4 - 1] != mark || reinterpret_cast<std::uintptr_t>(p) % 16 != 0)
      atomicAdd(&found->wrong, 1ull);
    heap.free(const_cast<std::uint32_t*>(p));
  }
}

/// A neighbour that does not allocate: multiplications on its own data.
template <class Index>
__global__ void compute_kernel(float* data, Index count, unsigned rounds) {
  const auto i = static_cast<Index>(global_thread());
  if (i >= count) return;
  float x = data[i];
  for (unsigned round = 0; round < rounds; ++round) x = x * 1.0001f + 0.5f;
  data[i] = x;
}

inline std::size_t lanes_of(scale how) {
  return how == scale::paper ? 1u << 18 : how == scale::executor ? 1u << 14 : 1u << 12;
}

/// malloc and free of each allocator in one kernel.
template <allocator_adapter A>
result run_pairs_of(const run_context& run) {
  using handle = typename A::handle;
  const std::size_t lanes = lanes_of(scale_of(run));
  const unsigned rounds = 16;
  device_array<finding> found(1);
  result out;
  for (const std::uint32_t size : {16, 256}) {
    require_sizes<A>(size);
    A allocator(run.reserve_bytes);
    launch(1, block_threads, pairs_kernel_of<handle>, allocator.device(), 0, rounds, size,
           found.data());
    synchronize();
    timings pair("pair", run.wanted.warm_ups(), {{"size_bytes", std::uint64_t{size}}});
    const point_clock clock(run);
    for (unsigned i = 0; clock.wants(i); ++i) {
      run.repetition(i);
      pair.add(time_of([&] {
                 launch(blocks_for(lanes), block_threads, pairs_kernel_of<handle>,
                        allocator.device(), lanes, rounds, size, found.data());
               }),
               lanes * rounds);
      count_findings<A>(run, found, lanes * rounds, lanes * size, "malloc and free in one kernel");
      rest(allocator);
    }
    out.operations.push_back(pair.finish());
  }
  out.params = {{"lanes", std::uint64_t{lanes}}, {"rounds", std::uint64_t{rounds}}};
  return out;
}

/// The same objects, freed by whoever.
template <allocator_adapter A>
result run_free_by(const run_context& run) {
  using handle = typename A::handle;
  const std::size_t count = 8 * lanes_of(scale_of(run));
  const size_plan plan{64, 64};
  result out;
  heap_figures figures;
  for (const std::string by : {"maker", "another_lane", "another_warp", "another_stream", "host"}) {
    if (by == "host" && !is_warpheap<A>) continue;  // what no other allocator can
    A allocator(run.reserve_bytes);
    object_rounds<A> rounds(allocator, count);
    launch(1, block_threads, give_rotated_kernel<handle>, allocator.device(),
           rounds.objects().data(), 0, 1);
    synchronize();
    stream other;
    timings give("free", run.wanted.warm_ups(), {{"by", by}});
    const point_clock clock(run);
    unsigned i = 0;
    for (; clock.wants(i); ++i) {
      run.repetition(i);
      rounds.take(count, plan);
      rounds.write();
      rounds.verify();
      const std::vector<void*> objects = rounds.objects().to_host();
      const stopwatch clock;
      if (by == "host") {
        if (heap* tested = heap_of(allocator)) {
          for (void* p : objects) tested->free(p);
          tested->synchronize();
        }
      } else {
        const std::size_t apart = by == "maker" ? 0 : by == "another_lane" ? 1 : 32 * 5;
        const launch_options shape{blocks_for(count), block_threads, 0,
                                   by == "another_stream" ? &other : nullptr};
        launch(shape, give_rotated_kernel<handle>, allocator.device(), rounds.objects().data(),
               count, apart);
        synchronize();
      }
      give.add(read(clock), count);
      rest(allocator);
    }
    figures.end(allocator, count * i);
    run.count(count * i, rounds.nulls());
    if constexpr (is_warpheap<A>)
      require_served(rounds.nulls(), count * i, count * plan.most, run.reserve_bytes);
    out.operations.push_back(give.finish());
  }
  out.params = {{"objects", std::uint64_t{count}},
                {"freed_in", std::string("another kernel, or on the host")},
                {"clock", std::string("host, launch included")}};
  out.heap = figures.use();
  return out;
}

/// Objects that nobody writes to, and objects that are written in full: what the first touch of
/// memory, and lines that are in a cache already, do to malloc and free.
template <allocator_adapter A>
result run_touch(const run_context& run) {
  const std::size_t count = 4 * lanes_of(scale_of(run));
  result out;
  for (const std::uint32_t size : {64, 1024})
    for (const bool touched : {false, true}) {
      require_sizes<A>(size);
      const size_plan plan{size, size};
      const fields at = {{"size_bytes", std::uint64_t{size}},
                         {"touched", std::string(touched ? "in full" : "never")}};
      A allocator(run.reserve_bytes);
      object_rounds<A> rounds(allocator, count);
      timings take("malloc", run.wanted.warm_ups(), at);
      timings give("free", run.wanted.warm_ups(), at);
      const point_clock clock(run);
      unsigned i = 0;
      for (; clock.wants(i); ++i) {
        run.repetition(i);
        take.add(rounds.take(count, plan), count);
        if (touched) {
          rounds.write();
          rounds.verify();
        }
        give.add(rounds.give(), count);
        rest(allocator);
      }
      // Once more, for what is checked by writing.
      rounds.take(count, plan);
      rounds.write();
      rounds.verify();
      rounds.give();
      rest(allocator);
      const std::uint64_t made = count * (i + 1);
      run.count(made, rounds.nulls());
      if constexpr (is_warpheap<A>)
        require_served(rounds.nulls(), made, count * size, run.reserve_bytes);
      out.operations.push_back(take.finish());
      if (adapter_frees<A>()) out.operations.push_back(give.finish());
    }
  out.params = {{"objects", std::uint64_t{count}}};
  return out;
}

/// Several kernels at once, each on a stream of its own.
template <allocator_adapter A>
result run_streams(const run_context& run) {
  using handle = typename A::handle;
  const std::size_t lanes = lanes_of(scale_of(run)) / 2;
  const unsigned rounds = 16;
  device_array<finding> found(1);
  result out;
  for (const unsigned kernels : {1u, 2u, 4u, 8u}) {
    A allocator(run.reserve_bytes);
    std::vector<stream> streams(kernels);
    launch(1, block_threads, pairs_kernel_of<handle>, allocator.device(), 0, rounds, 64,
           found.data());
    synchronize();
    timings pair("pair", run.wanted.warm_ups(), {{"kernels", std::uint64_t{kernels}}});
    const point_clock clock(run);
    for (unsigned i = 0; clock.wants(i); ++i) {
      run.repetition(i);
      const stopwatch clock;
      for (stream& one : streams)
        launch(one, blocks_for(lanes), block_threads, pairs_kernel_of<handle>, allocator.device(),
               lanes, rounds, 64, found.data());
      synchronize();
      pair.add(read(clock), std::uint64_t{lanes} * rounds * kernels);
      count_findings<A>(run, found, std::uint64_t{lanes} * rounds * kernels, lanes * kernels * 64,
                        "several kernels at once");
      rest(allocator);
    }
    out.operations.push_back(pair.finish());
  }
  out.params = {{"lanes_per_kernel", std::uint64_t{lanes}}, {"rounds", std::uint64_t{rounds}}};
  return out;
}

/// How much longer a kernel takes that does not allocate, beside one that does.
template <allocator_adapter A>
result run_neighbour(const run_context& run) {
  using handle = typename A::handle;
  const std::size_t lanes = lanes_of(scale_of(run));
  const unsigned rounds = run.backend == backend_kind::cuda ? 20'000 : 2'000;
  device_array<float> data(lanes);
  device_array<finding> found(1);
  A allocator(run.reserve_bytes);
  stream of_neighbour;
  stream of_allocator;
  launch(1, block_threads, pairs_kernel_of<handle>, allocator.device(), 0, 1u, 64, found.data());
  launch(1, block_threads, compute_kernel<std::size_t>, data.data(), 0, 1u);
  synchronize();
  // As many pairs as keep the allocating kernel busy for three times as long.
  const auto pairs_ns = [&](unsigned pairs) {
    return time_of([&] {
             launch(blocks_for(lanes / 4), block_threads, pairs_kernel_of<handle>,
                    allocator.device(), lanes / 4, pairs, 64, found.data());
           })
        .ns;
  };
  const double neighbour_ns = time_of([&] {
                                launch(blocks_for(lanes), block_threads,
                                       compute_kernel<std::size_t>, data.data(), lanes, rounds);
                              }).ns;
  pairs_ns(16);
  const double a_pair_ns = pairs_ns(16) / 16;
  const auto pairs = static_cast<unsigned>(std::clamp(3 * neighbour_ns / a_pair_ns, 16.0, 1e6));
  count_findings<A>(run, found, lanes / 4 * 32, lanes / 4 * 64, "before the neighbour");
  rest(allocator);
  timings alone("neighbour", run.wanted.warm_ups(), {{"beside", std::string("nothing")}});
  timings beside("neighbour", run.wanted.warm_ups(), {{"beside", std::string(A::name)}});
  const point_clock clock(run);
  for (unsigned i = 0; clock.wants(i); ++i) {
    run.repetition(i);
    for (const bool allocating : {false, true}) {
      if (allocating)
        launch(of_allocator, blocks_for(lanes / 4), block_threads, pairs_kernel_of<handle>,
               allocator.device(), lanes / 4, pairs, 64, found.data());
      // CPU time would be that of both kernels.
      const stopwatch clock;
      launch(of_neighbour, blocks_for(lanes), block_threads, compute_kernel<std::size_t>,
             data.data(), lanes, rounds);
      of_neighbour.synchronize();
      (allocating ? beside : alone).add({read(clock).ns, std::nullopt}, lanes);
      synchronize();
      count_findings<A>(run, found, allocating ? std::uint64_t{lanes} / 4 * pairs : 0,
                        lanes / 4 * 64, "beside a neighbour");
      rest(allocator);
    }
  }
  result out;
  out.params = {{"lanes", std::uint64_t{lanes}},
                {"multiplications", std::uint64_t{rounds}},
                {"pairs_per_lane_beside", std::uint64_t{pairs}}};
  out.metrics = {{"slow_down_ratio", beside.ns_per_op() / alone.ns_per_op()}};
  out.operations = {alone.finish(), beside.finish()};
  return out;
}

/// How fast "no memory" is said: the heap is full, and every lane asks once more.
template <allocator_adapter A>
result run_null(const run_context& run) {
  using handle = typename A::handle;
  constexpr std::size_t bytes = std::size_t{32} << 20;
  constexpr std::uint32_t size = 4096;
  require_sizes<A>(size);
  constexpr std::size_t filled = bytes / size + 1024;
  const std::size_t asked = 1024;
  result out;
  out.params = {{"heap_bytes", std::uint64_t{bytes}}, {"asked", std::uint64_t{asked}}};
  for (const bool service : {true, false}) {
    if (!service && !is_warpheap<A>) continue;
    A allocator(bytes);
    object_rounds<A> fill(allocator, filled);
    fill.take(filled, {size, size});
    fill.write();
    if (fill.nulls() == 0)
      throw integrity_error("a heap of " + format_bytes(bytes)
                            + ": expected a null pointer, found more memory than it has");
    if (heap* tested = heap_of(allocator); tested != nullptr && !service)
      tested->stop_refill_service();
    device_array<void*> objects(asked);
    device_array<std::uint32_t> ticks(asked);
    std::vector<double> all;
    for (unsigned i = 0; i < run.repetitions() + 1; ++i) {
      run.repetition(i);
      launch(blocks_for(asked), block_threads, latency_kernel<handle>, allocator.device(),
             objects.data(), asked, size, ticks.data());
      synchronize();
      const auto got = objects.to_host();
      const auto served = static_cast<std::size_t>(
          std::count_if(got.begin(), got.end(), [](const void* p) { return p != nullptr; }));
      launch(blocks_for(asked), block_threads, give_kernel<handle>, allocator.device(),
             objects.data(), asked, 0u);
      synchronize();
      run.count(asked, asked - served);
      if (i == 0) continue;  // the last free slots
      const auto took = ticks.to_host();
      for (std::size_t k = 0; k < asked; ++k)
        if (got[k] == nullptr) all.push_back(tick_ns() * took[k]);
      if (served == asked) break;
    }
    if (!all.empty()) add_latency(out, service ? "null" : "null_service_stopped", std::move(all));
    run.count(filled, fill.nulls());
    fill.verify();
    fill.give();
    if (heap* tested = heap_of(allocator); tested != nullptr && !service)
      tested->start_refill_service();
    rest(allocator);
  }
  return out;
}

template <allocator_adapter A>
void add_traffic_cases() {
  add_case<A>("device", 3, "device/pairs", "malloc and free in one kernel", run_pairs_of<A>);
  add_case<A>("device", 5, "device/streams", "several kernels at once", run_streams<A>);
  add_case<A>("device", 6, "device/touch", "objects never written to, and written in full",
              run_touch<A>);
  add_case<A>("device", 7, "device/time-to-null", "how fast a full heap says so", run_null<A>);
  if constexpr (adapter_frees<A>()) {
    add_case<A>("device", 4, "device/free-by", "freed by the maker, another warp, stream, the host",
                run_free_by<A>);
    add_case<A>("device", 6, "device/neighbour", "slow-down of a kernel that does not allocate",
                run_neighbour<A>);
  }
}

}  // namespace device_suite
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
