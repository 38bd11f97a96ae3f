// The executor as a scheduler: streams, workers, host threads, waiting lanes.
#include <gtest/gtest.h>
#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>
#include <warpheap/launch.cuh>

#include "tests/full_warp.hpp"

namespace {

using warpheap::testing::full;

__global__ void count(unsigned* total) { atomicAdd(total, 1u); }

__global__ void meet(std::atomic<unsigned>* arrived, unsigned wanted) {
  if (threadIdx.x == 0) ++*arrived;
  while (arrived->load() < wanted) __nanosleep(200);
}

TEST(simt_executor, streams_run_beside_each_other) {
  warpheap::simt::set_worker_threads(2);
  std::atomic<unsigned> arrived = 0;
  warpheap::stream a;
  warpheap::stream b;
  warpheap::launch(a, 1, 32, meet, &arrived, 2u);
  warpheap::launch(b, 1, 32, meet, &arrived, 2u);
  warpheap::synchronize();
  EXPECT_EQ(arrived, 2u);
}

TEST(simt_executor, blocks_run_beside_each_other) {
  warpheap::simt::set_worker_threads(3);
  std::atomic<unsigned> arrived = 0;
  warpheap::launch(3, 64, meet, &arrived, 3u);
  warpheap::synchronize();
  EXPECT_EQ(arrived, 3u);
}

TEST(simt_executor, launches_do_not_wait) {
  std::atomic<unsigned> arrived = 0;
  warpheap::launch(1, 1, meet, &arrived, 2u);
  EXPECT_EQ(warpheap::simt::active_kernels(), 1u);
  ++arrived;
  warpheap::synchronize();
  EXPECT_EQ(warpheap::simt::active_kernels(), 0u);
}

TEST(simt_executor, many_host_threads_launch_at_once) {
  unsigned total = 0;
  std::vector<std::thread> hosts;
  for (int h = 0; h < 8; ++h) {
    hosts.emplace_back([&total] {
      warpheap::stream mine;
      for (int i = 0; i < 50; ++i) {
        warpheap::launch(mine, 3, 33, count, &total);
        warpheap::launch(2, 1, count, &total);
        if (i % 10 == 0) mine.synchronize();
      }
      warpheap::synchronize();
    });
  }
  for (std::thread& h : hosts) h.join();
  EXPECT_EQ(total, 8u * 50 * (99 + 2));
}

TEST(simt_executor, arguments_are_copied_at_the_launch) {
  unsigned first = 0;
  unsigned second = 0;
  unsigned* target = &first;
  warpheap::launch(1, 32, count, target);
  target = &second;
  warpheap::synchronize();
  EXPECT_EQ(first, 32u);
  EXPECT_EQ(second, 0u);
}

TEST(simt_executor, a_stream_may_go_before_its_launches) {
  unsigned total = 0;
  {
    warpheap::stream gone;
    for (int i = 0; i < 20; ++i) warpheap::launch(gone, 4, 32, count, &total);
  }
  warpheap::synchronize();
  EXPECT_EQ(total, 20u * 128);
}

/// Lanes that wait for lanes of their own warp, of another warp, and for lanes that ask for the
/// active mask.
__global__ void wait_for_each_other(unsigned* flags) {
  const unsigned i = threadIdx.x;
  const unsigned giver = blockDim.x - 1 - i;
  if (i % 2 == 0) {
    while (atomicAdd(flags + giver, 0u) == 0) {
    }
  } else {
    const unsigned mask = __activemask();
    __syncwarp(mask);
    atomicExch(flags + i, 1u);
  }
}

TEST(simt_executor, spinning_on_an_atomic_lets_others_run) {
  std::vector<unsigned> flags(256);
  warpheap::launch(1, 256, wait_for_each_other, flags.data());
  warpheap::synchronize();
  std::fill(flags.begin(), flags.end(), 0u);
  warpheap::launch(1, 32, wait_for_each_other, flags.data());
  warpheap::synchronize();
}

__global__ void spin_locks(unsigned* lock, unsigned* counter) {
  for (int i = 0; i < 3; ++i) {
    while (atomicCAS(lock, 0u, 1u) != 0) {
    }
    __threadfence();
    const unsigned mask = __activemask();
    if (__popc(mask) > 0) ++*counter;
    __threadfence();
    atomicExch(lock, 0u);
  }
}

TEST(simt_executor, a_lock_held_across_active_mask) {
  unsigned lock = 0;
  unsigned counter = 0;
  warpheap::launch(4, 64, spin_locks, &lock, &counter);
  warpheap::synchronize();
  EXPECT_EQ(counter, 3u * 256);
}

/// One warp votes in a loop on what a sleeping lane of another warp will do.
__global__ void vote_until(std::atomic<unsigned>* flag) {
  if (threadIdx.x < 32) {
    while (!__any_sync(full, flag->load() != 0)) {
    }
  } else if (threadIdx.x == 32) {
    __nanosleep(100'000);
    *flag = 1;
  }
}

TEST(simt_executor, a_warp_that_votes_in_a_loop_lets_others_run) {
  std::atomic<unsigned> flag = 0;
  warpheap::launch(1, 64, vote_until, &flag);
  warpheap::synchronize();
  EXPECT_EQ(flag, 1u);
}

__global__ void all_converged(unsigned* masks, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    const unsigned mask = __activemask();
    if (mask != full) atomicAdd(masks, 1u);
    __syncwarp(mask);
  }
}

/// Odd lanes take a longer way round, the loop's end joins them.
__global__ void converged_in_branches(unsigned* wrong, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    unsigned mask = 0;
    unsigned expected = 0;
    if (threadIdx.x % 2 == 1) {
      mask = __activemask();
      expected = 0xaaaaaaaau;
    } else {
      mask = __activemask();
      expected = 0x55555555u;
    }
    if (mask != expected) atomicAdd(wrong, 1u);
    __syncwarp();
  }
}

