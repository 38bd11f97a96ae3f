// malloc and free in kernels, one object a lane, each object written and verified in full.
//
// A kernel that only allocates, one that only frees, timed apart; and "pairs", where each lane
// frees what it allocated at once.
#include <algorithm>
#include <array>
#include <cstdio>

#include <warpheap/device_heap.cuh>
#include <warpheap/heap.hpp>

#include "bench/device_tools.cuh"
#include "bench/measure.hpp"
#include "bench/registry.hpp"

namespace warpheap::bench {
namespace {

WARPHEAP_HD constexpr std::uint64_t mixed(std::uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  return x ^ x >> 32;
}

/// Sizes of the objects: all the same, or uniform in a range.
struct size_plan {
  std::uint32_t least;
  std::uint32_t most;

  WARPHEAP_HD std::uint32_t size(std::uint64_t index) const {
    return least == most ? least
                         : least + static_cast<std::uint32_t>(mixed(index) % (most - least + 1));
  }
  WARPHEAP_HD std::uint32_t alignment(std::uint32_t bytes) const {
    const std::uint32_t low_bit = bytes & (0u - bytes);
    return bytes == low_bit ? (low_bit < 128 ? low_bit : 128) : low_bit < 8 ? low_bit : 8;
  }
};

enum class fault_kind : std::uint32_t { none, denied, misaligned, content };

/// The first object found wrong, and how many there are.
struct fault {
  unsigned long long count;
  unsigned long long index;
  unsigned long long address;
  unsigned long long expected;
  unsigned long long found;
  std::uint32_t offset;
  std::uint32_t bytes;
  fault_kind kind;

  __device__ void report(fault_kind what, std::uint64_t i, const void* p, std::uint32_t size,
                         std::uint32_t at, std::uint64_t wanted, std::uint64_t got) {
    if (atomicAdd(&count, 1ull) != 0) return;
    index = i;
    address = reinterpret_cast<std::uintptr_t>(p);
    expected = wanted;
    found = got;
    offset = at;
    bytes = size;
    kind = what;
  }
};

/// What stands at `offset` of an object: depends on its number and on where it lies, so that two
/// objects which overlap can't both be right.
struct pattern {
  std::uint64_t seed;
  __device__ pattern(std::uint64_t index, const void* p)
      : seed(mixed(index ^ reinterpret_cast<std::uintptr_t>(p) * 0x9e3779b97f4a7c15u)) {}
  template <class Word>
  __device__ Word at(std::uint32_t offset) const {
    return static_cast<Word>((seed + offset * 0x9e3779b97f4a7c15u) >> (64 - 8 * sizeof(Word)));
  }
};

__global__ void malloc_kernel(device_heap heap, void** objects, std::size_t count, size_plan plan) {
  const std::size_t i = global_thread();
  if (i < count) objects[i] = heap.malloc(plan.size(i));
}

__global__ void free_kernel(device_heap heap, void** objects, std::size_t count) {
  const std::size_t i = global_thread();
  if (i < count) heap.free(objects[i]);
}

template <class Word>
__device__ void write_words(void* p, std::uint32_t size, pattern content) {
  for (std::uint32_t at = 0; at < size; at += sizeof(Word))
    *reinterpret_cast<Word*>(static_cast<char*>(p) + at) = content.at<Word>(at);
}

template <class Word>
__device__ void verify_words(const void* p, std::uint32_t size, pattern content, std::uint64_t i,
                             fault* first) {
  for (std::uint32_t at = 0; at < size; at += sizeof(Word)) {
    const Word found = *reinterpret_cast<const Word*>(static_cast<const char*>(p) + at);
    if (found != content.at<Word>(at)) {
      first->report(fault_kind::content, i, p, size, at, content.at<Word>(at), found);
      return;
    }
  }
}

__global__ void write_kernel(void** objects, std::size_t count, size_plan plan, fault* first) {
  const std::size_t i = global_thread();
  if (i >= count) return;
  void* p = objects[i];
  const std::uint32_t size = plan.size(i);
  if (p == nullptr) {
    first->report(fault_kind::denied, i, p, size, 0, 0, 0);
    return;
  }
  const std::uint32_t alignment = plan.alignment(size);
  if (const auto rest = reinterpret_cast<std::uintptr_t>(p) % alignment; rest != 0) {
    first->report(fault_kind::misaligned, i, p, size, 0, alignment, rest);
    return;
  }
  const pattern content(i, p);
  if (alignment >= 8)
    write_words<std::uint64_t>(p, size, content);
  else if (alignment == 4)
    write_words<std::uint32_t>(p, size, content);
  else
    write_words<std::uint8_t>(p, size, content);
}

__global__ void verify_kernel(void** objects, std::size_t count, size_plan plan, fault* first) {
  const std::size_t i = global_thread();
  if (i >= count || objects[i] == nullptr) return;
  const void* p = objects[i];
  const std::uint32_t size = plan.size(i);
  const std::uint32_t alignment = plan.alignment(size);
  const pattern content(i, p);
  if (alignment >= 8)
    verify_words<std::uint64_t>(p, size, content, i, first);
  else if (alignment == 4)
    verify_words<std::uint32_t>(p, size, content, i, first);
  else
    verify_words<std::uint8_t>(p, size, content, i, first);
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
      first->report(fault_kind::denied, number, p, size, 0, 0, 0);
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

std::string in_hex(unsigned long long value) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "0x%llx", value);
  return text.data();
}

void require_sound(const device_array<fault>& faults) {
  const fault first = faults.to_host().front();
  if (first.count == 0) return;
  const std::string object = "object " + std::to_string(first.index) + " of "
                             + std::to_string(first.bytes) + " bytes at " + in_hex(first.address);
  std::string text;
  switch (first.kind) {
    case fault_kind::denied: text = object + ": expected memory, found a null pointer"; break;
    case fault_kind::misaligned:
      text = object + ": expected an address divisible by " + std::to_string(first.expected)
             + ", found a remainder of " + std::to_string(first.found);
      break;
    default:
      text = object + ", offset " + std::to_string(first.offset) + ": expected "
             + in_hex(first.expected) + ", found " + in_hex(first.found);
  }
  if (first.count > 1) text += " (and " + std::to_string(first.count - 1) + " more objects)";
  throw integrity_error(text);
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

fields plan_params(size_plan plan) {
  if (plan.least == plan.most) return {{"size_bytes", std::uint64_t{plan.least}}};
  return {{"min_size_bytes", std::uint64_t{plan.least}},
          {"max_size_bytes", std::uint64_t{plan.most}}};
}

std::uint64_t payload_of(size_plan plan, std::size_t count) {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < count; ++i) bytes += plan.size(i);
  return bytes;
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
    mallocs.add(time_ns([&] { launch(grid, block_threads, malloc_kernel, dev, all, count, plan); }),
                count);
    launch(grid, block_threads, write_kernel, all, count, plan, first);
    launch(grid, block_threads, verify_kernel, all, count, plan, first);
    synchronize();
    require_sound(faults);
    full = snapshot(tested);
    frees.add(time_ns([&] { launch(grid, block_threads, free_kernel, dev, all, count); }), count);
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
    both.add(time_ns([&] {
               launch(blocks_for(lanes), block_threads, pairs_kernel, dev, lanes, rounds, plan,
                      faults.data());
             }),
             pairs);
    require_sound(faults);
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

struct registrations {
  registrations() {
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

const registrations registered;

}  // namespace
}  // namespace warpheap::bench
