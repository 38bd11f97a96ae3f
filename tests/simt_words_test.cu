// Atomics and operations on bits. For both backends.
#include "device_fixture.cuh"

#include <algorithm>
#include <cstdint>
#include <warpheap/launch.cuh>

namespace {

using warpheap::shared_array;

class simt_words : public warpheap::DeviceTest {};

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

TEST_F(simt_words, atomics_lose_nothing) {
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

TEST_F(simt_words, operations_on_bits) {
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

}  // namespace
