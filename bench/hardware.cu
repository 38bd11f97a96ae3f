// What the machine itself can do, apart from any allocator: the figures under the heap's budgets,
// and the constants of the performance model.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <warpheap/atomic.hpp>
#include <warpheap/backend.hpp>

#include "bench/device_tools.cuh"
#include "bench/measure.hpp"
#include "bench/registry.hpp"

namespace warpheap::bench {
namespace {

constexpr unsigned lanes_of_a_warp = 32;

/// Memory from the backend, given back at the end. Fails the case where there is none.
class case_memory {
 public:
  enum class kind { pages, pinned };
  case_memory(kind what, std::size_t bytes) : what_(what), bytes_(bytes) {
    data_ = what == kind::pages ? pages(bytes) : memory_->allocate_pinned(bytes);
    if (data_ == nullptr)
      throw std::runtime_error("no memory: asked for " + std::to_string(bytes) + " bytes of "
                               + (what == kind::pages ? "pages" : "pinned memory"));
  }
  ~case_memory() {
    if (what_ == kind::pages)
      memory_->release(static_cast<std::byte*>(data_), bytes_);
    else
      memory_->free_pinned(data_, bytes_);
  }
  case_memory(const case_memory&) = delete;
  case_memory& operator=(const case_memory&) = delete;
  void* data() const { return data_; }

 private:
  std::byte* pages(std::size_t bytes) {
    std::byte* const p = memory_->reserve(bytes);
    if (p == nullptr || memory_->map(p, bytes)) return p;
    memory_->release(p, bytes);
    return nullptr;
  }

