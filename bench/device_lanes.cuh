// How the shape of a request matters: how many lanes of a warp ask, whether for the same size, and
// what one call costs the lane that makes it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/rounds.cuh"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {
namespace device_suite {

/// The first `active` lanes of each warp allocate; sizes are the same, or differ from lane to lane.
struct lane_plan {
  unsigned active;
  std::uint32_t size;
  bool different;

  __device__ std::uint32_t of(unsigned lane) const { return different ? 16 * (lane + 1) : size; }
};

template <class Handle>
__global__ void lanes_take_kernel(Handle heap, void** objects, std::size_t warps, lane_plan plan) {
  const std::size_t i = global_thread();
  if (i / 32 < warps && lane_id() < plan.active) objects[i] = heap.malloc(plan.of(lane_id()));
}

template <class Handle>
__global__ void lanes_give_kernel(Handle heap, void** objects, std::size_t warps, lane_plan plan) {
  const std::size_t i = global_thread();
  if (i / 32 >= warps || lane_id() >= plan.active) return;
  heap.free(objects[i]);
  objects[i] = nullptr;
}

/// What the kernels of these cases found: objects that are not where or what they must be, and null
/// pointers.
struct finding {
  unsigned long long wrong;
  unsigned long long nulls;
};

/// Addresses are multiples of 16, or of the power of two that a smaller size is.
__device__ inline bool is_aligned(const void* p, std::uint32_t size) {
  return reinterpret_cast<std::uintptr_t>(p) % size_plan{size, size, 16}.alignment(size) == 0;
}

/// Marks both ends of each object, and later counts the marks that are not there.
template <class Plan>
__global__ void mark_kernel(void* const* objects, std::size_t warps, Plan plan) {
  const std::size_t i = global_thread();
  if (i / 32 >= warps || lane_id() >= plan.active || objects[i] == nullptr) return;
  auto* words = static_cast<std::uint32_t*>(objects[i]);
  words[0] = static_cast<std::uint32_t>(i);
  words[plan.of(lane_id()) / 4 - 1] = static_cast<std::uint32_t>(i);
}

template <class Plan>
__global__ void count_wrong_kernel(void* const* objects, std::size_t warps, Plan plan,
                                   finding* found) {
  const std::size_t i = global_thread();
  if (i / 32 >= warps || lane_id() >= plan.active) return;
  const auto* words = static_cast<const std::uint32_t*>(objects[i]);
  if (words == nullptr)
    atomicAdd(&found->nulls, 1ull);
  else if (!is_aligned(words, plan.of(lane_id())) || words[0] != static_cast<std::uint32_t>(i)
           || words[plan.of(lane_id()) / 4 - 1] != static_cast<std::uint32_t>(i))
    atomicAdd(&found->wrong, 1ull);
}

/// Counts `mallocs` and what was found since the last call. Throws integrity_error for objects that
/// were wrong, and for null pointers of this heap where `live_bytes` at most were asked for at
/// once.
template <class A>
void count_findings(const run_context& run, device_array<finding>& found, std::uint64_t mallocs,
                    std::uint64_t live_bytes, const char* what) {
  const finding now = found.to_host().front();
  found.clear();
  run.count(mallocs, now.nulls);
  if (now.wrong != 0)
    throw integrity_error(std::string(what) + ": expected every object as it was written, found "
                          + std::to_string(now.wrong) + " that are not whole or not aligned");
  if constexpr (is_warpheap<A>) require_served(now.nulls, mallocs, live_bytes, run.reserve_bytes);
}

template <allocator_adapter A>
result run_lanes(const run_context& run) {
  using handle = typename A::handle;
  const scale how = scale_of(run);
  require_sizes<A>(16 * 32);
  const std::size_t warps = how == scale::paper ? 32'768 : how == scale::executor ? 8'192 : 2'048;
  device_array<void*> objects(warps * 32);
  device_array<finding> found(1);
  result out;
  std::vector<std::pair<lane_plan, fields>> plans;
  for (const unsigned active : {1u, 2u, 4u, 8u, 16u, 32u})
    plans.push_back({{active, 64, false},
                     {{"active_lanes", std::uint64_t{active}}, {"sizes", std::string("same")}}});
  for (const unsigned active : {2u, 8u, 32u})
    plans.push_back(
        {{active, 0, true},
         {{"active_lanes", std::uint64_t{active}}, {"sizes", std::string("different")}}});
  heap_figures figures;
  for (const auto& point : plans) {
    const lane_plan& plan = point.first;
    const fields& at = point.second;
    A allocator(run.reserve_bytes);
    const dim3 grid = blocks_for(warps * 32);
    launch(1, block_threads, lanes_take_kernel<handle>, allocator.device(), objects.data(), 0,
           plan);
    launch(1, block_threads, lanes_give_kernel<handle>, allocator.device(), objects.data(), 0,
           plan);
    synchronize();
    timings take("malloc", run.wanted.warm_ups(), at);
    timings give("free", run.wanted.warm_ups(), at);
    const std::uint64_t made = std::uint64_t{warps} * plan.active;
    const point_clock clock(run);
    unsigned i = 0;
    for (; clock.wants(i); ++i) {
      run.repetition(i);
      take.add(time_of([&] {
                 launch(grid, block_threads, lanes_take_kernel<handle>, allocator.device(),
                        objects.data(), warps, plan);
               }),
               made);
      launch(grid, block_threads, mark_kernel<lane_plan>, objects.data(), warps, plan);
      launch(grid, block_threads, count_wrong_kernel<lane_plan>, objects.data(), warps, plan,
             found.data());
      synchronize();
      count_findings<A>(run, found, made, made * (plan.different ? 16 * 32 : plan.size),
                        "objects of some lanes");
      give.add(time_of([&] {
                 launch(grid, block_threads, lanes_give_kernel<handle>, allocator.device(),
                        objects.data(), warps, plan);
               }),
               made);
      rest(allocator);
    }
    figures.end(allocator, made * i);
    out.operations.push_back(take.finish());
    if (adapter_frees<A>()) out.operations.push_back(give.finish());
  }
  out.params = {{"warps", std::uint64_t{warps}}};
  out.heap = figures.use();
  return out;
}

/// Ticks of the lane's clock that one malloc, and one free, took.
template <class Handle>
__global__ void latency_kernel(Handle heap, void** objects, std::size_t count, std::uint32_t size,
                               std::uint32_t* malloc_ticks) {
  const std::size_t i = global_thread();
  if (i >= count) return;
  const long long begin = clock64();
  objects[i] = heap.malloc(size);
  const long long ticks = clock64() - begin;
  malloc_ticks[i] = static_cast<std::uint32_t>(ticks < 0xffffffff ? ticks : 0xffffffff);
}

template <class Handle>
__global__ void free_latency_kernel(Handle heap, void** objects, std::size_t count,
                                    std::uint32_t* ticks) {
  const std::size_t i = global_thread();
  if (i >= count) return;
  const long long begin = clock64();
  heap.free(objects[i]);
  const long long took = clock64() - begin;
  ticks[i] = static_cast<std::uint32_t>(took < 0xffffffff ? took : 0xffffffff);
}

/// Nanoseconds of one tick of clock64().
inline double tick_ns() {
#ifdef __CUDACC__
  int device = 0;
  int kilohertz = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, device), "clock rate");
  return 1e6 / static_cast<double>(kilohertz);
