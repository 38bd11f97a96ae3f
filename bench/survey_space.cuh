// The survey's tests of space (fragmentation, out of memory), of creation, and of registers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "bench/rounds.cuh"
#include "bench/survey_speed.cuh"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {
namespace survey {

/// First byte to last byte of the objects, null pointers left out.
inline std::uint64_t address_range(const std::vector<void*>& objects, size_plan plan) {
  std::uint64_t first = ~std::uint64_t{0};
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const auto at = reinterpret_cast<std::uint64_t>(objects[i]);
    if (at == 0) continue;
    first = std::min(first, at);
    last = std::max(last, at + plan.size(i));
  }
  return last > first ? last - first : 0;
}

/// The address range of all objects over the sum of their sizes, after one round and after many.
template <allocator_adapter A>
result run_fragmentation(const run_context& run, bool mixed_sizes) {
  const scale how = scale_of(run);
  const std::size_t objects = how == scale::paper ? 100'000 : 10'000;
  const unsigned all_rounds = how == scale::quick ? 20 : 100;
  result out;
  out.params = {{"objects", std::uint64_t{objects}}, {"rounds", std::uint64_t{all_rounds}}};
  for (const auto size : powers(16, 4096, how == scale::quick ? 16 : 4)) {
    const size_plan plan{mixed_sizes ? 4 : size, size};
    if (!fits({plan, objects, granularity::thread, {}}, run.reserve_bytes)
        || size > adapter_most<A>())
      continue;
    const auto ideal = static_cast<double>(payload_of(plan, objects));
    A allocator(run.reserve_bytes);
    object_rounds<A> rounds(allocator, objects);
    series curve{"address_range_" + std::to_string(size), "round", "address range / ideal", {}};
    for (unsigned round = 1; round <= all_rounds; ++round) {
      run.step("round " + std::to_string(round) + " of " + std::to_string(all_rounds));
      rounds.take(objects, plan);
      rounds.write();
      rounds.verify();
      const auto range = address_range(rounds.objects().to_host(), plan);
      curve.points.emplace_back(round, static_cast<double>(range) / ideal);
      rounds.give();
      rest(allocator);
    }
    run.count(std::uint64_t{objects} * all_rounds, rounds.nulls());
    const std::string suffix = "_over_ideal_" + std::to_string(size);
    out.metrics.emplace_back("address_range_first" + suffix, curve.points.front().second);
    out.metrics.emplace_back("address_range_last" + suffix, curve.points.back().second);
    out.curves.push_back(std::move(curve));
  }
  return out;
}

/// Rounds of objects until the first null pointer: the bytes handed out until then, of the heap.
template <allocator_adapter A>
result run_out_of_memory(const run_context& run) {
  const scale how = scale_of(run);
  const std::size_t bytes = std::min(run.reserve_bytes, std::size_t{how == scale::paper      ? 2048u
                                                                    : how == scale::executor ? 256u
                                                                                             : 32u}
                                                            << 20);
  const std::size_t a_round = how == scale::quick ? 10'000 : 100'000;
  result out;
  out.params = {{"heap_bytes", std::uint64_t{bytes}},
                {"objects_per_round", std::uint64_t{a_round}}};
  series curve{"handed_out", "size (bytes)", "bytes handed out / heap", {}};
  for (const auto size : powers(16, 8192, how == scale::quick ? 8 : 2)) {
    if (size > adapter_most<A>()) continue;
    run.step("objects of " + std::to_string(size) + " bytes");
    A allocator(bytes);
    const size_plan plan{size, size};
    // One object_rounds for each round: their objects stay live, and are verified at the end.
    std::vector<std::unique_ptr<object_rounds<A>>> all;
    timings take("malloc_until_null", 0, {{"size_bytes", std::uint64_t{size}}});
    std::uint64_t served = 0;
    elapsed took{0, 0};
    const std::size_t most_rounds = bytes / size / a_round + 2;
    for (bool more = true; more && all.size() < most_rounds;) {
      all.push_back(std::make_unique<object_rounds<A>>(allocator, a_round));
      took += all.back()->take(a_round, plan);
      all.back()->write();
      const std::uint64_t nulls = all.back()->nulls();
      served += a_round - nulls;
      run.count(a_round, nulls);
      more = nulls == 0;
    }
    for (auto& round : all) {
      round->verify();
      round->give();
    }
    take.add(took, served);
    // Running out is no error of the heap; losing something by it would be.
    rest(allocator);
    out.operations.push_back(take.finish());
    curve.points.emplace_back(size,
                              static_cast<double>(served * size) / static_cast<double>(bytes));
  }
  for (const auto& [size, part] : curve.points)
    out.metrics.emplace_back("handed_out_ratio_" + std::to_string(static_cast<unsigned>(size)),
                             part);
  out.curves = {std::move(curve)};
  return out;
}

/// Time to create and to destroy an allocator, its memory untouched.
template <allocator_adapter A>
result run_creation(const run_context& run) {
  timings create("create", run.wanted.warm_ups());
  timings destroy("destroy", run.wanted.warm_ups());
  for (unsigned i = 0; i < run.repetitions(); ++i) {
    run.repetition(i);
    const stopwatch creating;
    auto made = std::make_unique<A>(run.reserve_bytes);
    (void)made->device();
    synchronize();
    create.add(read(creating), 1);
    const stopwatch destroying;
    made.reset();
    destroy.add(read(destroying), 1);
  }
  result out;
  out.params = {{"heap_bytes", std::uint64_t{run.reserve_bytes}}};
  out.operations = {create.finish(), destroy.finish()};
  return out;
}

/// What one malloc, and one free, costs a kernel in registers.
template <allocator_adapter A>
result run_registers(const run_context&) {
#ifdef __CUDACC__
  result out;
  const auto registers = [](auto kernel) {
    cudaFuncAttributes found{};
    check_cuda(cudaFuncGetAttributes(&found, kernel), "cudaFuncGetAttributes");
    return found;
  };
  const auto take = registers(take_kernel<typename A::handle>);
  const auto give = registers(give_kernel<typename A::handle>);
  out.metrics = {{"malloc_registers", std::int64_t{take.numRegs}},
                 {"malloc_local_bytes", std::uint64_t{take.localSizeBytes}},
                 {"free_registers", std::int64_t{give.numRegs}},
                 {"free_local_bytes", std::uint64_t{give.localSizeBytes}}};
  return out;
#else
  throw no_input("only a GPU has registers to count; nvcc's are pinned by tests/goldens");
#endif
}

template <allocator_adapter A>
void add_space_cases() {
  add_case<A>("survey", 4, "survey/fragmentation", "address range over ideal, after many rounds",
              [](const run_context& run) { return run_fragmentation<A>(run, false); });
  add_case<A>("survey", 13, "survey/gallatin-fragmentation",
              "address range over ideal, sizes uniform from 4 to N",
              [](const run_context& run) { return run_fragmentation<A>(run, true); });
  add_case<A>("survey", 5, "survey/out-of-memory", "handed out until the first null pointer",
              run_out_of_memory<A>);
  add_case<A>("survey", 6, "survey/registers", "registers of a kernel with one malloc, one free",
              run_registers<A>);
  add_case<A>("survey", 7, "survey/creation", "to create and to destroy the allocator",
              run_creation<A>);
}

}  // namespace survey
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
