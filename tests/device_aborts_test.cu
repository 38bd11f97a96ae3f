// Kernels that fail in the middle of their calls, beside others that go on. Of the executor: on
// CUDA a kernel that fails takes the context with it.
#ifndef __CUDACC__

#include <chrono>
#include <vector>

#include "device_fixture.cuh"

namespace warpheap {
namespace {

class DeviceAborts : public DeviceTest {
 protected:
  /// A malloc that waited for something that a dead kernel has in hand would wait for so long.
  static constexpr std::uint64_t limit_ns = 40'000'000'000;
};

/// One warp takes and frees aligned runs, for which it asks the host and sleeps, the other all
/// kinds of objects, until a lane of it fails.
__global__ void fail_among_calls(device_heap heap, std::uint32_t seed) {
  random_numbers random(seed + thread_number());
  for (unsigned i = 0; i < 40; ++i) {
    if (threadIdx.x >= 32) {
      if (threadIdx.x % 8 == 0) heap.free(heap.aligned_alloc(std::size_t{1} << 20, 5u << 20));
      continue;
    }
    heap.free(heap.malloc(1 + random.below(300)));
    if (i % 4 == 0) heap.free(heap.malloc(40'000));
    if (threadIdx.x == seed % 32 && i == seed % 29) __trap();
  }
}

__global__ void go_on(device_heap heap, std::uint32_t seed, std::uint32_t* failed) {
  random_numbers random(seed + thread_number());
  for (unsigned i = 0; i < 60; ++i) {
    void* p = heap.malloc(1 + random.below(3000));
    if (p == nullptr) atomicAdd(failed, 1u);
    heap.free(p);
  }
}

__global__ void take_until_null(device_heap heap, std::uint32_t* taken) {
  while (heap.malloc(page_size) != nullptr) ++*taken;
}

TEST_F(DeviceAborts, MallocsOfOthersDoNotWaitForKernelsThatHaveFailed) {
  heap_options o = quiet_options(64_MiB);
  o.initial_stock_bytes = 0;
  o.report_leaks = false;
  o.refill_timeout_ns = limit_ns;
  heap h(o);
  stream failing, others[2];
  std::uint32_t not_served = 0, taken = 0;
  const auto began = std::chrono::steady_clock::now();
  unsigned failures = 0;
  const auto launches = testing::scaled(40u);
  for (std::uint32_t seed = 1; seed <= launches; ++seed) {
    launch(failing, 2, 64, fail_among_calls, device_heap(h.device()), seed);
    for (stream& s : others) launch(s, 1, 64, go_on, device_heap(h.device()), seed, &not_served);
    try {
      failing.synchronize();
    } catch (const simt::execution_error&) {
      ++failures;
    }
  }
  for (stream& s : others) s.synchronize();
  EXPECT_EQ(failures, launches);
  EXPECT_EQ(not_served, 0u);
  expect_sound(h.stats());
  // To the last page, and beyond it.
  for (int i = 0; i < 4; ++i) launch(1, 1, take_until_null, device_heap(h.device()), &taken);
  h.synchronize();
  const heap_stats s = h.stats();
  EXPECT_GT(taken, 0u);
  EXPECT_EQ(s.stock_bytes, 0u);
  // Nothing is lost but objects, of which nobody knows any more.
  EXPECT_EQ(s.device.span_bytes + s.host.span_bytes + page_size, s.reserve_bytes);
  EXPECT_LT((std::chrono::steady_clock::now() - began) / std::chrono::nanoseconds(1), limit_ns);
  h.reset();
  expect_empty(h);
}

}  // namespace
}  // namespace warpheap

#endif
