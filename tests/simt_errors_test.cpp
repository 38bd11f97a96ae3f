// What the executor does with kernels that are wrong: it names the lanes, and goes on.
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <thread>
#include <warpheap/launch.cuh>

#include "tests/full_warp.hpp"

namespace {

using warpheap::testing::full;

/// The error text of a launch; empty when there was none.
template <class... Parameters, class... Arguments>
std::string error_of(dim3 grid, dim3 block, void (*kernel)(Parameters...), Arguments... arguments) {
  warpheap::launch(grid, block, kernel, arguments...);
  try {
    warpheap::synchronize();
  } catch (const warpheap::simt::execution_error& e) {
    return e.what();
  }
  return {};
}

__global__ void add_one(int* out) {
  __syncthreads();
  if (__any_sync(full, threadIdx.x == 3)) atomicAdd(out, 1);
}

void expect_executor_works() {
  int sum = 0;
  warpheap::launch(7, 64, add_one, &sum);
  warpheap::synchronize();
  EXPECT_EQ(sum, 7 * 32);
  EXPECT_EQ(warpheap::simt::active_kernels(), 0u);
}

/// Whether the table has a row for these lanes of this warp with these words in it.
bool has_row(const std::string& text, const std::string& warp, const std::string& lanes,
             const std::string& words) {
  std::size_t begin = text.find("location");
  while (begin != std::string::npos && begin < text.size()) {
    const std::size_t end = text.find('\n', begin + 1);
    const std::string line = text.substr(begin, end - begin);
    if (line.find(" " + warp + "  " + lanes + " ") != std::string::npos
        && line.find(words) != std::string::npos)
      return true;
    begin = end;
  }
  return false;
}

__global__ void other_operation() {
  if (threadIdx.x >= 32 && threadIdx.x % 2 == 1) {
    __ballot_sync(full, 1);
  } else {
    __any_sync(full, 1);
  }
}

TEST(simt_errors, different_operations) {
  const std::string text = error_of(1, 64, other_operation);
  EXPECT_NE(text.find("different operations or masks"), std::string::npos) << text;
  EXPECT_TRUE(has_row(text, "1", "0", "__any_sync           0xffffffff")) << text;
  EXPECT_TRUE(has_row(text, "1", "1", "__ballot_sync        0xffffffff")) << text;
  EXPECT_NE(text.find("lane 1 of warp 1"), std::string::npos) << text;
  EXPECT_NE(text.find("simt_errors_test.cpp:"), std::string::npos) << text;
  expect_executor_works();
}

__global__ void other_mask(bool after_active_mask) {
  if (after_active_mask) (void)__activemask();
  __shfl_sync(threadIdx.x < 8 ? 0x0000ffffu : 0x000fffffu, 1, 0);
}

TEST(simt_errors, different_masks) {
  std::string text = error_of(1, 20, other_mask, false);
  EXPECT_TRUE(has_row(text, "0", "0-7", "__shfl_sync          0x0000ffff")) << text;
  EXPECT_TRUE(has_row(text, "0", "8", "__shfl_sync          0x000fffff")) << text;
  // Lanes that wait in one place are one row, wherever they were before.
  text = error_of(1, 20, other_mask, true);
  EXPECT_TRUE(has_row(text, "0", "0-7", "__shfl_sync          0x0000ffff")) << text;
  EXPECT_TRUE(has_row(text, "0", "8-19", "__shfl_sync          0x000fffff")) << text;
  expect_executor_works();
}

__global__ void not_in_own_mask() {
  if (threadIdx.x < 4) __syncwarp(0x7u);
}

TEST(simt_errors, lane_not_in_its_own_mask) {
  const std::string text = error_of(1, 32, not_in_own_mask);
  EXPECT_NE(text.find("not in its own mask"), std::string::npos) << text;
  EXPECT_TRUE(has_row(text, "0", "3", "__syncwarp           0x00000007")) << text;
  expect_executor_works();
}

__global__ void exits_before() {
  if (threadIdx.x == 5) return;
  __shfl_sync(full, 1, 0);
}
__global__ void exits_after() {
  if (threadIdx.x < 31) __shfl_sync(full, 1, 0);
}
__global__ void exits_before_syncwarp(int* out) {
  if (threadIdx.x % 3 == 0) return;
  __syncwarp();
  atomicAdd(out, 1);
}
__global__ void exits_after_syncwarp(int* out) {
  if (threadIdx.x > 20) return;
  __syncwarp();
  atomicAdd(out, 1);
}

TEST(simt_errors, lane_of_the_mask_has_exited) {
  std::string text = error_of(1, 32, exits_before);
  EXPECT_NE(text.find("exited"), std::string::npos) << text;
  EXPECT_TRUE(has_row(text, "0", "5", "exited")) << text;
  text = error_of(1, 32, exits_after);
  EXPECT_TRUE(has_row(text, "0", "31", "exited")) << text;
  EXPECT_TRUE(has_row(text, "0", "0-30", "__shfl_sync")) << text;
  expect_executor_works();
}

TEST(simt_errors, syncwarp_does_not_wait_for_lanes_that_have_exited) {
  int out = 0;
  EXPECT_EQ(error_of(1, 32, exits_before_syncwarp, &out), "");
  EXPECT_EQ(out, 21);
  EXPECT_EQ(error_of(1, 32, exits_after_syncwarp, &out), "");
  EXPECT_EQ(out, 42);
}

/// Three lanes, each of which waits for the next one.
__global__ void circle() {
  const unsigned lane = threadIdx.x;
  if (lane < 3) __any_sync(1u << lane | 1u << (lane + 1) % 3, 1);
}

TEST(simt_errors, deadlock_in_a_circle) {
  const std::string text = error_of(2, 32, circle);
  EXPECT_NE(text.find("deadlock"), std::string::npos) << text;
  EXPECT_TRUE(has_row(text, "0", "0", "__any_sync           0x00000003")) << text;
  EXPECT_TRUE(has_row(text, "0", "1", "__any_sync           0x00000006")) << text;
  EXPECT_TRUE(has_row(text, "0", "2", "__any_sync           0x00000005")) << text;
  EXPECT_TRUE(has_row(text, "0", "3-31", "exited")) << text;
  expect_executor_works();
}

__global__ void divergent_barrier() {
  if (threadIdx.x < 5) {
    __syncthreads();
  } else {
    __ballot_sync(full, 1);
  }
}
__global__ void different_barriers() {
  if (threadIdx.x < 40) {
    __syncthreads();
  } else {
    __syncthreads_or(1);
  }
}

TEST(simt_errors, barrier_divergence) {
  std::string text = error_of(1, 64, divergent_barrier);
  EXPECT_NE(text.find("barrier"), std::string::npos) << text;
  EXPECT_TRUE(has_row(text, "0", "0-4", "__syncthreads")) << text;
  EXPECT_TRUE(has_row(text, "0", "5-31", "__ballot_sync        0xffffffff")) << text;
  text = error_of(1, 64, different_barriers);
  EXPECT_TRUE(has_row(text, "1", "0-7", "__syncthreads ")) << text;
  EXPECT_TRUE(has_row(text, "1", "8", "__syncthreads_or")) << text;
  expect_executor_works();
}

__global__ void traps() {
  if (blockIdx.x == 2 && threadIdx.x == 33) __trap();
  __syncthreads();
}

TEST(simt_errors, trap) {
  const std::string text = error_of(4, 64, traps);
  EXPECT_NE(text.find("__trap()"), std::string::npos) << text;
  EXPECT_NE(text.find("block (2,0,0)"), std::string::npos) << text;
  EXPECT_NE(text.find("lane 1 of warp 1"), std::string::npos) << text;
  expect_executor_works();
}

struct on_exit {
  int* count;
  // What a destructor asks of a warp that is breaking up must not end the process.
  ~on_exit() {
    __syncwarp();
    atomicAdd(count, 1);
  }
};

__global__ void throws(int* destroyed) {
  const on_exit guard{destroyed};
  __syncthreads();
  if (threadIdx.x == 7) throw std::runtime_error("the reason");
  __syncthreads();
}

TEST(simt_errors, exception_unwinds_every_lane) {
  int destroyed = 0;
  const std::string text = error_of(1, 32, throws, &destroyed);
  EXPECT_NE(text.find("the reason"), std::string::npos) << text;
  EXPECT_EQ(destroyed, 32);
  expect_executor_works();
}

__global__ void waits_for_another_block(unsigned* flag) {
  if (blockIdx.x == 0) {
    if (threadIdx.x == 0) __trap();
    return;
  }
  while (atomicAdd(flag, 0u) == 0) {
  }
}
__global__ void sleeps_for_another_block(unsigned* flag) {
  if (blockIdx.x == 0) __trap();
  while (*static_cast<volatile unsigned*>(flag) == 0) __nanosleep(100);
}
__global__ void votes_for_another_block(unsigned* flag) {
  if (blockIdx.x == 0) __trap();
  while (!__any_sync(full, *static_cast<volatile unsigned*>(flag) != 0)) {
  }
}

TEST(simt_errors, other_blocks_of_a_failed_launch_end) {
  unsigned flag = 0;
  EXPECT_NE(error_of(3, 32, waits_for_another_block, &flag), "");
  EXPECT_NE(error_of(3, 32, sleeps_for_another_block, &flag), "");
  EXPECT_NE(error_of(3, 32, votes_for_another_block, &flag), "");
  expect_executor_works();
}

__global__ void host_only_calls() { warpheap::synchronize(); }

TEST(simt_errors, no_dynamic_parallelism) {
  EXPECT_NE(error_of(1, 1, host_only_calls).find("by a kernel"), std::string::npos);
}

__global__ void nothing() {}

TEST(simt_errors, shapes_that_cannot_run) {
  using warpheap::launch_error;
  EXPECT_THROW(warpheap::launch(0, 32, nothing), launch_error);
  EXPECT_THROW(warpheap::launch(1, 0, nothing), launch_error);
  EXPECT_THROW(warpheap::launch(1, 1025, nothing), launch_error);
  EXPECT_THROW(warpheap::launch(1, dim3(32, 33), nothing), launch_error);
  EXPECT_THROW(warpheap::launch(1, dim3(1, 1, 65), nothing), launch_error);
  EXPECT_THROW(warpheap::launch(dim3(1, 70000), 1, nothing), launch_error);
  EXPECT_THROW(warpheap::launch(warpheap::launch_options{1, 1, 1u << 20}, nothing), launch_error);
  warpheap::launch(1, dim3(32, 32), nothing);
  warpheap::synchronize();
}

TEST(simt_errors, belong_to_their_stream) {
  warpheap::stream good;
  warpheap::stream bad;
  warpheap::launch(bad, 2, 32, traps);
  warpheap::launch(bad, 4, 64, traps);
  warpheap::launch(good, 2, 32, nothing);
  EXPECT_NO_THROW(good.synchronize());
  EXPECT_THROW(bad.synchronize(), warpheap::launch_error);
  EXPECT_NO_THROW(warpheap::synchronize());
  warpheap::launch(bad, 4, 64, traps);
  EXPECT_THROW(warpheap::synchronize(), warpheap::simt::execution_error);
  EXPECT_NO_THROW(bad.synchronize());
}

TEST(simt_errors, words_outside_of_kernels) {
  EXPECT_THROW(__syncwarp(), std::logic_error);
  EXPECT_THROW(static_cast<void>(threadIdx.x), std::logic_error);
  unsigned word = 1;
  EXPECT_EQ(atomicAdd(&word, 2u), 1u);
}

[[gnu::noinline]] unsigned descend(unsigned depth) {
  volatile char frame[4096];
  frame[depth % sizeof frame] = static_cast<char>(depth);
  if (depth == 0) return 0;
  return descend(depth - 1) + static_cast<unsigned>(frame[depth % sizeof frame] != 0);
}
__global__ void overflows(unsigned depth) { static_cast<void>(descend(depth)); }

TEST(simt_errors_death, stack_overflow_hits_the_guard_page) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        warpheap::launch(1, 32, overflows, 2u);
        warpheap::synchronize();
        std::exit(17);
      },
      ::testing::ExitedWithCode(17), "");
  EXPECT_DEATH(
      {
        warpheap::launch(1, 32, overflows, 1000u);
        warpheap::synchronize();
      },
      "");
}

__global__ void never_ends() {
  for (;;) __nanosleep(1000);
}

TEST(simt_errors_death, process_exits_with_busy_and_idle_workers) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        warpheap::simt::set_worker_threads(4);
        warpheap::launch(2, 64, never_ends);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
