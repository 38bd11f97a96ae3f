// The n-th system call of a heap fails, for every n: from its construction to its end, in host code
// and in kernels. Calls answer nullptr or the constructor throws, nothing is lost, and once the
// system has memory again the heap can be used to its last page.
//
// The linker lets this file stand between the library and mmap, munmap and madvise
// (CMakeLists.txt: --wrap). The same for the n-th allocation by operator new while frees of
// kernels' objects are on their way.
#ifndef __CUDACC__

#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <thread>

#include "device_fixture.cuh"

namespace {

struct system_calls {
  std::atomic<long> until_fault{-1};  ///< calls that still succeed; negative: all do
  std::atomic<long> made{0};
  std::atomic<long> mapped_bytes{0};

  bool fails() {
    made.fetch_add(1);
    if (until_fault.load() < 0) return false;
    return until_fault.fetch_sub(1) == 0;
  }
};
system_calls& calls() {
  static system_calls the;
  return the;
}

/// Allocations of this thread that still succeed; negative: all do.
thread_local long allocations_until_fault = -1;

}  // namespace

extern "C" {
void* __real__Znwm(std::size_t bytes);
void* __wrap__Znwm(std::size_t bytes) {
  if (allocations_until_fault >= 0 && allocations_until_fault-- == 0) throw std::bad_alloc();
  return __real__Znwm(bytes);
}

void* __real_mmap(void* at, std::size_t bytes, int protection, int flags, int file, off_t offset);
int __real_munmap(void* at, std::size_t bytes);
int __real_madvise(void* at, std::size_t bytes, int advice);

void* __wrap_mmap(void* at, std::size_t bytes, int protection, int flags, int file, off_t offset) {
  if (calls().fails()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  void* p = __real_mmap(at, bytes, protection, flags, file, offset);
  if (p != MAP_FAILED) calls().mapped_bytes += static_cast<long>(bytes);
  return p;
}
int __wrap_munmap(void* at, std::size_t bytes) {
  calls().mapped_bytes -= static_cast<long>(bytes);
  return __real_munmap(at, bytes);
}
int __wrap_madvise(void* at, std::size_t bytes, int advice) {
  if (calls().fails()) {
    errno = EAGAIN;
    return -1;
  }
  return __real_madvise(at, bytes, advice);
}
}

namespace warpheap {
namespace {

/// Each block waits until all are there, so each has a worker of the executor for itself.
__global__ void meet(std::uint32_t* arrived) {
  if (threadIdx.x == 0) atomic::fetch_add<order::relaxed>(arrived, 1u);
  while (atomic::load<order::relaxed>(arrived) < gridDim.x) __nanosleep(1000);
}

class SystemFaults : public DeviceTest {
 protected:
  static constexpr std::uint32_t lanes = 64;

  static heap_options small() {
    heap_options o = quiet_options(8_MiB);
    o.initial_stock_bytes = 64_KiB;
    o.refill_timeout_ns = 1'000'000'000;
    return o;
  }

  /// Objects of all kinds of both sides, some freed by the other one; any may be nullptr.
  static void use(heap& h) {
    shared_array<void*> theirs(lanes);
    void* mine[24] = {};
    for (const std::size_t size : {std::size_t{4}, std::size_t{100}, 5_KiB, 40_KiB, 300_KiB}) {
      for (void*& p : mine) p = h.malloc(size);
      if (void* moved = h.realloc(mine[0], 2 * size)) mine[0] = moved;
      if (void* zeroed = h.calloc(3, size)) h.free(zeroed);
      if (void* aligned = h.aligned_alloc(16_KiB, size)) h.free(aligned);
      launch(1, lanes, malloc_all, device_heap(h.device()), theirs.data(), lanes, size);
      synchronize();
      for (void* p : theirs)
        if (p != nullptr) h.free(p);
      std::fill(theirs.begin(), theirs.end(), nullptr);
      std::copy(std::begin(mine), std::end(mine), theirs.begin());
      launch(1, lanes, free_all, device_heap(h.device()), theirs.data(), lanes);
      h.synchronize();
      h.trim();
    }
  }

  /// Pages that can be had at once by the host, in objects of 40 KiB, and after that by kernels.
  static std::pair<std::uint32_t, std::uint32_t> use_all(heap& h) {
    std::vector<void*> all;
    while (void* p = h.malloc(40_KiB)) all.push_back(p);
    const auto host = static_cast<std::uint32_t>(all.size());
    for (void* p : all) h.free(p);
    h.trim();
    shared_array<void*> p(256);
    // All warps at once leave no page lost, but runs too short for an object where they met.
    launch(8, 32, malloc_all, device_heap(h.device()), p.data(), 256u, 40_KiB);
    launch(8, 32, free_all, device_heap(h.device()), p.data(), 256u);
    h.synchronize();
    h.trim();
    for (unsigned warp = 0; warp < 8; ++warp) {
      launch(1, 32, malloc_all, device_heap(h.device()), p.data() + 32 * warp, 32u, 40_KiB);
      synchronize();
    }
    const auto device =
        static_cast<std::uint32_t>(std::count_if(p.begin(), p.end(), [](void* q) { return q; }));
    launch(8, 32, free_all, device_heap(h.device()), p.data(), 256u);
    h.synchronize();
    return {host, device};
  }
};

TEST_F(SystemFaults, TheNthAllocationOfASynchronizeFails) {
  heap h(small());
  shared_array<void*> p(lanes);
  long faults = 0;
  // More rounds than there are buffers for frees on their way.
  for (int round = 0; round < 12; ++round) {
    bool met = true;
    for (long n = 0; met; ++n) {
      ASSERT_LT(n, 200) << "there is always one more allocation";
      launch(1, lanes, malloc_all, device_heap(h.device()), p.data(), lanes, std::size_t{100});
      synchronize();
      for (void* object : p) h.free(object);
      allocations_until_fault = n;
      try {
        h.synchronize();
      } catch (const std::bad_alloc&) {
        ++faults;
      }
      met = allocations_until_fault < 0;
      allocations_until_fault = -1;
      h.synchronize();
      const heap_stats s = h.stats();
      ASSERT_EQ(s.errors[static_cast<unsigned>(error_kind::double_free)], 0u) << "fault " << n;
      ASSERT_EQ(s.device.live_objects, 0u) << "fault " << n;
    }
  }
  EXPECT_GE(faults, 24);
}

TEST_F(SystemFaults, TheNthCallFails) {
  // Threads, the executor and their stacks come first: they are not the heap's. Every worker has
  // its stacks then, for blocks as large as those of the heap's own kernels, though one alone may
  // run all blocks of these.
  shared_array<std::uint32_t> arrived(1);
  arrived[0] = 0;
  launch(std::max(1u, std::thread::hardware_concurrency()), 128, meet, arrived.data());
  synchronize();
  std::pair<std::uint32_t, std::uint32_t> everything;
  for (int i = 0; i < 2; ++i) {
    heap h(small());
    use(h);
    everything = use_all(h);
  }
  EXPECT_GT(everything.first, 190u);
  EXPECT_GT(everything.second, 190u);

  const long mapped = calls().mapped_bytes;
  long refused = 0, n = 0;
  for (; n < 500; ++n) {
    calls().until_fault = n;
    bool made = false;
    try {
      heap h(small());
      made = true;
      use(h);
      const bool fault_was_met = calls().until_fault < 0;
      calls().until_fault = -1;
      if (!fault_was_met) break;
      h.synchronize();
      expect_empty(h);
      EXPECT_EQ(use_all(h), everything) << "after fault " << n;
      expect_empty(h);
    } catch (const heap_error& error) {  // and nothing else
      EXPECT_FALSE(made) << "fault " << n;
      EXPECT_STRNE(error.what(), "");
      ++refused;
    }
    calls().until_fault = -1;
    EXPECT_LE(calls().mapped_bytes, mapped) << "fault " << n << " left memory behind";
    if (HasFailure()) return;
  }
  std::printf("%ld system calls failed in turn, with %ld there was no heap\n", n, refused);
  EXPECT_GT(refused, 3) << "faults in the constructor";
  EXPECT_GT(n, refused + 3) << "faults after it";
  EXPECT_LT(n, 500) << "there is always one more system call";
}

__global__ void count_lanes(std::uint32_t* sum) { atomicAdd(sum, 1u); }

/// Launches 64 blocks while the system refuses the stacks of their lanes. True when synchronize()
/// says so, once, and the next launch runs all blocks.
bool launch_without_stacks() {
  shared_array<std::uint32_t> sum(1);
  sum[0] = 0;
  bool told = false;
  calls().until_fault = 0;  // a worker that comes later has its stacks
  launch(64, 64, count_lanes, sum.data());
  try {
    synchronize();
  } catch (const std::bad_alloc&) {
    told = true;
  }
  if (calls().until_fault >= 0 || !told || sum[0] >= 64 * 64) return false;
  sum[0] = 0;
  launch(64, 64, count_lanes, sum.data());
  synchronize();
  return sum[0] == 64 * 64;
}

// In a process of its own: here the workers have their stacks.
TEST(SystemFaultsDeath, NoStacksForTheLanesIsTheLaunchsError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(std::exit(launch_without_stacks() ? 3 : 4), ::testing::ExitedWithCode(3), "");
}

}  // namespace
}  // namespace warpheap

#endif
