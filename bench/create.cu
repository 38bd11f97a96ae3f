// How long it takes to create and to destroy a heap, and what it costs before the first object.
#include <algorithm>
#include <optional>

#include <warpheap/heap.hpp>

#include "bench/device_tools.cuh"
#include "bench/measure.hpp"
#include "bench/registry.hpp"

namespace warpheap::bench {
namespace {

constexpr std::size_t wanted_reserve = std::size_t{8} << 30;

result run_create(const run_context& run) {
  heap_options wanted = run.heap_of_case();
  // On the executor a heap is address space until its pages are touched.
  if (!run.wanted.reserve_bytes)
    wanted.reserve_bytes =
        run.executor_threads != 0 ? wanted_reserve : std::min(wanted_reserve, run.reserve_bytes);
  timings create("create");
  timings destroy("destroy");
  heap_snapshot empty;
  const unsigned repetitions = run.wanted.repetitions();
  for (unsigned i = 0; i < repetitions; ++i) {
    run.step("repetition " + std::to_string(i + 1) + " of " + std::to_string(repetitions));
    const stopwatch creating;
    std::optional<heap> made(std::in_place, wanted);
    create.add(read(creating), 1);
    empty = snapshot(*made);
    const stopwatch destroying;
    made.reset();
    destroy.add(read(destroying), 1);
  }

  result out;
  out.params = {{"reserve_bytes", std::uint64_t{wanted.reserve_bytes}}};
  out.operations = {create.finish(), destroy.finish()};
  out.heap.bytes_in_use = empty.bytes_in_use;
  out.heap.peak_bytes = empty.peak_bytes;
  return out;
}

const registration of_create({"create", "creation and destruction of a heap of 8 GiB", this_backend,
                              0, run_create});

}  // namespace
}  // namespace warpheap::bench
