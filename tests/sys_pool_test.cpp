#include "host/sys_vector.hpp"

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
  EXPECT_TRUE(v.push_back(3));
  EXPECT_FALSE(v.reserve(SIZE_MAX / 16));
  EXPECT_FALSE(v.reserve(SIZE_MAX));
  EXPECT_EQ(v.size(), 1u);
  EXPECT_EQ(v[0], 3);
  sys_pool::free(nullptr, 16);
}

TEST(sys_pool_test, threads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int round = 0; round < 300; ++round) {
        sys_vector<int> v;
        for (int i = 0; i < 100 + round; ++i) ASSERT_TRUE(v.push_back(i * t));
        for (int i = 0; i < 100 + round; ++i) ASSERT_EQ(v[std::size_t(i)], i * t);
      }
    });
  }
  for (std::thread& t : threads) t.join();
}

TEST(sys_vector_test, does_what_std_vector_does) {
  std::mt19937 random(2);
  sys_vector<int> v;
  std::vector<int> model;
  for (int i = 0; i < 5000; ++i) {
    const auto at = model.empty() ? 0 : random() % (model.size() + 1);
    switch (random() % 5) {
      case 0:
      case 1:
        ASSERT_TRUE(v.push_back(i));
        model.push_back(i);
        break;
      case 2: {
        // A value of its own: the memory that it is in may go while the vector grows.
        const int& value = v.empty() ? i : v[0];
        model.insert(model.begin() + static_cast<std::ptrdiff_t>(at), value);
        const int* p = v.insert(v.begin() + at, value);
        ASSERT_EQ(p, v.begin() + at);
        break;
      }
      case 3:
        if (at < model.size()) {
          ASSERT_EQ(v.erase(v.begin() + at), v.begin() + at);
          model.erase(model.begin() + static_cast<std::ptrdiff_t>(at));
        }
        break;
      default:
        if (random() % 40 == 0) {
          v.erase_if([](int x) { return x % 3 == 0; });
          std::erase_if(model, [](int x) { return x % 3 == 0; });
        }
    }
    ASSERT_TRUE(std::equal(v.begin(), v.end(), model.begin(), model.end()));
  }
  sys_vector<int> moved = std::move(v);
  EXPECT_EQ(moved.size(), model.size());
  moved.clear();
  EXPECT_TRUE(moved.empty());
}

}  // namespace
