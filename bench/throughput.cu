// malloc and free in kernels, one object a lane, each object written and verified in full.
//
// A kernel that only allocates, one that only frees, timed apart; and "pairs", where each lane
// frees what it allocated at once.
#include <algorithm>

#include <warpheap/device_heap.cuh>
#include <warpheap/heap.hpp>

#include "bench/device_tools.cuh"
#include "bench/measure.hpp"
#include "bench/objects.cuh"
#include "bench/registry.hpp"

namespace warpheap::bench {
namespace {

__global__ void malloc_kernel(device_heap heap, void** objects, std::size_t count, size_plan plan) {
  const std::size_t i = global_thread();
  if (i < count) objects[i] = heap.malloc(plan.size(i));
}

__global__ void free_kernel(device_heap heap, void** objects, std::size_t count) {
  const std::size_t i = global_thread();
  if (i < count) heap.free(objects[i]);
}

/// Each lane allocates, marks and frees `rounds` objects, one after the other.
__global__ void pairs_kernel(device_heap heap, std::size_t count, unsigned rounds, size_plan plan,
                             fault* first) {
  const std::size_t i = global_thread();
  if (i >= count) return;
  for (unsigned round = 0; round < rounds; ++round) {
    const std::uint64_t number = i * rounds + round;
    const std::uint32_t size = plan.size(number);
    void* p = heap.malloc(size);
    if (p == nullptr) {
      atomicAdd(&first->nulls, 1ull);
      continue;
    }
    // An object that another lane gets at the same time shows here, if not always.
    volatile unsigned char* mark = static_cast<volatile unsigned char*>(p);
    const auto value = static_cast<unsigned char>(mixed(number));
    mark[0] = value;
    mark[size - 1] = value;
    const unsigned char found = mark[0];
    if (found != value) first->report(fault_kind::content, number, p, size, 0, value, found);
    heap.free(p);
  }
}

/// As many objects as the backend can be kept busy with, in at most two thirds of the heap.
std::size_t object_count(const run_context& run, size_plan plan) {
  const bool gpu = run.backend == backend_kind::cuda;
  const std::size_t most =
      gpu ? std::size_t{1} << 20 : std::size_t{1} << (run.wanted.quick ? 18 : 19);
  const std::size_t bytes =
      std::min(run.reserve_bytes / 3 * 2, gpu                ? run.reserve_bytes
                                          : run.wanted.quick ? std::size_t{128} << 20
                                                             : std::size_t{512} << 20);
  // An object takes an eighth more than its size at the most, and 16 bytes at least.
  const std::size_t each = std::max<std::size_t>(16, (plan.least + plan.most) / 2 * 9 / 8);
  const std::size_t count = std::clamp<std::size_t>(bytes / each, 1, most);
  return count < block_threads ? count : count / block_threads * block_threads;
}

/// Counts the mallocs and the null pointers since the last call. Throws integrity_error for what is
/// wrong, and for null pointers: the objects of these cases fit into the heap.
void count_and_require(const run_context& run, device_array<fault>& faults, std::uint64_t mallocs) {
  const std::uint64_t nulls = faults.to_host().front().nulls;
  run.count(mallocs, nulls);
  require_sound(faults);
  faults.clear();
  if (nulls != 0)
    throw integrity_error("expected memory for " + std::to_string(mallocs) + " objects, found "
                          + std::to_string(nulls) + " null pointers");
}

result run_throughput(const run_context& run, size_plan plan) {
  heap tested(run.heap_of_case());
  const device_heap dev = tested.device();
  const std::size_t count = object_count(run, plan);
  const dim3 grid = blocks_for(count);
  device_array<void*> objects(count);
  device_array<fault> faults(1);
  void** const all = objects.data();
  fault* const first = faults.data();

  // CUDA loads a kernel when it is launched first: that must not count as the heap's time.
  launch(1, block_threads, malloc_kernel, dev, all, 0, plan);
  launch(1, block_threads, free_kernel, dev, all, 0);
  synchronize();

  timings mallocs("malloc");
  timings frees("free");
  heap_snapshot full;
  heap_snapshot after_cold;
  const unsigned repetitions = run.wanted.repetitions();
  for (unsigned i = 0; i < repetitions; ++i) {
    run.step("repetition " + std::to_string(i + 1) + " of " + std::to_string(repetitions));
    mallocs.add(time_of([&] { launch(grid, block_threads, malloc_kernel, dev, all, count, plan); }),
                count);
    launch(grid, block_threads, write_kernel<size_plan>, all, count, plan, first);
    launch(grid, block_threads, verify_kernel<size_plan>, all, count, plan, first);
    synchronize();
    count_and_require(run, faults, count);
    full = snapshot(tested);
    frees.add(time_of([&] { launch(grid, block_threads, free_kernel, dev, all, count); }), count);
    require_empty(tested, "after repetition " + std::to_string(i + 1));
    if (i == 0) after_cold = snapshot(tested);
  }
  const heap_snapshot last = snapshot(tested);

  result out;
  out.params = plan_params(plan);
  out.params.emplace_back("objects", std::uint64_t{count});
  out.operations = {mallocs.finish(), frees.finish()};
  const std::uint64_t payload = payload_of(plan, count);
  out.heap = usage(full, last, payload, std::uint64_t{count} * repetitions);
  out.metrics = {{"payload_bytes", payload},
                 {"cold_host_requests", after_cold.host_requests},
                 {"cold_waits", after_cold.waits},
                 {"warm_host_requests", last.host_requests - after_cold.host_requests},
                 {"warm_waits", last.waits - after_cold.waits}};
  return out;
}

result run_pairs(const run_context& run, size_plan plan) {
  heap tested(run.heap_of_case());
  const device_heap dev = tested.device();
  const bool gpu = run.backend == backend_kind::cuda;
  const std::size_t lanes = std::size_t{1} << (gpu ? 18 : 13);
  const unsigned rounds = gpu ? 16 : run.wanted.quick ? 32 : 128;
  const std::uint64_t pairs = std::uint64_t{lanes} * rounds;
  device_array<fault> faults(1);
  launch(1, block_threads, pairs_kernel, dev, 0, rounds, plan, faults.data());
  synchronize();

  timings both("pair");
  const unsigned repetitions = run.wanted.repetitions();
  for (unsigned i = 0; i < repetitions; ++i) {
    run.step("repetition " + std::to_string(i + 1) + " of " + std::to_string(repetitions));
    both.add(time_of([&] {
               launch(blocks_for(lanes), block_threads, pairs_kernel, dev, lanes, rounds, plan,
                      faults.data());
             }),
             pairs);
    count_and_require(run, faults, pairs);
    require_empty(tested, "after repetition " + std::to_string(i + 1));
  }
  const heap_snapshot last = snapshot(tested);

  result out;
  out.params = plan_params(plan);
  out.params.emplace_back("lanes", std::uint64_t{lanes});
  out.params.emplace_back("rounds", std::uint64_t{rounds});
  out.operations = {both.finish()};
  // What one thread of the executor does in this time.
  if (run.executor_threads != 0)
    out.operations.push_back(
        {"pair_per_thread", both.ns_per_op() * run.executor_threads, std::nullopt});
  out.heap = usage(last, last, 0, pairs * repetitions);
  out.heap.utilisation.reset();
  return out;
}

struct throughput_cases {
  throughput_cases() {
    for (const std::uint32_t size : {4, 8, 16, 64, 256, 1024, 8192})
      add("throughput/" + std::to_string(size), {size, size}, run_throughput,
          "malloc kernel, free kernel");
    add("throughput/mixed", {4, 8192}, run_throughput, "malloc kernel, free kernel, sizes mixed");
    for (const std::uint32_t size : {16, 256})
      add("pairs/" + std::to_string(size), {size, size}, run_pairs,
          "malloc and free in one kernel");
    add("pairs/mixed", {4, 8192}, run_pairs, "malloc and free in one kernel, sizes mixed");
  }

 private:
  static void add(const std::string& name, size_plan plan,
                  result (*run)(const run_context&, size_plan), const char* summary) {
    registration({name, summary, this_backend, 1,
                  [plan, run](const run_context& context) { return run(context, plan); }});
  }
};

const throughput_cases of_throughput;

}  // namespace
}  // namespace warpheap::bench
