// Work generation without an allocator: a prefix sum over the sizes, and one allocation for all.
#include "bench/survey_work.cuh"

namespace warpheap::bench {
namespace {

__device__ unsigned long long place_bytes(size_plan plan, std::size_t i) {
  return (plan.size(i) + 15) / 16 * 16;
}

/// Inclusive sum over the lanes of a full warp.
__device__ unsigned long long warp_sum(unsigned long long value) {
  for (unsigned step = 1; step < 32; step *= 2) {
    const unsigned long long before = __shfl_up_sync(~0u, value, step);
    if (lane_id() >= step) value += before;
  }
  return value;
}

__global__ void sum_kernel(std::size_t count, size_plan plan, unsigned long long* sums) {
  const std::size_t i = global_thread();
  const unsigned long long own = i < count ? place_bytes(plan, i) : 0;
  const unsigned long long all = warp_sum(own);
  if (lane_id() == 31) atomicAdd(&sums[blockIdx.x], all);
}

/// Sums of blocks to the places where they begin, by one warp; the total behind them.
__global__ void scan_kernel(unsigned long long* sums, unsigned blocks) {
  unsigned long long before = 0;
  for (unsigned at = 0; at < blocks; at += 32) {
    const unsigned i = at + lane_id();
    const unsigned long long own = i < blocks ? sums[i] : 0;
    const unsigned long long upto = warp_sum(own);
    if (i < blocks) sums[i] = before + upto - own;
    before += __shfl_sync(~0u, upto, 31);
  }
  if (lane_id() == 0) sums[blocks] = before;
}

__global__ void place_kernel(std::byte* memory, void** objects, std::size_t count, size_plan plan,
                             const unsigned long long* sums) {
  __shared__ unsigned long long warps[block_threads / 32];
  const std::size_t i = global_thread();
  const unsigned long long own = i < count ? place_bytes(plan, i) : 0;
  const unsigned long long upto = warp_sum(own);
  if (lane_id() == 31) warps[threadIdx.x / 32] = upto;
  __syncthreads();
  unsigned long long at = sums[blockIdx.x] + upto - own;
  for (unsigned w = 0; w < threadIdx.x / 32; ++w) at += warps[w];
  if (i >= count) return;
  objects[i] = memory + at;
  write_object(objects[i], plan, i);
}

result run_prefix_sum(const run_context& run, std::uint32_t most) {
  const size_plan plan{4, most, 16};
  const std::size_t count = survey::work_items(scale_of(run));
  const dim3 grid = blocks_for(count);
  device_array<unsigned long long> sums(grid.x + 1);
  device_array<void*> objects(count);
  device_array<fault> faults(1);
  timings work("work", run.wanted.warm_ups(), survey::work_fields(plan, count));
  timings read("read", run.wanted.warm_ups(), survey::work_fields(plan, count));
  std::uint64_t bytes = 0;
  const point_clock clock(run);
  for (unsigned i = 0; clock.wants(i); ++i) {
    run.repetition(i);
    sums.clear();
    std::unique_ptr<untouched_memory> memory;
    work.add(survey::host_time_of([&] {
               launch(grid, block_threads, sum_kernel, count, plan, sums.data());
               launch(1, 32, scan_kernel, sums.data(), grid.x);
               synchronize();
               bytes = sums.to_host().back();
               memory = std::make_unique<untouched_memory>(bytes);
               launch(grid, block_threads, place_kernel, memory->data(), objects.data(), count,
                      plan, sums.data());
             }),
             count);
    read.add(time_of([&] {
               launch(grid, block_threads, verify_kernel<size_plan>, objects.data(), count, plan,
                      faults.data());
             }),
             count);
    require_sound(faults);
    run.count(1, 0);  // the one allocation; without memory for it the case fails
  }
  result out;
  out.params = {{"objects", std::uint64_t{count}}};
  out.operations = {work.finish(), read.finish()};
  out.metrics = {{"allocated_bytes", bytes}};
  return out;
}

struct work_cases {
  work_cases() {
    for (const std::uint32_t most : {64, 4096})
      registration({"survey/work-" + std::to_string(most) + "/prefixsum",
                    "work generation by a prefix sum and one allocation", this_backend, 8,
                    [most](const run_context& run) { return run_prefix_sum(run, most); },
                    "survey"});
  }
};

const work_cases of_work;

}  // namespace
}  // namespace warpheap::bench
