// malloc and free called by the host: this heap, the C library, and on CUDA its own host-side
// calls.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/host_memory.hpp"
#include "bench/rounds.cuh"

namespace warpheap::bench {
namespace {

/// Of the objects that are there.
void require_marks(const std::vector<void*>& objects, std::size_t size) {
  const auto last = [size](void* p) {
    return reinterpret_cast<std::size_t*>(static_cast<char*>(p) + size - sizeof(std::size_t));
  };
  for (std::size_t i = 0; i < objects.size(); ++i) {
    if (objects[i] == nullptr) continue;
    if (reinterpret_cast<std::uintptr_t>(objects[i]) % 16 != 0)
      throw integrity_error("object " + std::to_string(i) + " of " + std::to_string(size)
                            + " bytes: found it at an address that is not divisible by 16");
    *static_cast<std::size_t*>(objects[i]) = *last(objects[i]) = i;
  }
  for (std::size_t i = 0; i < objects.size(); ++i)
    if (objects[i] != nullptr
        && (*static_cast<std::size_t*>(objects[i]) != i || *last(objects[i]) != i))
      throw integrity_error("object " + std::to_string(i) + " of " + std::to_string(size)
                            + " bytes: expected its number at both ends, found other bytes");
}

/// Times `count` calls of each. Where the host can reach the objects it marks both ends of each,
/// and looks for the marks, between the timed parts. `heap_bytes`: of the heap under test.
template <class Malloc, class Free>
result run_calls(const run_context& run, std::size_t count, std::size_t heap_bytes, bool reachable,
                 Malloc&& take, Free&& give) {
  result out;
  std::vector<void*> objects(count);
  for (const std::size_t size : {64, 4096, 65536}) {
    timings mallocs("malloc", run.wanted.warm_ups(), {{"size_bytes", std::uint64_t{size}}});
    timings frees("free", run.wanted.warm_ups(), {{"size_bytes", std::uint64_t{size}}});
    const point_clock clock(run);
    for (unsigned i = 0; clock.wants(i); ++i) {
      run.repetition(i);
      const stopwatch taking;
      for (void*& p : objects) p = take(size);
      mallocs.add(read(taking), count);
      const auto nulls =
          static_cast<std::uint64_t>(std::count(objects.begin(), objects.end(), nullptr));
      run.count(count, nulls);
      require_served(nulls, count, count * size, heap_bytes);
      if (reachable) require_marks(objects, size);
      const stopwatch giving;
      for (void* p : objects) give(p);
      frees.add(read(giving), count);
    }
    out.operations.push_back(mallocs.finish());
    out.operations.push_back(frees.finish());
  }
  out.params = {{"objects", std::uint64_t{count}},
                {"touched", std::string(reachable ? "both ends" : "no")}};
  return out;
}

result run_heap(const run_context& run) {
  warpheap_adapter allocator(run.reserve_bytes);
  heap& tested = allocator.tested();
  result out = run_calls(
      run, 1000, run.reserve_bytes, true, [&](std::size_t size) { return tested.malloc(size); },
      [&](void* p) { tested.free(p); });
  require_empty(tested, "after the calls of the host");
  return out;
}

result run_libc(const run_context& run) {
  return run_calls(
      run, 1000, available_memory(), true, [](std::size_t size) { return std::malloc(size); },
      [](void* p) { std::free(p); });
}

const registration of_heap({"device/host-calls/warpheap", "malloc and free called by the host",
                            this_backend, 10, run_heap, "device"});
const registration of_libc({"device/host-calls/libc", "malloc and free of the C library",
                            this_backend, 10, run_libc, "device"});

#ifdef __CUDACC__
/// False when CUDA has no memory; other errors are thrown.
bool served(cudaError_t code, const char* what) {
  if (code == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    return false;
  }
  check_cuda(code, what);
  return true;
}

result run_cuda_async(const run_context& run) {
  // Queued on a stream: the time to make the calls, and to see the stream finish them.
  stream queue;
  return run_calls(
      run, 1000, 0, false,
      [&](std::size_t size) {
        void* p = nullptr;
        return served(cudaMallocAsync(&p, size, queue.native()), "cudaMallocAsync") ? p : nullptr;
      },
      [&](void* p) {
        if (p != nullptr) check_cuda(cudaFreeAsync(p, queue.native()), "cudaFreeAsync");
      });
}

result run_cuda_malloc(const run_context& run) {
  return run_calls(
      run, 100, 0, false,
      [](std::size_t size) {
        void* p = nullptr;
        return served(cudaMalloc(&p, size), "cudaMalloc") ? p : nullptr;
      },
      [](void* p) { check_cuda(cudaFree(p), "cudaFree"); });
}

const registration of_async({"device/host-calls/cudamallocasync",
                             "cudaMallocAsync and cudaFreeAsync", this_backend, 10, run_cuda_async,
                             "device"});
const registration of_malloc({"device/host-calls/cudamalloc", "cudaMalloc and cudaFree",
                              this_backend, 10, run_cuda_malloc, "device"});
#endif

}  // namespace
}  // namespace warpheap::bench
