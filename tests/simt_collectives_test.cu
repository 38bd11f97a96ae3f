// Warp collectives, barriers and atomics against models, with divergence. For both backends.
#include "device_fixture.cuh"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>
#include <warpheap/launch.cuh>

namespace {

using warpheap::shared_array;

class simt_collectives : public warpheap::DeviceTest {};

enum op {
  op_ballot,
  op_any,
  op_all,
  op_shfl,
  op_shfl_up,
  op_shfl_down,
  op_shfl_xor,
  op_match_any,
  op_match_all,
  op_add,
  op_min,
  op_max,
  op_min_signed,
  op_max_signed,
  op_and,
  op_or,
  op_xor,
  op_syncwarp,
  op_count
};

struct call {
  unsigned mask;
  int op;
  unsigned operand;
  int width;
  unsigned long long value;
};

__device__ unsigned long long perform(const call& c) {
  const auto low = static_cast<unsigned>(c.value);
  switch (c.op) {
    case op_ballot: return __ballot_sync(c.mask, low & 1);
    case op_any: return __any_sync(c.mask, low & 1);
    case op_all: return __all_sync(c.mask, low & 1);
    case op_shfl: return __shfl_sync(c.mask, c.value, static_cast<int>(c.operand), c.width);
    case op_shfl_up: return __shfl_up_sync(c.mask, c.value, c.operand, c.width);
    case op_shfl_down: return __shfl_down_sync(c.mask, c.value, c.operand, c.width);
    case op_shfl_xor: return __shfl_xor_sync(c.mask, c.value, static_cast<int>(c.operand), c.width);
    case op_match_any: return __match_any_sync(c.mask, c.value);
    case op_match_all: {
      int equal = 2;
      const unsigned same = __match_all_sync(c.mask, c.value, &equal);
      return same | static_cast<unsigned long long>(equal) << 32;
    }
    case op_add: return __reduce_add_sync(c.mask, low);
    case op_min: return __reduce_min_sync(c.mask, low);
    case op_max: return __reduce_max_sync(c.mask, low);
    case op_min_signed:
      return static_cast<unsigned>(__reduce_min_sync(c.mask, static_cast<int>(low)));
    case op_max_signed:
      return static_cast<unsigned>(__reduce_max_sync(c.mask, static_cast<int>(low)));
    case op_and: return __reduce_and_sync(c.mask, low);
    case op_or: return __reduce_or_sync(c.mask, low);
    case op_xor: return __reduce_xor_sync(c.mask, low);
    default: __syncwarp(c.mask); return 0;
  }
}

__global__ void perform_all(const call* calls, int rounds, unsigned long long* results) {
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned threads = gridDim.x * blockDim.x;
  for (int r = 0; r < rounds; ++r)
    results[r * threads + thread] = perform(calls[r * threads + thread]);
}

constexpr unsigned long long anything = ~0ull;

/// What lane `lane` gets, by the text of the CUDA programming guide; `anything` where undefined.
unsigned long long model(const call* warp, unsigned lane) {
  const call& mine = warp[lane];
  const auto fold = [&](unsigned start, auto combine) {
    for (unsigned i = 0; i < 32; ++i)
      if ((mine.mask >> i & 1) != 0) start = combine(start, static_cast<unsigned>(warp[i].value));
    return start;
  };
  unsigned ballot = 0;
  unsigned equal = 0;
  for (unsigned i = 0; i < 32; ++i) {
    if ((mine.mask >> i & 1) == 0) continue;
    ballot |= static_cast<unsigned>(warp[i].value & 1) << i;
    equal |= static_cast<unsigned>(warp[i].value == mine.value) << i;
  }
  const int width = mine.width;
  const int first = static_cast<int>(lane) / width * width;
  int source = static_cast<int>(lane);
  const int operand = static_cast<int>(mine.operand);
  switch (mine.op) {
    case op_ballot: return ballot;
    case op_any: return ballot != 0;
    case op_all: return ballot == mine.mask;
    case op_match_any: return equal;
    case op_match_all: return equal == mine.mask ? equal | 1ull << 32 : 0;
    case op_add: return fold(0, [](unsigned a, unsigned b) { return a + b; });
    case op_min: return fold(~0u, [](unsigned a, unsigned b) { return std::min(a, b); });
    case op_max: return fold(0, [](unsigned a, unsigned b) { return std::max(a, b); });
    case op_min_signed:
      return fold(0x7fffffffu, [](unsigned a, unsigned b) {
        return static_cast<unsigned>(std::min(static_cast<int>(a), static_cast<int>(b)));
      });
    case op_max_signed:
      return fold(0x80000000u, [](unsigned a, unsigned b) {
        return static_cast<unsigned>(std::max(static_cast<int>(a), static_cast<int>(b)));
      });
    case op_and: return fold(~0u, [](unsigned a, unsigned b) { return a & b; });
    case op_or: return fold(0, [](unsigned a, unsigned b) { return a | b; });
    case op_xor: return fold(0, [](unsigned a, unsigned b) { return a ^ b; });
    case op_syncwarp: return 0;
    case op_shfl: source = first + operand % width; break;
    case op_shfl_up:
      if (source - operand >= first) source -= operand;
      break;
    case op_shfl_down:
      if (source + operand < first + width) source += operand;
      break;
    default:
      if ((source ^ operand) < first + width) source ^= operand;
  }
  return (mine.mask >> source & 1) != 0 ? warp[source].value : anything;
}

void check_random_collectives(unsigned seed, unsigned blocks, unsigned block_threads, int rounds) {
  std::mt19937 random(seed);
  const unsigned threads = blocks * block_threads;
  shared_array<call> calls(std::size_t{threads} * rounds);
  shared_array<unsigned long long> results(std::size_t{threads} * rounds);
  for (unsigned base = 0; base < threads * rounds;) {
    const unsigned in_block = base % threads % block_threads;
    const unsigned lanes = std::min(32u, block_threads - in_block);
    // Every lane draws a group; a group shares mask, operation and width.
    const unsigned groups = 1 + random() % 4;
    call group[4] = {};
    for (call& g : group) {
      g.op = static_cast<int>(random() % op_count);
      g.width = 1 << random() % 6;
    }
    unsigned member[32];
    for (unsigned i = 0; i < lanes; ++i) {
      member[i] = random() % groups;
      group[member[i]].mask |= 1u << i;
    }
    const unsigned values = 1 + random() % 5;
    const bool wide = random() % 2 == 0;
    for (unsigned i = 0; i < lanes; ++i) {
      call& c = calls[base + i] = group[member[i]];
      c.operand = c.op == op_shfl ? random() % 32 : random() % 33 % 32;
      c.value = wide ? random() : random() % values;
      if (random() % 2 == 0) c.value |= static_cast<unsigned long long>(random() % values) << 33;
    }
    base += lanes;
  }
  warpheap::launch(blocks, block_threads, perform_all, calls.data(), rounds, results.data());
  warpheap::synchronize();
  for (unsigned i = 0; i < threads * rounds; ++i) {
    const unsigned lane = i % threads % block_threads % 32;
    // The model looks at whole warps; lanes past the end of the block are in no mask.
    call warp[32] = {};
    const unsigned first = i - lane;
    const unsigned lanes = std::min(32u, block_threads - first % threads % block_threads);
    std::copy_n(&calls[first], lanes, warp);
    const unsigned long long expected = model(warp, lane);
    if (expected == anything) continue;
    ASSERT_EQ(results[i], expected)
        << "op " << calls[i].op << " lane " << lane << " mask " << calls[i].mask << " width "
        << calls[i].width << " operand " << calls[i].operand << " seed " << seed;
  }
}

TEST_F(simt_collectives, random_masks_operations_and_divergence) {
  for (unsigned seed = 0; seed < 8; ++seed) check_random_collectives(seed, 3, 64, 200);
}

TEST_F(simt_collectives, partial_warps) {
  check_random_collectives(100, 5, 4, 200);
  check_random_collectives(101, 2, 1, 50);
  check_random_collectives(102, 2, 77, 100);
}

__global__ void shuffle_types(double* d, float* f, long long* l, int* i) {
  const unsigned lane = threadIdx.x;
  d[lane] = __shfl_sync(0xffffffffu, lane + 0.25, 7);
  f[lane] = __shfl_up_sync(0xffffffffu, lane + 0.5f, 1);
  l[lane] = __shfl_xor_sync(0xffffffffu, -1ll - lane, 3);
  i[lane] = __shfl_down_sync(0xffffffffu, static_cast<short>(-5 - static_cast<int>(lane)), 2);
}

TEST_F(simt_collectives, shuffles_of_every_kind_of_type) {
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

TEST_F(simt_collectives, loops_that_lanes_leave_one_by_one) {
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
  out[lane] = static_cast<int>(__reduce_add_sync(0xffffffffu, static_cast<unsigned>(value)));
}

TEST_F(simt_collectives, masks_inside_masks) {
  shared_array<int> out(32);
  warpheap::launch(1, 32, nested_masks, out.data());
  warpheap::synchronize();
  for (int v : out) EXPECT_EQ(v, 31 * 16 + 1 + 1);
}

__global__ void block_sum(const int* in, int* out) {
  __shared__ int partial[32];
  const unsigned lane = threadIdx.x % 32;
  int sum = in[blockIdx.x * blockDim.x + threadIdx.x];
  for (int distance = 16; distance > 0; distance /= 2)
    sum += __shfl_down_sync(0xffffffffu, sum, static_cast<unsigned>(distance));
  if (lane == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    int total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += partial[w];
    out[blockIdx.x] = total;
  }
}

TEST_F(simt_collectives, sums_through_shared_memory) {
  constexpr unsigned blocks = 40;
  constexpr unsigned threads = 1024;
  shared_array<int> in(blocks * threads);
  shared_array<int> out(blocks);
  std::iota(in.begin(), in.end(), 0);
  warpheap::launch(blocks, threads, block_sum, in.data(), out.data());
  warpheap::synchronize();
  for (unsigned b = 0; b < blocks; ++b)
    EXPECT_EQ(out[b], std::accumulate(in.data() + b * threads, in.data() + (b + 1) * threads, 0));
}

__global__ void reverse_dynamic(int* out) {
  int* buffer = warpheap::dynamic_shared<int>();
  const unsigned i = threadIdx.x + threadIdx.y * blockDim.x + threadIdx.z * blockDim.x * blockDim.y;
  const unsigned count = blockDim.x * blockDim.y * blockDim.z;
  buffer[i] = static_cast<int>(i + 1000 * (blockIdx.x + gridDim.x * blockIdx.y));
  __syncthreads();
  out[(blockIdx.x + gridDim.x * blockIdx.y) * count + i] = buffer[count - 1 - i];
}

TEST_F(simt_collectives, dynamic_shared_memory_and_three_dimensions) {
  const dim3 grid(3, 2);
  const dim3 block(5, 3, 4);
  shared_array<int> out(6 * 60);
  warpheap::launch(warpheap::launch_options{grid, block, 60 * sizeof(int)}, reverse_dynamic,
                   out.data());
  warpheap::synchronize();
  for (int b = 0; b < 6; ++b)
    for (int i = 0; i < 60; ++i) EXPECT_EQ(out[b * 60 + i], 1000 * b + 59 - i);
}

__global__ void barrier_votes(int* out) {
  const int thread = static_cast<int>(threadIdx.x);
  // Threads that have exited do not count.
  if (thread >= 90) return;
  const int count = __syncthreads_count(thread % 3 == 0);
  const int all = __syncthreads_and(thread < 90);
  const int none = __syncthreads_and(thread < 89);
  const int any = __syncthreads_or(thread == 17);
  const int nobody = __syncthreads_or(thread > 200);
  out[thread] = count | all << 8 | none << 9 | any << 10 | nobody << 11;
}

TEST_F(simt_collectives, barriers_that_vote) {
  shared_array<int> out(96);
  warpheap::launch(1, 96, barrier_votes, out.data());
  warpheap::synchronize();
  for (int i = 0; i < 90; ++i) EXPECT_EQ(out[i], 30 | 1 << 8 | 1 << 10) << i;
}

struct totals {
  int add;
  unsigned sub;
  unsigned long long add64;
  float add_float;
  double add_double;
  int least;
  unsigned most;
  unsigned long long most64;
  unsigned all_of;
  unsigned any_of;
  unsigned long long parity;
  unsigned ring_up;
  unsigned ring_down;
  unsigned by_cas;
  unsigned exchanged_sum;
  unsigned last;
  unsigned short small;
};

__global__ void all_atomics(totals* t) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&t->add, -1);
  atomicSub(&t->sub, 2u);
  atomicAdd(&t->add64, 1ull << 33);
  atomicAdd(&t->add_float, 1.0f);
  atomicAdd_block(&t->add, -1);
  atomicAdd_system(&t->add_double, 0.5);
  atomicMin(&t->least, -static_cast<int>(i));
  atomicMax(&t->most, i);
  atomicMax(&t->most64, static_cast<unsigned long long>(i) << 32);
  atomicAnd(&t->all_of, ~(1u << i % 7));
  atomicOr_system(&t->any_of, 1u << i % 9);
  atomicXor(&t->parity, static_cast<unsigned long long>(i) << 20);
  atomicInc(&t->ring_up, 9u);
  atomicDec(&t->ring_down, 9u);
  unsigned seen = 0;
  unsigned old = 0;
  do {
    seen = old;
    old = atomicCAS(&t->by_cas, seen, seen + 3);
  } while (old != seen);
  atomicAdd(&t->exchanged_sum, atomicExch(&t->last, i));
  unsigned short small_old = 0;
  unsigned short small_seen = 0;
  do {
    small_seen = small_old;
    small_old = atomicCAS(&t->small, small_seen, static_cast<unsigned short>(small_seen + 1));
  } while (small_old != small_seen);
}

