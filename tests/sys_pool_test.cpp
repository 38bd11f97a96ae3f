#include "host/sys_pool.hpp"

#include <gtest/gtest.h>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <thread>
#include <vector>

namespace {

using namespace warpheap;

TEST(sys_pool_test, blocks_do_not_overlap_and_are_aligned) {
  std::mt19937 random(1);
  std::map<std::uintptr_t, std::size_t> live;
  for (int i = 0; i < 20000; ++i) {
    if (live.size() > 300 && random() % 2 == 0) {
      auto it = live.begin();
      std::advance(it, random() % live.size());
      sys_pool::free(reinterpret_cast<void*>(it->first), it->second);
      live.erase(it);
      continue;
    }
    const std::size_t bytes = 1 + random() % (random() % 50 == 0 ? 100000 : 4096);
    void* p = sys_pool::alloc(bytes);
    ASSERT_NE(p, nullptr);
    std::memset(p, 0x5a, bytes);
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    std::size_t align = sys_pool::smallest;
    while (align < bytes && align < sys_pool::largest) align *= 2;
    EXPECT_EQ(address % align, 0u) << bytes;
    const auto after = live.lower_bound(address);
    if (after != live.end()) {
      ASSERT_LE(address + bytes, after->first);
    }
    if (after != live.begin()) {
      const auto before = std::prev(after);
      ASSERT_LE(before->first + before->second, address);
    }
    live.emplace(address, bytes);
  }
  for (const auto& [address, bytes] : live) {
    sys_pool::free(reinterpret_cast<void*>(address), bytes);
  }
}

TEST(sys_pool_test, freed_blocks_are_used_again) {
  void* a = sys_pool::alloc(100);
  sys_pool::free(a, 100);
  EXPECT_EQ(sys_pool::alloc(128), a);
  sys_pool::free(a, 128);
  const std::size_t before = sys_pool::sys_bytes();
  for (int i = 0; i < 100000; ++i) sys_pool::free(sys_pool::alloc(64), 64);
  EXPECT_EQ(sys_pool::sys_bytes(), before);
}

TEST(sys_pool_test, large_blocks_go_back_to_the_system) {
  const std::size_t before = sys_pool::sys_bytes();
  void* p = sys_pool::alloc(1 << 20);
  EXPECT_EQ(sys_pool::sys_bytes(), before + (1 << 20));
  sys_pool::free(p, 1 << 20);
  EXPECT_EQ(sys_pool::sys_bytes(), before);
}

TEST(sys_pool_test, what_the_system_has_not_is_an_answer) {
  EXPECT_EQ(sys_pool::alloc(SIZE_MAX / 2), nullptr);
  sys_vector<int> v;
  EXPECT_THROW(v.reserve(SIZE_MAX / 16), std::bad_alloc);
  sys_pool::free(nullptr, 16);
}

TEST(sys_pool_test, threads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      sys_map<int, sys_vector<int>> m;
      for (int i = 0; i < 3000; ++i) m[i % 200].push_back(i * t);
      for (const auto& [key, values] : m) {
        for (const int value : values) ASSERT_EQ(value % 200 * 1, key * t % 200);
      }
    });
  }
  for (std::thread& t : threads) t.join();
}

}  // namespace
