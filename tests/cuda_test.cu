// What only CUDA has: errors that it keeps for a thread, memory of a device that several heaps
// share.
#include "device_fixture.cuh"

#ifdef __CUDACC__

#include <cstdlib>

#include "child_of_cuda.hpp"

namespace warpheap {
namespace {

/// Destroyed after CUDA: constructed before it was initialised.
std::unique_ptr<heap> late;

class Cuda : public DeviceTest {
 protected:
  /// More than any device has: the error stays for the thread.
  static void leave_an_error() {
    void* p = nullptr;
    ASSERT_NE(cudaMalloc(&p, std::size_t{1} << 60), cudaSuccess);
    ASSERT_NE(cudaPeekAtLastError(), cudaSuccess);
  }
};

TEST_F(Cuda, AnErrorThatTheUserLeftIsNotTheHeaps) {
  leave_an_error();
  heap h(options(64_MiB));
  shared_array<void*> pointers(1000);
  launch(blocks_for(1000, 128), 128, malloc_all, device_heap(h.device()), pointers.data(), 1000u,
         std::size_t{100});
  synchronize();
  leave_an_error();
  EXPECT_EQ(h.stats().device.live_objects, 1000u);
  leave_an_error();
  for (void* p : pointers) h.free(p);
  h.synchronize();
  leave_an_error();
  EXPECT_NO_THROW(h.trim());
  leave_an_error();
  EXPECT_NO_THROW(h.reset());
  leave_an_error();
  h.begin_device_marks();
  leave_an_error();
  EXPECT_EQ(h.sweep_device().leaked.objects, 0u);
  expect_empty(h);
}

TEST_F(Cuda, MemoryThatCannotBeHadLeavesNoError) {
  const auto memory = make_cuda_memory();
  EXPECT_EQ(memory->reserve(std::size_t{1} << 60), nullptr);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  EXPECT_EQ(memory->allocate_device(std::size_t{1} << 60), nullptr);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  EXPECT_EQ(memory->allocate_pinned(std::size_t{1} << 60), nullptr);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
}

TEST_F(Cuda, WhatHeapsHaveReservedIsNotReservedTwice) {
  const auto memory = make_cuda_memory();
  const std::size_t before = memory->max_reserve();
  if (before < 4_GiB) GTEST_SKIP() << "needs a GPU with 4 GiB free";
  {
    const heap h(options(2_GiB));  // of which nothing is touched
    EXPECT_LE(memory->max_reserve(), before - 2_GiB / 6 * 5);
  }
  EXPECT_GT(memory->max_reserve(), before - 1_GiB);
}

__global__ void malloc_from_bound_heap(void** out) { *out = device_malloc(24); }

TEST_F(Cuda, AHeapIsBoundForKernelsOnAnyStreamOfItsDevice) {
  int devices = 0, before = 0;
  ASSERT_EQ(cudaGetDeviceCount(&devices), cudaSuccess);
  ASSERT_EQ(cudaGetDevice(&before), cudaSuccess);
  for (int device = 0; device < devices; ++device) {
    const cuda_device_scope here(device);
    heap first(options(16_MiB)), second(options(16_MiB));
    shared_array<void*> out(1);
    stream other;
    for (int i = 0; i < 20; ++i) {
      heap& bound = i % 2 == 0 ? first : second;
      {
        const cuda_device_scope elsewhere(before);
        bind(bound.device());
      }
      launch(other, 1, 1, malloc_from_bound_heap, out.data());
      other.synchronize();
      ASSERT_NE(out[0], nullptr);
      const auto* const p = static_cast<std::byte*>(out[0]);
      EXPECT_TRUE(p >= bound.device().base && p < bound.device().base + bound.device().bytes);
      bound.free(out[0]);
    }
    bind({});
    launch(other, 1, 1, malloc_from_bound_heap, out.data());
    other.synchronize();
    EXPECT_EQ(out[0], nullptr);
  }
}

TEST_F(Cuda, AChildOfAForkHasNothingOfAHeap) {
  heap_options o = quiet_options(64_MiB);
  testing::expect_nothing_in_a_child(o);
  o.red_zones = true;
  testing::expect_nothing_in_a_child(o);
}

TEST_F(Cuda, AHeapMayEndAfterCuda) {
  // A process of its own, which initialises CUDA after `late`.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto end_late = [] {
    late = std::make_unique<heap>(options(64_MiB));
    (void)late->malloc(100);
    std::exit(0);
  };
  EXPECT_EXIT(end_late(), ::testing::ExitedWithCode(0), "");
}

// Also where there is no GPU.
TEST(CudaKernels, ThatCannotRunAreAReason) {
  const std::string reason = why_no_cuda_kernels();
  if (why_no_cuda().empty())
    EXPECT_EQ(reason, "");
  else
    EXPECT_NE(reason.find("CMAKE_CUDA_ARCHITECTURES"), std::string::npos) << reason;
}

}  // namespace
}  // namespace warpheap

#endif
