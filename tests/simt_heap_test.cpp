// What only the executor can show: kernels that are aborted while they use the heap, and kernels
// that fill the device and wait for the host.
#include "device_fixture.cuh"

#include <atomic>
#include <chrono>
#include <thread>

namespace warpheap {
namespace {

class SimtHeap : public DeviceTest {};

/// Lanes allocate and free; one of them traps in the middle.
__global__ void trap_among_mallocs(device_heap heap, unsigned trap_at) {
  for (unsigned i = 0; i < 20; ++i) {
    void* p = heap.malloc(1 + (threadIdx.x * 37 + i * 101) % 3000);
    if (thread_number() == 5 && i == trap_at) __trap();
    heap.free(p);
  }
}

/// Half of the warp leaves, the other half waits for it at a collective.
__global__ void exit_while_lanes_wait(device_heap heap, void** out) {
  out[threadIdx.x] = heap.malloc(64);
  if (threadIdx.x < 16) return;
  __syncthreads();
  (void)__ballot_sync(0xffffffffu, 1);
}

TEST_F(SimtHeap, TheHeapWorksAfterATrap) {
  heap_options o = options(64_MiB);
  o.initial_stock_bytes = 64_KiB;  // so that some lanes are waiting for pages when it happens
  o.report_leaks = false;
  heap h(o);
  for (unsigned trap_at = 0; trap_at < 20; ++trap_at) {
    launch(4, 96, trap_among_mallocs, device_heap(h.device()), trap_at);
    EXPECT_THROW(synchronize(), simt::execution_error);
    h.trim();
    expect_sound(h.stats());
  }
  // Slots that the aborted lanes held are lost to them, not to the heap.
  h.reset();
  expect_empty(h);
  constexpr std::uint32_t n = 5000;
  shared_array<void*> pointers(n);
  launch(blocks_for(n, 128), 128, malloc_all, device_heap(h.device()), pointers.data(), n,
         std::size_t{2000});
  launch(blocks_for(n, 128), 128, free_all, device_heap(h.device()), pointers.data(), n);
  synchronize();
  for (void* p : pointers) EXPECT_NE(p, nullptr);
  expect_empty(h);
}

TEST_F(SimtHeap, LanesThatWaitForExitedOnesAreReportedAndTheHeapWorks) {
  heap h(options(16_MiB));
  shared_array<void*> out(32);
  launch(1, 32, exit_while_lanes_wait, device_heap(h.device()), out.data());
  try {
    synchronize();
    ADD_FAILURE() << "no error";
  } catch (const simt::execution_error& error) {
    EXPECT_NE(std::string(error.what()).find("exited"), std::string::npos) << error.what();
  }
  for (void* p : out) h.free(p);
  expect_empty(h);
}

__global__ void wait_for(const unsigned* flag, std::uint64_t limit_ns) {
  const std::uint64_t start = simt::now_ns();
  while (atomic::load<order::acquire>(flag) == 0 && simt::now_ns() - start < limit_ns)
    __nanosleep(1000);
}

TEST_F(SimtHeap, HostFreesDoNotWaitForKernelsThatFillTheDevice) {
  heap h(options(64_MiB));
  constexpr std::uint32_t n = 12 * 1024;
  shared_array<void*> p(n);
  shared_array<unsigned> flag(1);
  launch(blocks_for(n, 128), 128, malloc_all, device_heap(h.device()), p.data(), n,
         std::size_t{32});
  synchronize();
  constexpr std::uint64_t limit_ns = 20'000'000'000;
  launch(simt::worker_threads(), 32, wait_for, flag.data(), limit_ns);
  const std::uint64_t start = simt::now_ns();
  for (void* q : p) h.free(q);
  EXPECT_LT(simt::now_ns() - start, limit_ns / 2);
  atomic::store<order::release>(flag.data(), 1u);
  synchronize();
  expect_empty(h);
}

__global__ void keep_trying(device_heap heap, void** out, std::size_t size,
                            std::uint64_t limit_ns) {
  const std::uint64_t start = simt::now_ns();
  while (*out == nullptr && simt::now_ns() - start < limit_ns) {
    *out = heap.malloc(size);
    __nanosleep(100'000);
  }
}

TEST_F(SimtHeap, PagesThatAnEndedThreadHadReachAKernelThatWasDenied) {
  heap_options o = options(8_MiB);
  o.initial_stock_bytes = 0;
  heap h(o);
  std::atomic<unsigned> phase{0};
  std::thread owner([&] {
    // Spans of many classes, all objects freed, the spans kept in this thread's cache.
    std::vector<void*> objects;
    for (unsigned c = 32; c < num_classes; ++c) objects.push_back(h.malloc(class_to_size(c)));
    for (void* p : objects) h.free(p);
    phase = 1;
    while (phase != 2) std::this_thread::yield();
  });
  while (phase != 1) std::this_thread::yield();
  std::vector<void*> rest;
  for (const std::size_t pages : {512, 256, 128, 64, 32, 16, 8})
    while (void* p = h.malloc(pages * 8_KiB)) rest.push_back(p);
  shared_array<void*> out(1);
  launch(1, 1, keep_trying, device_heap(h.device()), out.data(), std::size_t{50} * 8_KiB,
         std::uint64_t{20'000'000'000});
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  phase = 2;
  owner.join();
  synchronize();
  EXPECT_NE(out[0], nullptr);
  h.free(out[0]);
  for (void* p : rest) h.free(p);
  expect_empty(h);
}

}  // namespace
}  // namespace warpheap