  std::unique_ptr<memory_backend> memory_{this_backend == backend_kind::cuda ? make_cuda_memory()
                                                                             : make_mmap_memory()};
  kind what_;
  std::size_t bytes_;
  void* data_ = nullptr;
};

/// One fetch_or a warp and round, as a free does it: on `count` words, `stride` apart.
__global__ void atomics_kernel(unsigned long long* words, std::size_t count, std::size_t stride,
                               unsigned rounds, unsigned long long* sink) {
  const std::size_t warp = global_thread() / lanes_of_a_warp;
  if (threadIdx.x % lanes_of_a_warp != 0) return;
  unsigned long long seen = 0;
  for (unsigned round = 0; round < rounds; ++round) {
    unsigned long long* word = words + (warp + round * 7919u) % count * stride;
    seen ^= atomic::fetch_or<order::relaxed>(word, 1ull << (warp + round) % 64);
  }
  if (seen == 1) *sink = seen;  // keeps the loop
}

result run_atomics(const run_context& run, std::size_t words) {
  const bool gpu = run.executor_threads == 0;
  constexpr std::size_t line = 128 / sizeof(unsigned long long);
  const std::size_t warps = std::size_t{1} << (gpu ? 15 : 11);
  const unsigned rounds = gpu ? 32 : 64;
  const device_array<unsigned long long> memory(words * line);
  const device_array<unsigned long long> sink(1);
  timings one("atomic");
  for (unsigned i = 0; i < run.wanted.repetitions(); ++i) {
    run.step("repetition " + std::to_string(i + 1));
    one.add(time_of([&] {
              launch(blocks_for(warps * lanes_of_a_warp), block_threads, atomics_kernel,
                     memory.data(), words, line, rounds, sink.data());
            }),
            warps * rounds);
  }
  result out;
  out.params = {{"words", std::uint64_t{words}}, {"warps", std::uint64_t{warps}}};
  out.operations = {one.finish()};
  return out;
}

/// One lane follows a chain of indices; each load has to wait for the last.
__global__ void chase_kernel(const unsigned* next, unsigned steps, unsigned* out) {
  unsigned at = 0;
  for (unsigned i = 0; i < steps; ++i) at = atomic::load<order::relaxed>(next + at);
  *out = at;
}

result run_latency(const run_context& run, std::size_t bytes) {
  // One index in each 128-byte line, in one random cycle.
  constexpr std::size_t line = 128 / sizeof(unsigned);
  const std::size_t lines = bytes / 128;
  std::vector<unsigned> order(lines);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin() + 1, order.end(), std::mt19937(1));
  std::vector<unsigned> chain(lines * line);
  for (std::size_t i = 0; i < lines; ++i)
    chain[order[i] * line] = static_cast<unsigned>(order[(i + 1) % lines] * line);
  const device_array<unsigned> next{std::span<const unsigned>(chain)};
  const device_array<unsigned> end(1);
  const unsigned steps = run.wanted.quick ? 20'000 : 200'000;
  timings load("load");
  for (unsigned i = 0; i < run.wanted.repetitions(); ++i) {
    run.step("repetition " + std::to_string(i + 1));
    load.add(time_of([&] { launch(1, 1, chase_kernel, next.data(), steps, end.data()); }), steps);
  }
  result out;
  out.params = {{"footprint_bytes", std::uint64_t{bytes}}};
  out.operations = {load.finish()};
  return out;
}

/// Each flag has a line of its own, and one writer.
struct mailbox_flags {
  alignas(128) std::uint32_t asked;
  alignas(128) std::uint32_t answered;
};

__global__ void ping_kernel(mailbox_flags* flags, std::uint32_t first, std::uint32_t rounds) {
  for (std::uint32_t i = first; i < first + rounds; ++i) {
    atomic::store<order::release, scope::system>(&flags->asked, i);
    while (atomic::load<order::acquire, scope::system>(&flags->answered) != i) {
    }
  }
}

/// From a lane to a host thread and back, through pinned memory: the least that a request to the
/// refill service takes.
result run_round_trip(const run_context& run) {
  const case_memory memory(case_memory::kind::pinned, sizeof(mailbox_flags));
  auto* flags = new (memory.data()) mailbox_flags{};
  const std::uint32_t rounds = run.wanted.quick ? 200 : 20'000;
  launch(1, 1, ping_kernel, flags, 1u, 0u);
  synchronize();
  timings trip("round_trip");
  std::uint32_t first = 1;
  for (unsigned i = 0; i < run.wanted.repetitions(); ++i, first += rounds) {
    run.step("repetition " + std::to_string(i + 1));
    const std::jthread host([&](const std::stop_token& stop) {
      for (std::uint32_t n = first; n < first + rounds; ++n) {
        while (std::atomic_ref(flags->asked).load(std::memory_order_acquire) != n)
          if (stop.stop_requested()) return;
        std::atomic_ref(flags->answered).store(n, std::memory_order_release);
      }
    });
    trip.add(time_of([&] { launch(1, 1, ping_kernel, flags, first, rounds); }), rounds);
  }
  result out;
  out.params = {{"rounds", std::uint64_t{rounds}}};
  out.operations = {trip.finish()};
  return out;
}

constexpr std::size_t touched_page = 4096;

__global__ void touch_kernel(std::byte* memory, std::size_t pages) {
  const std::size_t i = global_thread();
  if (i < pages) *reinterpret_cast<volatile unsigned*>(memory + i * touched_page) = 1;
}

/// First and second write of each page of fresh heap memory.
result run_first_touch(const run_context& run) {
  const std::size_t bytes = std::size_t{run.wanted.quick ? 64u : 512u} << 20;
  const std::size_t pages = bytes / touched_page;
  timings first("first_touch");
  timings second("second_touch");
  launch(1, block_threads, touch_kernel, nullptr, 0);
  synchronize();
  for (unsigned i = 0; i < run.wanted.repetitions(); ++i) {
    run.step("repetition " + std::to_string(i + 1));
    const case_memory memory(case_memory::kind::pages, bytes);
    auto* fresh = static_cast<std::byte*>(memory.data());
    for (timings* one : {&first, &second})
      one->add(
          time_of([&] { launch(blocks_for(pages), block_threads, touch_kernel, fresh, pages); }),
          pages);
  }
  result out;
  out.params = {{"bytes", std::uint64_t{bytes}}, {"page_bytes", std::uint64_t{touched_page}}};
  out.operations = {first.finish(), second.finish()};
  return out;
}

#ifdef __CUDACC__
/// Fresh managed pages, written by the host, brought to the device by one prefetch and back.
result run_prefetch(const run_context& run) {
  const std::size_t bytes = std::size_t{run.wanted.quick ? 64u : 512u} << 20;
  int device = 0;
  check_cuda(cudaGetDevice(&device), "device");
  const auto prefetch = [&](void* p, bool to_device) {
#if CUDART_VERSION >= 13000
    const cudaMemLocation where{to_device ? cudaMemLocationTypeDevice : cudaMemLocationTypeHost,
                                to_device ? device : 0};
    check_cuda(cudaMemPrefetchAsync(p, bytes, where, 0), "prefetch");
#else
    check_cuda(cudaMemPrefetchAsync(p, bytes, to_device ? device : cudaCpuDeviceId), "prefetch");
#endif
  };
  timings there("prefetch", 0, {{"to", std::string("device")}});
  timings back("prefetch", 0, {{"to", std::string("host")}});
  for (unsigned i = 0; i < run.wanted.repetitions(); ++i) {
    run.step("repetition " + std::to_string(i + 1));
    const case_memory memory(case_memory::kind::pages, bytes);
    std::memset(memory.data(), 1, bytes);
    there.add(time_of([&] { prefetch(memory.data(), true); }), bytes / touched_page);
    back.add(time_of([&] { prefetch(memory.data(), false); }), bytes / touched_page);
  }
  result out;
  out.params = {{"bytes", std::uint64_t{bytes}}, {"page_bytes", std::uint64_t{touched_page}}};
  out.operations = {there.finish(), back.finish()};
  return out;
}
#endif

__global__ void nothing_kernel() {}

result run_launch(const run_context& run) {
  timings one("launch");
  constexpr unsigned launches = 100;
  for (unsigned i = 0; i < run.wanted.repetitions(); ++i) {
    run.step("repetition " + std::to_string(i + 1));
    one.add(time_of([&] {
              for (unsigned n = 0; n < launches; ++n) launch(1, lanes_of_a_warp, nothing_kernel);
            }),
            launches);
  }
  result out;
  out.operations = {one.finish()};
  return out;
}

registration hardware_case(const std::string& name, const std::string& summary, int order,
                           std::function<result(const run_context&)> body) {
  return registration(
      {"hardware/" + name, summary, this_backend, order, std::move(body), "hardware"});
}

const registration cases[] = {
    hardware_case("atomics/one-word", "64-bit atomics of many warps on one word", 0,
                  [](const run_context& run) { return run_atomics(run, 1); }),
    hardware_case("atomics/distinct-words", "64-bit atomics of many warps, a line for each", 1,
                  [](const run_context& run) { return run_atomics(run, std::size_t{1} << 15); }),
    hardware_case("latency/l2", "a chain of loads through 4 MiB", 2,
                  [](const run_context& run) { return run_latency(run, std::size_t{4} << 20); }),
    hardware_case("latency/memory", "a chain of loads through 256 MiB", 3,
                  [](const run_context& run) { return run_latency(run, std::size_t{256} << 20); }),
    hardware_case("round-trip", "a lane asks a host thread through pinned memory", 4,
                  run_round_trip),
    hardware_case("first-touch", "kernels write to fresh pages of heap memory", 5, run_first_touch),
#ifdef __CUDACC__
    hardware_case("prefetch", "managed pages to the device and back", 6, run_prefetch),
#endif
    hardware_case("launch", "an empty kernel", 7, run_launch),
};

}  // namespace
}  // namespace warpheap::bench
