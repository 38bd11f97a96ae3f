#include "host/layers/pointer_table.hpp"

#include <gtest/gtest.h>
#include <cstdint>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "host/layers/held_back.hpp"

namespace {

using namespace warpheap;

const void* at(std::uintptr_t address) { return reinterpret_cast<const void*>(address); }

TEST(pointer_table_test, does_what_a_map_does) {
  std::mt19937 random(5);
  pointer_table<int> table;
  std::map<std::uintptr_t, int> model;
  for (int i = 0; i < 200000; ++i) {
    // Few addresses and near ones, so that they collide.
    const std::uintptr_t address = 16 + 16 * (random() % 3000);
    const auto known = model.find(address);
    switch (random() % 4) {
      case 0:
        ASSERT_TRUE(table.put(at(address), i));
        model[address] = i;
        break;
      case 1: {
        const auto got = table.take(at(address));
        ASSERT_EQ(got.has_value(), known != model.end());
        if (got) {
          ASSERT_EQ(*got, known->second);
          model.erase(known);
        }
        break;
      }
      case 2: {
        const auto got = table.get(at(address));
        ASSERT_EQ(got.has_value(), known != model.end());
        if (got) {
          ASSERT_EQ(*got, known->second);
        }
        break;
      }
      default: {
        const int old = table.change(at(address), -1, [&](int& value) {
          const int before = value;
          value = i;
          return before;
        });
        ASSERT_EQ(old, known == model.end() ? -1 : known->second);
        if (known != model.end()) known->second = i;
      }
    }
  }
  EXPECT_EQ(table.size(), model.size());
  std::map<std::uintptr_t, int> all;
  table.for_each([&](const void* p, int value) {
    EXPECT_TRUE(all.emplace(reinterpret_cast<std::uintptr_t>(p), value).second);
  });
  EXPECT_EQ(all, model);
  table.clear();
  EXPECT_EQ(table.size(), 0u);
}

TEST(pointer_table_test, threads) {
  pointer_table<std::uintptr_t> table;
  std::vector<std::thread> threads;
  for (std::uintptr_t t = 1; t <= 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::uintptr_t i = 1; i < 20000; ++i) {
        ASSERT_TRUE(table.put(at(i * 64 + t), i));
        if (i % 2 == 0) {
          ASSERT_EQ(table.take(at(i * 64 + t)), i);
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(table.size(), 4u * 10000u);
}

TEST(held_back_test, first_in_first_out_within_the_budget) {
  held_back held(100);
  std::vector<std::size_t> out;
  int objects[20];
  const auto evict = [&](const held_back::object& o) { out.push_back(o.bytes); };
  for (std::size_t n = 10; n < 20; ++n) held.hold({&objects[n], n}, evict);
  EXPECT_EQ(out, (std::vector<std::size_t>{10, 11, 12, 13}));
  held.hold({objects, 1000}, evict);
  EXPECT_EQ(out.size(), 11u);
  EXPECT_EQ(out.back(), 1000u);
  held.hold({objects, 5}, evict);
  held.hold({objects, 6}, evict);
  held.empty(evict);
  EXPECT_EQ(out.size(), 13u);
  EXPECT_EQ(out.back(), 6u);
  held.hold({objects, 7}, evict);
  held.clear();
  held.empty(evict);
  EXPECT_EQ(out.size(), 13u);
}

}  // namespace