#else
  return 1;
#endif
}

/// p50, p99, the maximum, and the distribution as a curve over a logarithmic axis.
inline void add_latency(result& out, const std::string& name, std::vector<double> ns) {
  std::sort(ns.begin(), ns.end());
  out.metrics.emplace_back(name + "_p50_ns", quantile(ns, 0.5));
  out.metrics.emplace_back(name + "_p99_ns", quantile(ns, 0.99));
  out.metrics.emplace_back(name + "_max_ns", ns.back());
  series curve{name + "_latency", "latency (ns)", "share of calls that take no longer", {}};
  for (double limit = 1; limit < 2 * ns.back() + 2; limit *= std::pow(2.0, 0.25)) {
    const auto upto = std::upper_bound(ns.begin(), ns.end(), limit) - ns.begin();
    if (upto != 0)
      curve.points.emplace_back(limit, static_cast<double>(upto) / static_cast<double>(ns.size()));
  }
  out.curves.push_back(std::move(curve));
}

template <allocator_adapter A>
result run_latency(const run_context& run) {
  using handle = typename A::handle;
  const scale how = scale_of(run);
  const std::size_t count = how == scale::paper      ? 1u << 20
                            : how == scale::executor ? 1u << 17
                                                     : 1u << 15;
  constexpr std::uint32_t size = 64;
  const double tick = tick_ns();
  require_sizes<A>(size);
  device_array<void*> objects(count);
  device_array<std::uint32_t> ticks(count);
  device_array<fault> faults(1);
  const size_plan plan{size, size, is_warpheap<A> ? 128u : 16u};
  A allocator(run.reserve_bytes);
  launch(1, block_threads, latency_kernel<handle>, allocator.device(), objects.data(), 0, size,
         ticks.data());
  launch(1, block_threads, free_latency_kernel<handle>, allocator.device(), objects.data(), 0,
         ticks.data());
  synchronize();
  const auto in_ns = [&] {
    std::vector<double> out;
    for (const std::uint32_t one : ticks.to_host()) out.push_back(tick * one);
    return out;
  };
  result out;
  std::uint64_t nulls = 0;
  std::vector<double> mallocs;
  std::vector<double> frees;
  for (unsigned i = 0; i < run.repetitions(); ++i) {
    run.repetition(i);
    launch(blocks_for(count), block_threads, latency_kernel<handle>, allocator.device(),
           objects.data(), count, size, ticks.data());
    synchronize();
    const auto taken = in_ns();
    launch(blocks_for(count), block_threads, write_kernel<size_plan>, objects.data(), count, plan,
           faults.data());
    launch(blocks_for(count), block_threads, verify_kernel<size_plan>, objects.data(), count, plan,
           faults.data());
    synchronize();
    const std::uint64_t so_far = nulls;
    nulls = faults.to_host().front().nulls;
    run.count(count, nulls - so_far);
    require_sound(faults);
    if constexpr (is_warpheap<A>)
      require_served(nulls - so_far, count, count * size, run.reserve_bytes);
    if (i == 0)
      add_latency(out, "cold_malloc", taken);
    else
      mallocs.insert(mallocs.end(), taken.begin(), taken.end());
    launch(blocks_for(count), block_threads, free_latency_kernel<handle>, allocator.device(),
           objects.data(), count, ticks.data());
    synchronize();
    const auto given = in_ns();
    if (i != 0) frees.insert(frees.end(), given.begin(), given.end());
    rest(allocator);
  }
  if (!mallocs.empty()) add_latency(out, "malloc", std::move(mallocs));
  if (!frees.empty() && adapter_frees<A>()) add_latency(out, "free", std::move(frees));
  out.params = {{"objects", std::uint64_t{count}}, {"size_bytes", std::uint64_t{size}}};
  return out;
}

template <allocator_adapter A>
void add_lane_cases() {
  add_case<A>("device", 1, "device/lanes", "1 to 32 lanes of a warp at once, sizes alike or not",
              run_lanes<A>);
  add_case<A>("device", 2, "device/latency", "time of one call: p50, p99, the longest",
              run_latency<A>);
}

}  // namespace device_suite
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
