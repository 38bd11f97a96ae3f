// Operations of one malloc and one free, counted on the executor, and what they let expect of a
// GPU.
//
// Compiled for the executor alone, against the headers in shim/, which are found before the real
// ones.
#include <algorithm>
#include <string>
#include <vector>

#include <warpheap/device_heap.cuh>
#include <warpheap/heap.hpp>

#include "bench/device_tools.cuh"
#include "bench/measure.hpp"
#include "bench/model/count.hpp"
#include "bench/model/estimate.hpp"
#include "bench/model/warm_call.hpp"
#include "bench/registry.hpp"

namespace warpheap::bench {
namespace {

/// Sums over calls; one for each block that ran.
struct call_sums {
  std::uint64_t calls, loads, atomics, compare_exchanges, stores, sectors, chain_loads,
      chain_atomics;
};

void begin_call() {
  __syncwarp();
  if (lane_id() == 0) {
    model::of_this_warp = {};
    model::of_this_warp.counting = true;
  }
  __syncwarp();
}

void end_call(call_sums* sums) {
  __syncwarp();
  if (lane_id() != 0) return;
  model::call_record& now = model::of_this_warp;
  now.counting = false;
  call_sums& mine = sums[blockIdx.x];
  ++mine.calls;
  mine.loads += now.loads;
  mine.atomics += now.atomics;
  mine.compare_exchanges += now.compare_exchanges;
  mine.stores += now.stores;
  mine.sectors += now.sectors.size();
  mine.chain_loads += *std::max_element(now.chain_loads.begin(), now.chain_loads.end());
  mine.chain_atomics += *std::max_element(now.chain_atomics.begin(), now.chain_atomics.end());
}

__global__ void counted_kernel(device_heap heap, void** objects, std::uint32_t size,
                               unsigned active, bool frees, call_sums* sums) {
  const std::size_t i = global_thread();
  begin_call();
  if (lane_id() < active) {
    if (frees)
      heap.free(objects[i]);
    else
      objects[i] = heap.malloc(size);
  }
  end_call(sums);
}

model::counts means(const device_array<call_sums>& all) {
  call_sums sum{};
  for (const call_sums& one : all.to_host()) {
    sum.calls += one.calls;
    sum.loads += one.loads;
    sum.atomics += one.atomics;
    sum.stores += one.stores;
    sum.sectors += one.sectors;
    sum.chain_loads += one.chain_loads;
    sum.chain_atomics += one.chain_atomics;
  }
  const auto calls = static_cast<double>(sum.calls);
  const auto mean = [calls](std::uint64_t total) { return static_cast<double>(total) / calls; };
  return {mean(sum.loads),   mean(sum.atomics),     mean(sum.stores),
          mean(sum.sectors), mean(sum.chain_loads), mean(sum.chain_atomics)};
}

void add_estimates(result& out, const std::string& what, const model::counts& of, unsigned active) {
  const std::string per = what + "_per_warp_call_";
  out.metrics.emplace_back(per + "loads", of.loads);
  out.metrics.emplace_back(per + "atomics", of.atomics);
  out.metrics.emplace_back(per + "stores", of.stores);
  out.metrics.emplace_back(per + "l2_sectors", of.sectors);
  out.metrics.emplace_back(per + "chain_of_dependent_accesses", of.chain_loads + of.chain_atomics);
  for (const model::gpu& gpu : model::known_gpus()) {
    const std::string on = "ESTIMATE_" + std::string(gpu.name) + '_' + what;
    out.metrics.emplace_back(on + "_call_latency_ns", model::call_latency_ns(gpu, of));
    out.metrics.emplace_back(on + "_1M_objects_us", model::kernel_ns(gpu, of, 1e6 / active) / 1000);
  }
}

/// A warm heap, a warp in each block.
result run_model(const run_context& run, std::uint32_t size, unsigned active) {
  heap tested(run.heap_of_case());
  const device_heap dev = tested.device();
  const unsigned warps = run.wanted.quick ? 1024 : 8192;
  if (std::uint64_t{warps} * active * size / 4 * 9 > run.reserve_bytes)
    throw no_input("the objects do not fit into the heap");
  device_array<void*> objects(std::size_t{warps} * 32);
  device_array<call_sums> sums(warps);
  model::counts of_malloc;
  model::counts of_free;
  heap_snapshot before;
  heap_snapshot after;
  for (unsigned i = 0; i < 3; ++i) {
    run.step("round " + std::to_string(i + 1) + " of 3");
    if (i == 2) before = snapshot(tested);
    for (const bool frees : {false, true}) {
      sums.clear();
      launch(warps, 32, counted_kernel, dev, objects.data(), size, active, frees, sums.data());
      synchronize();
      (frees ? of_free : of_malloc) = means(sums);
      if (frees) continue;
      const auto got = objects.to_host();
      const auto found =
          std::count_if(got.begin(), got.end(), [](const void* p) { return p != nullptr; });
      const std::ptrdiff_t asked = std::ptrdiff_t{warps} * active;
      run.count(static_cast<std::uint64_t>(asked), static_cast<std::uint64_t>(asked - found));
      if (found != asked)
        throw integrity_error("expected " + std::to_string(warps * active) + " objects, found "
                              + std::to_string(found));
    }
    require_empty(tested, "after a counted round");
    if (i == 2) after = snapshot(tested);
  }
  result out;
  out.params = {{"size_bytes", std::uint64_t{size}},
                {"active_lanes", std::uint64_t{active}},
                {"warps", std::uint64_t{warps}},
                {"estimate", std::string("from published latencies, not measured")}};
  add_estimates(out, "malloc", of_malloc, active);
  add_estimates(out, "free", of_free, active);
  out.metrics.emplace_back("host_requests_per_million_mallocs",
                           1e6 * static_cast<double>(after.host_requests - before.host_requests)
                               / static_cast<double>(warps * active));
  return out;
}

struct registrations {
  registrations() {
    for (const std::uint32_t size : {8, 16, 256})
      for (const unsigned active : {32u, 1u})
        registration(
            {"device/model/" + std::to_string(size) + "B-" + std::to_string(active)
                 + (active == 1 ? "-lane" : "-lanes"),
             "counted accesses, and an estimate for GPUs made of them", this_backend, 11,
             [size, active](const run_context& run) { return run_model(run, size, active); },
             "device"});
  }
};

const registrations registered;

/// Each block of the kernel has made one call: the median of those with at least so many loads.
model::warm_call median_call(const device_array<call_sums>& all, std::uint64_t least_loads = 0) {
  std::vector<std::uint64_t> loads, atomics, exchanges;
  for (const call_sums& one : all.to_host()) {
    if (one.chain_loads < least_loads) continue;
    loads.push_back(one.chain_loads);
    atomics.push_back(one.atomics);
    exchanges.push_back(one.compare_exchanges);
  }
  if (loads.empty()) throw integrity_error("counted calls: none of the kind that is wanted");
  const auto median = [](std::vector<std::uint64_t>& of) {
    std::nth_element(of.begin(), of.begin() + of.size() / 2, of.end());
    return of[of.size() / 2];
  };
  return {median(loads), median(atomics), median(exchanges)};
}

}  // namespace

model::warm_calls model::count_warm_calls() {
  heap_options how;
  how.backend = this_backend;
  how.reserve_bytes = std::size_t{64} << 20;
  heap tested(how);
  // Of eight calls for objects of one word one at the most has to look for the next word.
  constexpr unsigned warps = 1024;
  device_array<void*> objects(std::size_t{warps} * 32);
  device_array<call_sums> sums(warps);
  const auto count = [&](unsigned size, unsigned lanes, bool frees) {
    sums.clear();
    launch(warps, 32, counted_kernel, device_heap(tested.device()), objects.data(), size, lanes,
           frees, sums.data());
    synchronize();
    const auto got = objects.to_host();
    if (!frees && got.size() - std::count(got.begin(), got.end(), nullptr) != warps * lanes)
      throw integrity_error("counted calls: expected memory, found a null pointer");
    return median_call(sums);
  };
  warm_calls out;
  for (unsigned i = 0; i < 2; ++i) {
    out.of_malloc = count(16, 8, false);
    out.of_refill = median_call(sums, out.of_malloc.loads + 1);
    out.of_free = count(16, 8, true);
  }
  objects.clear();
  for (unsigned i = 0; i < 2; ++i) {
    out.of_tiny_append = count(1, 1, false);
    count(1, 1, true);
  }
  require_empty(tested, "after the counted calls");
  return out;
}

}  // namespace warpheap::bench
