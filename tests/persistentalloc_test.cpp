#include "host/persistentalloc.hpp"

#include <gtest/gtest.h>
#include <cstring>
#include <vector>

namespace {

using namespace warpheap;

TEST(persistentalloc, aligned_zeroed_and_disjoint) {
  persistentalloc memory;
  sys_counter stat{0};
  std::size_t sum = 0;
  std::vector<std::pair<std::byte*, std::size_t>> all;
  for (std::size_t align = 1; align <= 8192; align *= 2) {
    for (std::size_t size : {1u, 7u, 100u, 5000u, 65535u, 65536u, 100000u}) {
      auto* p = static_cast<std::byte*>(memory.alloc(size, align, stat));
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % align, 0u);
      EXPECT_EQ(p[0], std::byte{0});
      EXPECT_EQ(p[size - 1], std::byte{0});
      std::memset(p, 0xff, size);
      sum += size;
      all.emplace_back(p, size);
    }
  }
  EXPECT_EQ(stat.load(), sum);
  std::sort(all.begin(), all.end());
  for (std::size_t i = 1; i < all.size(); ++i) {
    EXPECT_LE(all[i - 1].first + all[i - 1].second, all[i].first);
  }
}

TEST(persistentalloc, chunks_and_direct_blocks) {
  persistentalloc memory;
  sys_counter stat{0};
  auto* a = static_cast<std::byte*>(memory.alloc(100, 0, stat));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a) % 8, 0u);
  EXPECT_EQ(memory.sys_bytes(), persistentalloc::chunk_bytes);
  memory.alloc(persistentalloc::direct_bytes, 8, stat);
  EXPECT_EQ(memory.sys_bytes(), persistentalloc::chunk_bytes + persistentalloc::direct_bytes);
  // The chunk goes on after the direct block.
  EXPECT_EQ(memory.alloc(8, 8, stat), a + 104);
  for (int i = 0; i < 4; ++i) memory.alloc(persistentalloc::direct_bytes - 8, 8, stat);
  EXPECT_EQ(memory.sys_bytes(), 2 * persistentalloc::chunk_bytes + persistentalloc::direct_bytes);
}

TEST(persistentalloc, misuse_aborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  persistentalloc memory;
  sys_counter stat{0};
  EXPECT_DEATH(memory.alloc(0, 8, stat), "size == 0");
  EXPECT_DEATH(memory.alloc(8, 3, stat), "not a power of 2");
  EXPECT_DEATH(memory.alloc(8, 16384, stat), "align is too large");
}

TEST(lazy_table, is_zero_and_costs_nothing_untouched) {
  lazy_table<std::uint64_t> table(std::size_t{1} << 33);  // 64 GiB of address range
  EXPECT_EQ(table[0], 0u);
  EXPECT_EQ(table[(std::size_t{1} << 33) - 1], 0u);
  EXPECT_THROW(lazy_table<std::uint64_t>(SIZE_MAX / 4), std::bad_alloc);
}

}  // namespace