__global__ void early_exits(unsigned* wrong) {
  for (unsigned i = 0; i <= threadIdx.x; ++i) {
    if (__activemask() != full << i) atomicAdd(wrong, 1u);
  }
}

TEST(simt_executor, active_mask_is_the_whole_converged_group) {
  unsigned wrong = 0;
  warpheap::launch(3, 128, all_converged, &wrong, 100);
  warpheap::launch(3, 128, converged_in_branches, &wrong, 100);
  warpheap::launch(1, 32, early_exits, &wrong);
  warpheap::synchronize();
  EXPECT_EQ(wrong, 0u);
}

__global__ void sleep_once(unsigned nanoseconds) { __nanosleep(nanoseconds); }

TEST(simt_executor, nanosleep_sleeps_about_as_long_as_asked) {
  using clock = std::chrono::steady_clock;
  const auto begin = clock::now();
  warpheap::launch(1, 64, sleep_once, 3'000'000u);
  warpheap::synchronize();
  const auto took = clock::now() - begin;
  EXPECT_GE(took, std::chrono::milliseconds(3));
  EXPECT_LT(took, std::chrono::milliseconds(500));
}

__global__ void own_slot(unsigned* users, unsigned* clashes) {
  const unsigned slot = warpheap::simt::warp_slot();
  if (threadIdx.x % 32 == 0) {
    if (slot >= warpheap::simt::warp_slots()) atomicAdd(clashes, 1u);
    if (atomicAdd(users + slot, 1u) != 0) atomicAdd(clashes, 1u);
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) atomicSub(users + slot, 1u);
}

TEST(simt_executor, running_warps_have_slots_of_their_own) {
  warpheap::simt::set_worker_threads(3);
  std::vector<unsigned> users(warpheap::simt::warp_slots());
  unsigned clashes = 0;
  warpheap::stream other;
  for (int i = 0; i < 10; ++i) {
    warpheap::launch(20, 256, own_slot, users.data(), &clashes);
    warpheap::launch(other, 20, 64, own_slot, users.data(), &clashes);
  }
  warpheap::synchronize();
  EXPECT_EQ(clashes, 0u);
}

TEST(simt_executor, fewer_workers) {
  warpheap::simt::set_worker_threads(4);
  unsigned total = 0;
  warpheap::launch(1000, 32, count, &total);
  warpheap::simt::set_worker_threads(1);
  EXPECT_EQ(warpheap::simt::worker_threads(), 1u);
  warpheap::launch(1000, 32, count, &total);
  warpheap::synchronize();
  EXPECT_EQ(total, 64000u);
  warpheap::simt::set_worker_threads(2);
}

}  // namespace
