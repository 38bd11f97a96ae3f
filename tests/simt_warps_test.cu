// What lanes of a warp do together, where they diverge and as the device core does it. For both
// backends.
#include "device_fixture.cuh"

#include <algorithm>
#include <random>
#include <vector>
#include <warpheap/launch.cuh>

namespace {

using warpheap::shared_array;

class simt_warps : public warpheap::DeviceTest {};

__global__ void shuffle_types(double* d, float* f, long long* l, int* i) {
  const unsigned lane = threadIdx.x;
  d[lane] = __shfl_sync(0xffffffffu, lane + 0.25, 7);
  f[lane] = __shfl_up_sync(0xffffffffu, lane + 0.5f, 1);
  l[lane] = __shfl_xor_sync(0xffffffffu, -1ll - lane, 3);
  i[lane] = __shfl_down_sync(0xffffffffu, static_cast<short>(-5 - static_cast<int>(lane)), 2);
}

TEST_F(simt_warps, shuffles_of_every_kind_of_type) {
  shared_array<double> d(32);
  shared_array<float> f(32);
  shared_array<long long> l(32);
  shared_array<int> i(32);
  warpheap::launch(1, 32, shuffle_types, d.data(), f.data(), l.data(), i.data());
  warpheap::synchronize();
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(d[lane], 7.25);
    EXPECT_EQ(f[lane], (lane == 0 ? 0 : lane - 1) + 0.5f);
    EXPECT_EQ(l[lane], -1 - (lane ^ 3));
    EXPECT_EQ(i[lane], -5 - (lane < 30 ? lane + 2 : lane));
  }
}

/// The loop of device code that works on one key after the other, with lanes dropping out.
__global__ void count_keys(const int* keys, int* counts) {
  const int key = keys[threadIdx.x];
  unsigned rest = __ballot_sync(0xffffffffu, key >= 0);
  if (key < 0) return;
  while (true) {
    const int leader = __ffs(static_cast<int>(rest)) - 1;
    const int chosen = __shfl_sync(rest, key, leader);
    const unsigned same = __ballot_sync(rest, key == chosen);
    if (key == chosen) {
      if (static_cast<int>(threadIdx.x) == leader) counts[key] = __popc(same);
      break;
    }
    rest &= ~same;
  }
}

TEST_F(simt_warps, loops_that_lanes_leave_one_by_one) {
  shared_array<int> keys(32);
  shared_array<int> counts(8);
  std::vector<int> expected(8);
  for (int i = 0; i < 32; ++i) {
    keys[i] = i % 5 == 4 ? -1 : i * i % 8;
    if (keys[i] >= 0) ++expected[keys[i]];
  }
  warpheap::launch(1, 32, count_keys, keys.data(), counts.data());
  warpheap::synchronize();
  EXPECT_TRUE(std::equal(counts.begin(), counts.end(), expected.begin()));
}

/// A lane may synchronise with some lanes while others wait for it and them.
__global__ void nested_masks(int* out) {
  const unsigned lane = threadIdx.x;
  int value = static_cast<int>(lane);
  if (lane < 16) {
    value = __shfl_xor_sync(0x0000ffffu, value, 1);
    if (lane < 2) value += __shfl_sync(0x3u, value, 0);
    __syncwarp(0x0000ffffu);
  }
  for (int other = 1; other < 32; other *= 2) value += __shfl_xor_sync(0xffffffffu, value, other);
  out[lane] = value;
}

TEST_F(simt_warps, masks_inside_masks) {
  shared_array<int> out(32);
  warpheap::launch(1, 32, nested_masks, out.data());
  warpheap::synchronize();
  for (int v : out) EXPECT_EQ(v, 31 * 16 + 1 + 1);
}

__global__ void converged_groups(unsigned* masks, const int* branch) {
  const unsigned i = threadIdx.x;
  unsigned mask = 0;
  if (branch[i] == 0) {
    mask = __activemask();
  } else if (branch[i] == 1) {
    mask = __activemask();
  }
  masks[i] = mask;
}

TEST_F(simt_warps, active_mask_contains_the_caller_and_only_its_branch) {
  shared_array<unsigned> masks(64);
  shared_array<int> branch(64);
  for (int i = 0; i < 64; ++i) branch[i] = i * 7 % 3;
  warpheap::launch(1, 64, converged_groups, masks.data(), branch.data());
  warpheap::synchronize();
  for (int i = 0; i < 64; ++i) {
    if (branch[i] == 2) continue;
    EXPECT_NE(masks[i] >> i % 32 & 1, 0u);
    for (int j = 0; j < 32; ++j) {
      if ((masks[i] >> j & 1) != 0) {
        EXPECT_EQ(branch[i / 32 * 32 + j], branch[i]);
        EXPECT_EQ(masks[i / 32 * 32 + j], masks[i]);
      }
    }
  }
}

/// The device core's own operations: on the executor each is one collective of its own.
__global__ void core_operations(const int* branch, const unsigned* keys, unsigned* groups,
                                unsigned long long* ors, unsigned* ats, unsigned long long* gots) {
  namespace core = warpheap::core;
  const unsigned t = threadIdx.x;
  unsigned group = 0;
  if (branch[t] == 0)
    group = core::group_of(core::converged(), keys[t]);
  else if (branch[t] == 1)
    group = core::group_of(core::converged(), keys[t]);
  else
    group = core::group_of(1u << t, keys[t]);
  groups[t] = group;
  ors[t] = core::reduce_or(group, 1ull << (2 * t % 64) | t);
  const unsigned last = 31 - static_cast<unsigned>(__clz(static_cast<int>(group)));
  const core::claim c = core::broadcast(group, {t * 3, ~0ull - t}, last);
  ats[t] = c.at;
  gots[t] = c.got;
}

TEST_F(simt_warps, operations_of_the_device_core) {
  shared_array<int> branch(32);
  shared_array<unsigned> keys(32), groups(32), ats(32);
  shared_array<unsigned long long> ors(32), gots(32);
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    for (unsigned t = 0; t < 32; ++t) {
      branch[t] = round < 20 ? 0 : static_cast<int>(random() % 3);
      keys[t] = random() % 4;
    }
    warpheap::launch(1, 32, core_operations, branch.data(), keys.data(), groups.data(), ors.data(),
                     ats.data(), gots.data());
    warpheap::synchronize();
    for (unsigned t = 0; t < 32; ++t) {
      unsigned long long all = 0;
      unsigned last = 0;
      ASSERT_NE(groups[t] >> t & 1, 0u);
      for (unsigned i = 0; i < 32; ++i) {
        if ((groups[t] >> i & 1) == 0) continue;
        ASSERT_EQ(keys[i], keys[t]) << "lanes of two keys in one group";
        ASSERT_TRUE(i == t || branch[t] != 2);
        ASSERT_EQ(groups[i], groups[t]);
        all |= 1ull << (2 * i % 64) | i;
        last = i;
      }
      ASSERT_EQ(ors[t], all);
      ASSERT_EQ(ats[t], last * 3);
      ASSERT_EQ(gots[t], ~0ull - last);
    }
  }
}

}  // namespace