TEST_F(simt_collectives, atomics_lose_nothing) {
  constexpr unsigned blocks = 20;
  constexpr unsigned threads = 160;
  constexpr unsigned n = blocks * threads;
  shared_array<totals> t(1);
  t[0].all_of = ~0u;
  warpheap::launch(blocks, threads, all_atomics, t.data());
  warpheap::synchronize();
  EXPECT_EQ(t[0].add, -2 * static_cast<int>(n));
  EXPECT_EQ(t[0].sub, 0u - 2 * n);
  EXPECT_EQ(t[0].add64, std::uint64_t{n} << 33);
  EXPECT_EQ(t[0].add_float, static_cast<float>(n));
  EXPECT_EQ(t[0].add_double, n / 2.0);
  EXPECT_EQ(t[0].least, 1 - static_cast<int>(n));
  EXPECT_EQ(t[0].most, n - 1);
  EXPECT_EQ(t[0].most64, std::uint64_t{n - 1} << 32);
  EXPECT_EQ(t[0].all_of, ~0x7fu);
  EXPECT_EQ(t[0].any_of, 0x1ffu);
  std::uint64_t parity = 0;
  for (std::uint64_t i = 0; i < n; ++i) parity ^= i << 20;
  EXPECT_EQ(t[0].parity, parity);
  EXPECT_EQ(t[0].ring_up, n % 10);
  EXPECT_EQ(t[0].ring_down, (10 - n % 10) % 10);
  EXPECT_EQ(t[0].by_cas, 3 * n);
  EXPECT_EQ(t[0].exchanged_sum + t[0].last, n * (n - 1) / 2);
  EXPECT_EQ(t[0].small, static_cast<unsigned short>(n));
}

