// Warp collectives against a model: random masks, operations and divergence. For both backends.
#include "device_fixture.cuh"

#include <algorithm>
#include <random>
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

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
/// A warp's reductions are instructions from sm_80 on. Before, shuffles stand in for them.
template <class T, class Combine>
__device__ T reduced(unsigned mask, T value, Combine combine) {
  T all = __shfl_sync(mask, value, __ffs(static_cast<int>(mask)) - 1);
  for (unsigned rest = mask & (mask - 1); rest != 0; rest &= rest - 1)
    all = combine(all, __shfl_sync(mask, value, __ffs(static_cast<int>(rest)) - 1));
  return all;
}
#endif

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
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
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
#else
    case op_add: return reduced(c.mask, low, [](unsigned a, unsigned b) { return a + b; });
    case op_min: return reduced(c.mask, low, [](unsigned a, unsigned b) { return a < b ? a : b; });
    case op_max: return reduced(c.mask, low, [](unsigned a, unsigned b) { return a < b ? b : a; });
    case op_min_signed:
      return static_cast<unsigned>(
          reduced(c.mask, static_cast<int>(low), [](int a, int b) { return a < b ? a : b; }));
    case op_max_signed:
      return static_cast<unsigned>(
          reduced(c.mask, static_cast<int>(low), [](int a, int b) { return a < b ? b : a; }));
    case op_and: return reduced(c.mask, low, [](unsigned a, unsigned b) { return a & b; });
    case op_or: return reduced(c.mask, low, [](unsigned a, unsigned b) { return a | b; });
    case op_xor: return reduced(c.mask, low, [](unsigned a, unsigned b) { return a ^ b; });
#endif
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

}  // namespace
