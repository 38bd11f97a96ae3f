// The budgets of the device side that need no GPU, measured one by one, as a table.
#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <warpheap/device_heap.cuh>
#include <warpheap/heap.hpp>
#include <warpheap/size_classes.hpp>

#include "bench/command.hpp"
#include "bench/device_tools.cuh"
#include "bench/measure.hpp"
#include "bench/model/warm_call.hpp"
#include "bench/registry.hpp"

namespace warpheap::bench {
namespace {

/// One budget, and what was measured for it.
struct budget {
  std::string what;
  double limit;
  bool at_most;  // else at least
  double measured;
  std::string note = {};

  bool kept() const { return at_most ? measured <= limit : measured >= limit; }
};
using budgets = std::vector<budget>;

heap_options options_of(std::size_t bytes) {
  heap_options out;
  out.backend = this_backend;
  out.reserve_bytes = bytes;
  out.report_leaks = false;
  return out;
}

/// An object that is kept in its lane's list.
struct kept_object {
  kept_object* next;
};
__global__ void fill_lists(device_heap heap, std::size_t size, kept_object** lists,
                           unsigned long long* made) {
  for (;;) {
    auto* one = static_cast<kept_object*>(heap.malloc(size));
    if (one == nullptr) return;
    one->next = lists[global_thread()];
    lists[global_thread()] = one;
    atomicAdd(made, 1ull);
  }
}
__global__ void free_lists(device_heap heap, kept_object** lists) {
  for (kept_object* one = lists[global_thread()]; one != nullptr;) {
    kept_object* const next = one->next;
    heap.free(one);
    one = next;
  }
  lists[global_thread()] = nullptr;
}
/// Objects that nobody keeps: for sizes that have no room for a list.
__global__ void fill_and_forget(device_heap heap, std::size_t size, unsigned long long* made) {
  while (heap.malloc(size) != nullptr) atomicAdd(made, 1ull);
}

/// The least part of a heap that any class is handed out before every lane has met a null pointer.
/// `anew`: each class finds an empty heap, else the one that the class before has just left.
budget handed_out(const run_context& run, bool anew, double limit) {
  constexpr unsigned lanes = 256;
  heap tested(options_of(std::size_t{anew ? 64u : 32u} << 20));
  device_array<kept_object*> lists(lanes);
  double least = 1;
  std::size_t of_size = 0;
  for (unsigned cls = 2; cls < num_classes; ++cls) {
    const std::size_t size = class_to_size(cls);
    run.step("out of memory with objects of " + std::to_string(size) + " bytes");
    device_array<unsigned long long> made(1);
    launch(2, lanes / 2, fill_lists, device_heap(tested.device()), size, lists.data(), made.data());
    synchronize();
    const double part = static_cast<double>(made.to_host().front() * size)
                        / static_cast<double>(tested.options().reserve_bytes);
    run.count(made.to_host().front() + lanes, lanes);  // each lane ends at a null pointer
    launch(2, lanes / 2, free_lists, device_heap(tested.device()), lists.data());
    synchronize();
    if (anew) tested.trim();
    if (part >= least) continue;
    least = part;
    of_size = size;
  }
  require_empty(tested, "after the objects of all classes");
  return {anew ? "handed out at out-of-memory, least of all classes"
               : "the same from the pages of the class before",
          limit, false, least, std::to_string(of_size) + " B"};
}

/// Frees about half of each lane's objects.
__global__ void free_half(device_heap heap, kept_object** lists, std::uint64_t seed,
                          unsigned long long* freed) {
  kept_object* kept = nullptr;
  std::uint64_t state = seed + global_thread();
  for (kept_object* one = lists[global_thread()]; one != nullptr;) {
    kept_object* const next = one->next;
    state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's linear congruence
    if (state >> 63 != 0) {
      heap.free(one);
      atomicAdd(freed, 1ull);
    } else {
      one->next = kept;
      kept = one;
    }
    one = next;
  }
  lists[global_thread()] = kept;
}

/// The least part of a heap that is handed out when a random half has come and gone many times.
budget handed_out_after_churn(const run_context& run) {
  constexpr unsigned lanes = 256, rounds = 8;
  double least = 1;
  std::size_t of_size = 0;
  for (const std::size_t size : {16u, 48u, 256u, 1024u, 3072u, 9472u, 32768u}) {
    run.step("a random half comes and goes, objects of " + std::to_string(size) + " bytes");
    heap tested(options_of(std::size_t{32} << 20));
    device_array<kept_object*> lists(lanes);
    device_array<unsigned long long> made(1), freed(1);
    for (unsigned i = 0; i <= rounds; ++i) {
      launch(2, lanes / 2, fill_lists, device_heap(tested.device()), size, lists.data(),
             made.data());
      if (i < rounds)
        launch(2, lanes / 2, free_half, device_heap(tested.device()), lists.data(),
               std::uint64_t{i} * lanes, freed.data());
      synchronize();
    }
    const std::uint64_t live = made.to_host().front() - freed.to_host().front();
    run.count(made.to_host().front() + std::uint64_t{lanes} * (rounds + 1), lanes * (rounds + 1));
    launch(2, lanes / 2, free_lists, device_heap(tested.device()), lists.data());
    synchronize();
    require_empty(tested, "after churn");
    const double part =
        static_cast<double>(live * size) / static_cast<double>(tested.options().reserve_bytes);
    if (part >= least) continue;
    least = part;
    of_size = size;
  }
  return {"the same after a random half came and went, 8 times", 0.95, false, least,
          std::to_string(of_size) + " B"};
}

budget tiny_handed_out(const run_context& run) {
  run.step("out of memory with objects of 4 bytes");
  heap tested(options_of(std::size_t{16} << 20));
  device_array<unsigned long long> made(1);
  launch(1, 64, fill_and_forget, device_heap(tested.device()), std::size_t{4}, made.data());
  synchronize();
  run.count(made.to_host().front() + 64, 64);
  const double part = static_cast<double>(made.to_host().front() * 4)
                      / static_cast<double>(tested.options().reserve_bytes);
  tested.reset();
  return {"handed out in objects of 4 B", 0.90, false, part};
}

__global__ void take_16(device_heap heap, void** objects) {
  objects[global_thread()] = heap.malloc(16);
}
__global__ void give_all(device_heap heap, void** objects) { heap.free(objects[global_thread()]); }

/// Requests and waits of a population of 16-byte objects that stays the same while the oldest go.
budgets steady_requests(const run_context& run) {
  constexpr unsigned lanes = 1u << 17, growing = 8, steady = 16;
  heap tested(options_of(std::size_t{256} << 20));
  device_array<void*> rounds(std::size_t{growing} * lanes);
  heap_snapshot grown;
  for (unsigned i = 0; i < growing + steady; ++i) {
    run.step("16-byte objects, round " + std::to_string(i + 1));
    void** const objects = rounds.data() + std::size_t{i % growing} * lanes;
    if (i == growing) grown = snapshot(tested);
    if (i >= growing)
      launch(blocks_for(lanes), block_threads, give_all, device_heap(tested.device()), objects);
    launch(blocks_for(lanes), block_threads, take_16, device_heap(tested.device()), objects);
    synchronize();
    const auto all = rounds.to_host();
    const auto nulls = std::count(all.data() + (objects - rounds.data()),
                                  all.data() + (objects - rounds.data()) + lanes, nullptr);
    run.count(lanes, static_cast<std::uint64_t>(nulls));
    if (nulls != 0) throw integrity_error("a steady load: expected memory, found a null pointer");
  }
  const heap_snapshot last = snapshot(tested);
  launch(blocks_for(rounds.size()), block_threads, give_all, device_heap(tested.device()),
         rounds.data());
  synchronize();
  require_empty(tested, "after a steady load");
  const double millions = steady * static_cast<double>(lanes) / 1e6;
  return {{"host requests per million mallocs of 16 B, steady", 8, true,
           static_cast<double>(last.host_requests - grown.host_requests) / millions},
          {"waits for the host per million, steady", 0, true,
           static_cast<double>(last.waits - grown.waits) / millions}};
}

budget address_range(const run_context& run) {
  constexpr unsigned lanes = 1u << 20;
  run.step("the addresses of a million objects");
  heap tested(options_of(std::size_t{256} << 20));
  device_array<void*> objects(lanes);
  launch(blocks_for(lanes), block_threads, take_16, device_heap(tested.device()), objects.data());
  synchronize();
  const auto all = objects.to_host();
  const auto nulls = std::count(all.begin(), all.end(), nullptr);
  run.count(lanes, static_cast<std::uint64_t>(nulls));
  if (nulls != 0)
    throw integrity_error("a million objects of 16 bytes: expected memory, found a null pointer");
  const auto [low, high] = std::minmax_element(all.begin(), all.end());
  const auto range = static_cast<const std::byte*>(*high) - static_cast<const std::byte*>(*low);
  tested.reset();
  return {"address range of 1M objects of 16 B, over ideal", 1.2, true,
          static_cast<double>(range + 16) / (16.0 * lanes)};
}

budget time_to_create(const run_context& run) {
  run.step("heaps of 8 GiB");
  std::vector<double> ms;
  for (unsigned i = 0; i < 5; ++i) {
    std::unique_ptr<heap> made;
    ms.push_back(
        time_of([&] { made = std::make_unique<heap>(options_of(std::size_t{8} << 30)); }).ns / 1e6);
  }
  std::sort(ms.begin(), ms.end());
  return {"time to create a heap of 8 GiB", 10, true, ms[ms.size() / 2], "ms, median of 5"};
}

/// A lane asks for pages that the device does not have.
__global__ void ask(device_heap heap, std::size_t size, void** object) {
  *object = heap.malloc(size);
}

/// A launch with one malloc that the host would have to serve, after the service has ended.
budget time_to_null(const run_context& run) {
  run.step("mallocs without the service");
  heap tested(options_of(std::size_t{64} << 20));
  device_array<void*> object(1);
  launch(1, 1, ask, device_heap(tested.device()), std::size_t{1} << 20, object.data());
  launch(1, 1, give_all, device_heap(tested.device()), object.data());
  synchronize();
  tested.trim();
  tested.stop_refill_service();
  std::vector<double> ms;
  for (unsigned i = 0; i < 101; ++i) {
    const elapsed asked = time_of([&] {
      launch(1, 1, ask, device_heap(tested.device()), std::size_t{1} << 20, object.data());
    });
    ms.push_back(asked.ns / 1e6);
    const bool served = object.to_host().front() != nullptr;
    run.count(1, served ? 0 : 1);
    if (served) throw integrity_error("no service: expected a null pointer, found memory");
  }
  tested.start_refill_service();
  std::sort(ms.begin(), ms.end());
  std::ostringstream note;
  note.precision(3);
  note << "ms, with the launch; median of 101, longest " << ms.back();
  return {"time to nullptr without the service", 1, true, ms[ms.size() / 2], note.str()};
}

#ifndef __CUDACC__
__global__ void pairs_of_16(device_heap heap, unsigned rounds, unsigned long long* nulls) {
  for (unsigned i = 0; i < rounds; ++i) {
    void* const p = heap.malloc(16);
    if (p == nullptr) atomicAdd(nulls, 1ull);
    heap.free(p);
  }
}

/// By the processor's time and not the wall's: other programs may use the cores meanwhile.
budget pairs_per_core(const run_context& run) {
  run.step("pairs of malloc and free");
  heap tested(options_of(std::size_t{64} << 20));
  device_array<unsigned long long> nulls(1);
  constexpr unsigned lanes = 1024, rounds = 512;
  std::vector<double> rates;
  for (unsigned i = 0; i < 9; ++i) {
    const std::clock_t begin = std::clock();
    launch(blocks_for(lanes), block_threads, pairs_of_16, device_heap(tested.device()), rounds,
           nulls.data());
    synchronize();
    const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    rates.push_back(lanes * rounds / seconds / 1e6);
  }
  run.count(std::uint64_t{9} * lanes * rounds, nulls.to_host().front());
  if (nulls.to_host().front() != 0)
    throw integrity_error("pairs: expected memory, found a null pointer");
  std::sort(rates.begin(), rates.end());
  return {"pairs of malloc and free per second and core", 5, false, rates[rates.size() / 2],
          "M, by processor time of all threads"};
}

budgets counted_calls(const run_context& run) {
  run.step("counting accesses");
  const model::warm_calls found = model::count_warm_calls();
  const std::string note = "eight lanes in one call, median";
  const model::warm_call& append = found.of_tiny_append;
  return {{"atomics of a warm malloc", 1, true, double(found.of_malloc.atomics), note},
          {"loads of a warm malloc", 3, true, double(found.of_malloc.loads), note},
          {"loads more where the word is empty", 4, true,
           double(found.of_refill.loads - found.of_malloc.loads), "of those calls, median"},
          {"atomics of a free", 1, true, double(found.of_free.atomics), note},
          {"loads of a free", 1, true, double(found.of_free.loads), note},
          {"loads of a tiny append", 1, true, double(append.loads), "median"},
          {"compare-and-swaps of a tiny append", 1, true, double(append.compare_exchanges),
           std::to_string(append.atomics - append.compare_exchanges)
               + " other atomic, which nobody waits for: detail/tiny.cuh"}};
}

/// What ptxas gives the kernels of tests/goldens for sm_90, by the script that checks them; nothing
/// without an nvcc.
budgets registers(const run_context& run) {
  run.step("compiling the fast paths with nvcc, a quarter of a minute");
  std::string printed;
  read_command({WARPHEAP_SOURCE_DIR "/tests/tools/ptx_counts", "--only-90"},
               [&](std::string_view piece) {
                 printed += piece;
                 return true;
               });
  std::istringstream lines(printed);
  std::vector<std::string> titles;
  budgets out;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::vector<std::string> cells;
    for (std::string word; words >> word;) cells.push_back(word);
    if (cells.empty()) continue;
    if (cells[0] == "kernel") titles = cells;
    const bool takes = cells[0].starts_with("malloc_32");
    const bool limited = cells[0] == "malloc_32_in_28" || cells[0] == "free_one_in_24";
    if ((!limited && cells[0] != "malloc_32" && cells[0] != "free_one")
        || cells.size() != titles.size())
      continue;
    const auto column = [&](const char* title) {
      return std::stod(cells[static_cast<std::size_t>(std::find(titles.begin(), titles.end(), title)
                                                      - titles.begin())]);
    };
    const std::string of =
        takes ? " of a kernel with one malloc(32)" : " of a kernel with one free";
    const double limit = takes ? 28 : 18;
    if (!limited)
      out.push_back({"registers" + of, limit, true, column("alone_90"), "sm_90, its own body"});
    // A free cannot be launched with 18: ptxas gives a kernel that calls any function 24 at least.
    out.push_back({"registers at launch" + of + (limited ? " under __maxnreg__" : ""), limit, true,
                   column("regs_90"),
                   limited && !takes ? "sm_90, the ABI's least for any call"
                                     : "sm_90, with all that it may call"});
  }
  return out;
}
#endif

/// The rows as text, one below the other.
std::string table_of(const budgets& all) {
  std::size_t width = 0;
  for (const budget& one : all) width = std::max(width, one.what.size());
  std::string out = "budget";
  out.resize(width + 4, ' ');
  out += " measured     limit  kept";
  for (const budget& one : all) {
    char figures[64];
    std::snprintf(figures, sizeof figures, "%9.4g  %s %6.4g  %s", one.measured,
                  one.at_most ? "<=" : ">=", one.limit, one.kept() ? "yes" : "NO ");
    std::string line = "\n    " + one.what;
    line.resize(width + 5, ' ');
    out += line + figures + (one.note.empty() ? "" : "   " + one.note);
  }
  return out;
}

result run_budgets(const run_context& run) {
  budgets all;
  const auto add = [&](const budgets& more) { all.insert(all.end(), more.begin(), more.end()); };
#ifndef __CUDACC__
  add(counted_calls(run));
  add(registers(run));
#endif
  add(steady_requests(run));
  add({handed_out(run, true, 0.98), handed_out(run, false, 0.95), handed_out_after_churn(run),
       tiny_handed_out(run), address_range(run), time_to_create(run), time_to_null(run)});
#ifndef __CUDACC__
  add({pairs_per_core(run)});
#endif
  result out;
  out.detail = table_of(all);
  for (const budget& one : all) {
    std::string name = one.what;
    std::replace_if(
        name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
    out.metrics.emplace_back(name, one.measured);
  }
  return out;
}

const registration of_budgets({"device/budgets/warpheap",
                               "the budgets of the device side that need no GPU", this_backend, 12,
                               run_budgets, "device", /*once=*/true});

}  // namespace
}  // namespace warpheap::bench