__global__ void bit_words(unsigned x, unsigned long long y, int* out, unsigned long long* wide) {
  const int thread = static_cast<int>(threadIdx.x);
  x = thread == 1 ? 0 : x;
  y = thread == 1 ? 0 : y;
  int* mine = out + 6 * thread;
  mine[0] = __popc(x);
  mine[1] = __popcll(y);
  mine[2] = __ffs(static_cast<int>(x));
  mine[3] = __ffsll(static_cast<long long>(y));
  mine[4] = __clz(static_cast<int>(x));
  mine[5] = __clzll(static_cast<long long>(y));
  wide[4 * thread + 0] = __brev(x);
  wide[4 * thread + 1] = __brevll(y);
  wide[4 * thread + 2] = __umulhi(x, 0x80000000u);
  wide[4 * thread + 3] = __umul64hi(y, 1ull << 60);
}

TEST_F(simt_collectives, operations_on_bits) {
  shared_array<int> out(12);
  shared_array<unsigned long long> wide(8);
  warpheap::launch(1, 2, bit_words, 0x00f01230u, 0x00001230000000f0ull, out.data(), wide.data());
  warpheap::synchronize();
  const int expected[12] = {8, 8, 5, 5, 8, 19, 0, 0, 0, 0, 32, 64};
  EXPECT_TRUE(std::equal(out.begin(), out.end(), expected));
  const unsigned long long expected_wide[8] = {
      0x0c480f00u, 0x0f0000000c480000ull, 0x00f01230u >> 1, 0x00001230000000f0ull >> 4, 0, 0, 0, 0};
  EXPECT_TRUE(std::equal(wide.begin(), wide.end(), expected_wide));
}

__global__ void append(int* log, int* used, int mark) {
  if (threadIdx.x == 0 && blockIdx.x == 0) log[atomicAdd(used, 1)] = mark;
}

TEST_F(simt_collectives, launches_of_one_stream_are_in_order) {
  constexpr int streams = 3;
  constexpr int launches = 50;
  shared_array<int> log(streams * launches);
  shared_array<int> used(streams);
  warpheap::stream stream[streams];
  for (int i = 0; i < launches; ++i)
    for (int s = 0; s < streams; ++s)
      warpheap::launch(stream[s], 2, 40, append, log.data() + s * launches, used.data() + s, i);
  stream[1].synchronize();
  EXPECT_EQ(used[1], launches);
  warpheap::synchronize();
  for (int s = 0; s < streams; ++s) {
    EXPECT_EQ(used[s], launches);
    for (int i = 0; i < launches; ++i) EXPECT_EQ(log[s * launches + i], i);
  }
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

TEST_F(simt_collectives, active_mask_contains_the_caller_and_only_its_branch) {
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

TEST_F(simt_collectives, operations_of_the_device_core) {
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
