#include "host/fixalloc.hpp"

#include <gtest/gtest.h>
#include <cstring>
#include <map>
#include <vector>

namespace {

using namespace warpheap;

TEST(fixalloc, chunk_has_no_tail) {
  persistentalloc source;
  sys_counter stat{0};
  fixalloc f;
  f.init(source, 24, 8, stat);
  EXPECT_EQ(f.chunk_size(), 16368u);
  for (unsigned i = 0; i < 16368 / 24; ++i) f.alloc();
  EXPECT_EQ(stat.load(), 16368u);
  f.alloc();
  EXPECT_EQ(stat.load(), 2 * 16368u);
  EXPECT_EQ(f.inuse(), (16368 / 24 + 1) * 24u);
}

TEST(fixalloc, reuses_last_in_first_out_and_zeroes) {
  persistentalloc source;
  sys_counter stat{0};
  fixalloc f;
  f.init(source, 40, 8, stat);
  void* a = f.alloc();
  void* b = f.alloc();
  std::memset(a, 0xaa, 40);
  std::memset(b, 0xbb, 40);
  f.free(a);
  f.free(b);
  EXPECT_EQ(f.inuse(), 0u);
  EXPECT_EQ(f.alloc(), b);
  EXPECT_EQ(f.alloc(), a);
  const std::vector<unsigned char> zero(40);
  EXPECT_EQ(std::memcmp(a, zero.data(), 40), 0);
  EXPECT_EQ(f.inuse(), 80u);
}

TEST(fixalloc, without_zero_only_the_link_is_overwritten) {
  persistentalloc source;
  sys_counter stat{0};
  fixalloc f;
  f.init(source, 64, 64, stat, nullptr, nullptr, false);
  auto* a = static_cast<unsigned char*>(f.alloc());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a) % 64, 0u);
  std::memset(a, 0xaa, 64);
  f.free(a);
  ASSERT_EQ(f.alloc(), a);
  for (unsigned i = sizeof(void*); i < 64; ++i) EXPECT_EQ(a[i], 0xaa);
}

TEST(fixalloc, first_is_called_once_for_each_record) {
  persistentalloc source;
  sys_counter stat{0};
  std::map<void*, int> calls;
  fixalloc f;
  f.init(
      source, 1000, 8, stat,
      [](void* arg, void* p) { ++(*static_cast<std::map<void*, int>*>(arg))[p]; }, &calls);
  std::vector<void*> records;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 50; ++i) records.push_back(f.alloc());
    for (void* p : records) f.free(p);
    records.clear();
  }
  EXPECT_EQ(calls.size(), 50u);
  for (const auto& [p, n] : calls) EXPECT_EQ(n, 1);
  EXPECT_EQ(f.inuse(), 0u);
}

TEST(fixalloc, misuse_aborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  persistentalloc source;
  sys_counter stat{0};
  fixalloc f;
  EXPECT_DEATH(f.alloc(), "use of FixAlloc_Alloc before FixAlloc_Init");
  EXPECT_DEATH(f.init(source, 7, 1, stat), "fixalloc size");
  EXPECT_DEATH(f.init(source, 16385, 1, stat), "fixalloc size");
  f.init(source, 16384, 8, stat);
  EXPECT_EQ(f.chunk_size(), 16384u);
}

}  // namespace
