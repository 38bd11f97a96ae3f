// The survey's work generation: every thread makes work of a size that nobody knows before. With an
// allocator it asks for it; without one, all sizes are summed up first and one allocation serves
// all. Then the speed at which what was handed out can be read.
#pragma once

#include <cstdint>
#include <string>

#include "bench/baselines.cuh"
#include "bench/rounds.cuh"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {
namespace survey {

template <class Handle>
__global__ void produce_kernel(Handle heap, void** objects, std::size_t count, size_plan plan,
                               fault* first) {
  const std::size_t i = global_thread();
  if (i >= count) return;
  void* p = heap.malloc(plan.size(i));
  objects[i] = p;
  if (usable_object(p, plan, i, first)) write_object(p, plan, i);
}

inline std::size_t work_items(scale how) {
  return how == scale::paper ? 100'000 : how == scale::executor ? 100'000 : 20'000;
}

/// The time on the host's clock from the first launch until the device is done: with what the
/// host does in between.
template <class F>
elapsed host_time_of(F&& work) {
  const stopwatch clock;
  work();
  synchronize();
  return read(clock);
}

inline fields work_fields(size_plan plan, std::size_t count) {
  return {{"max_size_bytes", std::uint64_t{plan.most}}, {"objects", std::uint64_t{count}}};
}

template <allocator_adapter A>
result run_work(const run_context& run, std::uint32_t most) {
  using handle = typename A::handle;
  require_sizes<A>(most);
  size_plan plan{4, most};
  const std::size_t count = work_items(scale_of(run));
  if (!fits({plan, count, granularity::thread, {}}, run.reserve_bytes))
    throw no_input("the work does not fit into the heap");
  if constexpr (!is_warpheap<A>) plan.aligned_to = 16;
  A allocator(run.reserve_bytes);
  device_array<void*> objects(count);
  device_array<fault> faults(1);
  launch(1, block_threads, produce_kernel<handle>, allocator.device(), objects.data(), 0, plan,
         faults.data());
  launch(1, block_threads, give_kernel<handle>, allocator.device(), objects.data(), 0, 0u);
  synchronize();
  timings work("work", run.wanted.warm_ups(), work_fields(plan, count));
  timings read("read", run.wanted.warm_ups(), work_fields(plan, count));
  const point_clock clock(run);
  unsigned i = 0;
  for (; clock.wants(i); ++i) {
    run.repetition(i);
    work.add(host_time_of([&] {
               launch(blocks_for(count), block_threads, produce_kernel<handle>, allocator.device(),
                      objects.data(), count, plan, faults.data());
             }),
             count);
    read.add(time_of([&] {
               launch(blocks_for(count), block_threads, verify_kernel<size_plan>, objects.data(),
                      count, plan, faults.data());
             }),
             count);
    require_sound(faults);
    launch(blocks_for(count), block_threads, give_kernel<handle>, allocator.device(),
           objects.data(), count, 0u);
    rest(allocator);
  }
  const std::uint64_t nulls = faults.to_host().front().nulls;
  run.count(std::uint64_t{count} * i, nulls);
  if constexpr (is_warpheap<A>)
    require_served(nulls, std::uint64_t{count} * i, payload_of(plan, count), run.reserve_bytes);
  result out;
  out.params = {{"objects", std::uint64_t{count}}};
  out.operations = {work.finish(), read.finish()};
  return out;
}

template <allocator_adapter A>
void add_work_cases() {
  for (const std::uint32_t most : {64, 4096})
    add_case<A>("survey", 8, "survey/work-" + std::to_string(most),
                "work generation, each thread 4 to " + std::to_string(most) + " bytes, and reading",
                [most](const run_context& run) { return run_work<A>(run, most); });
}

}  // namespace survey
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
