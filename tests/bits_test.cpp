#include <warpheap/bits.hpp>

#include <gtest/gtest.h>
#include <random>

namespace {

using namespace warpheap;

static_assert(bits::low_mask(0) == 0 && bits::low_mask(64) == ~std::uint64_t{0});
static_assert(bits::select(0b10110, 2) == 4);
static_assert(bits::first_run(0b0110111, 3) == 0 && bits::first_run(0b0110110, 3) == 64);

int naive_first_run(std::uint64_t x, unsigned n) {
  for (unsigned i = 0; i + n <= 64; ++i) {
    const std::uint64_t mask = bits::low_mask(n) << i;
    if ((x & mask) == mask) return static_cast<int>(i);
  }
  return 64;
}

/// Words with long runs as well as with noise.
std::uint64_t random_word(std::mt19937_64& random) {
  switch (random() % 4) {
    case 0: return random();
    case 1: return random() & random() & random();
    case 2: return random() | random() | random();
    default: return bits::low_mask(random() % 65) << (random() % 64);
  }
}

TEST(bits, counts) {
  EXPECT_EQ(bits::countr_zero(0), 64);
  EXPECT_EQ(bits::countl_zero(0), 64);
  EXPECT_EQ(bits::countr_zero(0x50), 4);
  EXPECT_EQ(bits::countl_zero(1), 63);
  EXPECT_EQ(bits::popcount(~std::uint64_t{0}), 64);
}

TEST(bits, select_and_lowest_set_agree_with_clearing_bit_by_bit) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    const std::uint64_t x = random_word(random);
    std::uint64_t rest = x;
    std::uint64_t taken = 0;
    for (int r = 0; rest != 0; ++r) {
      ASSERT_EQ(bits::lowest_set(x, r), taken);
      ASSERT_EQ(bits::select(x, r), bits::countr_zero(rest));
      taken |= rest & (~rest + 1);
      rest &= rest - 1;
    }
    ASSERT_EQ(bits::lowest_set(x, 64), x);
  }
}

TEST(bits, first_run_agrees_with_trying_every_place) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 2000; ++round) {
    const std::uint64_t x = random_word(random);
    for (unsigned n = 1; n <= 64; ++n) {
      ASSERT_EQ(bits::first_run(x, n), naive_first_run(x, n)) << std::hex << x << " " << n;
    }
  }
}

TEST(bits, rounding_and_overflow) {
  EXPECT_EQ(bits::align_up(0, 8), 0u);
  EXPECT_EQ(bits::align_up(9, 8), 16u);
  EXPECT_EQ(bits::ceil_div(SIZE_MAX, 8192), SIZE_MAX / 8192 + 1);
  EXPECT_EQ(bits::ceil_div(16, 8), 2u);
  EXPECT_FALSE(bits::mul_overflows(SIZE_MAX, 1));
  EXPECT_FALSE(bits::mul_overflows(SIZE_MAX, 0));
  EXPECT_TRUE(bits::mul_overflows(SIZE_MAX / 2 + 1, 2));
  EXPECT_TRUE(bits::add_overflows(SIZE_MAX, 1));
  EXPECT_FALSE(bits::add_overflows(SIZE_MAX, 0));
  EXPECT_FALSE(bits::is_power_of_two(0));
  EXPECT_TRUE(bits::is_power_of_two(std::size_t{1} << 63));
  EXPECT_FALSE(bits::is_power_of_two(24));
}

}  // namespace
