// What the sanitizers see of kernels. Each test is there only in a build with its sanitizer.
#include <gtest/gtest.h>
#include <cstdlib>
#include <vector>
#include <warpheap/launch.cuh>

#include "tests/full_warp.hpp"

namespace {

using warpheap::testing::full;

/// Ends the process with a status of its own if the kernel runs to its end.
template <class... Parameters, class... Arguments>
[[noreturn]] void run_and_exit(dim3 grid, dim3 block, void (*kernel)(Parameters...),
                               Arguments... arguments) {
  warpheap::launch(grid, block, kernel, arguments...);
  warpheap::synchronize();
  std::exit(0);
}

__global__ void write_own(unsigned* words) {
  words[blockIdx.x * blockDim.x + threadIdx.x] = threadIdx.x;
}
__global__ void through_shared(unsigned* words) {
  __shared__ unsigned buffer[64];
  unsigned* dynamic = warpheap::dynamic_shared<unsigned>();
  buffer[threadIdx.x] = threadIdx.x;
  dynamic[threadIdx.x] = threadIdx.x;
  __syncthreads();
  words[blockIdx.x * 64 + threadIdx.x] = buffer[63 - threadIdx.x] + dynamic[threadIdx.x ^ 1];
  unsigned* flag = words + blockIdx.x * 64 + threadIdx.x / 32 * 32;
  if (threadIdx.x % 32 == 0) *flag = 5;
  __syncwarp();
  if (__shfl_sync(full, *flag, 7) != 5) __trap();
}
__global__ void hand_over(unsigned* words) {
  if (atomicAdd(words, 1u) % 2 == 0) atomicAdd(words + 1, 1u);
}

#ifdef WARPHEAP_SIMT_TSAN

constexpr int race_found = 66;

__global__ void racing_blocks(unsigned* words) {
  if (threadIdx.x == 0) words[0] = blockIdx.x;
}
__global__ void racing_lanes(unsigned* words) { words[1] = __popc(threadIdx.x) + 1u; }
__global__ void racing_shared(unsigned* words) {
  __shared__ unsigned word;
  if (threadIdx.x == 3) word = 1;
  if (threadIdx.x == 40) words[2] = word;
}

TEST(simt_tsan_death, reports_plain_writes_of_two_blocks) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  static unsigned words[4];
  EXPECT_EXIT(run_and_exit(2, 32, racing_blocks, words), ::testing::ExitedWithCode(race_found),
              "data race");
}
TEST(simt_tsan_death, reports_plain_writes_of_two_lanes) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  static unsigned words[4];
  EXPECT_EXIT(run_and_exit(1, 32, racing_lanes, words), ::testing::ExitedWithCode(race_found),
              "data race");
}
TEST(simt_tsan_death, reports_races_in_shared_memory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  static unsigned words[4];
  EXPECT_EXIT(run_and_exit(1, 64, racing_shared, words), ::testing::ExitedWithCode(race_found),
              "data race");
}

#endif

TEST(simt_sanitizers, have_nothing_to_say_about_clean_kernels) {
  // A report makes the whole process fail.
  std::vector<unsigned> words(64 * 64);
  for (int round = 0; round < 3; ++round) {
    warpheap::stream other;
    std::vector<unsigned> more(64 * 64);
    warpheap::launch(64, 64, write_own, words.data());
    warpheap::launch(other, 64, 64, write_own, more.data());
    warpheap::launch(warpheap::launch_options{64, 64, 64 * sizeof(unsigned)}, through_shared,
                     words.data());
    other.synchronize();
    EXPECT_EQ(more[70], 6u);
    warpheap::launch(other, 16, 64, hand_over, more.data());
    warpheap::synchronize();
    for (unsigned i = 1; i < 32; ++i) EXPECT_EQ(words[i], 63 - i + (i ^ 1));
    words[0] = 0;
  }
}

#ifdef WARPHEAP_SIMT_ASAN

__global__ void past_dynamic_shared() { warpheap::dynamic_shared<char>()[100] = 1; }
__global__ void past_local(unsigned index) {
  volatile char local[16] = {};
  local[index] = 1;
  __syncwarp();
  if (local[index % 16] > 5) __trap();
}

TEST(simt_asan_death, reports_writes_past_shared_and_local_memory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        warpheap::launch(warpheap::launch_options{1, 32, 100}, past_dynamic_shared);
        warpheap::synchronize();
      },
      "heap-buffer-overflow");
  EXPECT_DEATH(run_and_exit(1, 32, past_local, 16u), "stack-buffer-overflow|out of bounds");
}

#endif

}  // namespace
