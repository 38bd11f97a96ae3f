#include "host/span_set.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <memory>
#include <random>
#include <vector>

namespace {

using namespace warpheap;

struct span_set_test : ::testing::Test {
  std::vector<std::unique_ptr<mspan>> spans;
  mspan* span(std::size_t i) {
    while (spans.size() <= i) spans.push_back(std::make_unique<mspan>());
    return spans[i].get();
  }
};

TEST_F(span_set_test, first_in_is_first_out) {
  span_set set;
  EXPECT_EQ(set.pop(), nullptr);
  for (std::size_t i = 0; i < 1000; ++i) ASSERT_TRUE(set.insert(span(i)));
  EXPECT_EQ(set.size(), 1000u);
  for (std::size_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(span(i)->set(), &set);
    ASSERT_EQ(set.pop(), span(i));
    EXPECT_EQ(span(i)->set(), nullptr);
  }
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(set.pop(), nullptr);
}

TEST_F(span_set_test, is_in_one_set_once) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  span_set a, b;
  ASSERT_TRUE(a.insert(span(0)));
  EXPECT_DEATH((void)a.insert(span(0)), "span is in a set");
  EXPECT_DEATH((void)b.insert(span(0)), "span is in a set");
  EXPECT_DEATH(b.remove(span(0)), "not in this set");
  EXPECT_DEATH(a.remove(span(1)), "not in this set");
  a.remove(span(0));
  EXPECT_TRUE(a.empty());
  EXPECT_TRUE(b.insert(span(0)));
}

/// What a set must be: a list in which a removed span's place is taken by the first.
struct naive_set {
  std::vector<mspan*> spans;
  mspan* pop() {
    if (spans.empty()) return nullptr;
    mspan* s = spans.front();
    spans.erase(spans.begin());
    return s;
  }
  void remove(mspan* s) {
    const auto at = std::find(spans.begin(), spans.end(), s);
    *at = spans.front();
    spans.erase(spans.begin());
  }
};

TEST_F(span_set_test, does_what_a_list_does_also_where_indices_wrap) {
  constexpr std::uint32_t block = span_set::block_entries;
  for (const std::uint32_t start : {0u, 0u - 3 * block}) {
    span_set set(start);
    naive_set naive;
    std::mt19937 random(start + 1);
    std::vector<mspan*> out;
    for (std::size_t i = 0; i < 700; ++i) out.push_back(span(i));
    for (int step = 0; step < 40000; ++step) {
      // Phases of growing and shrinking, so that blocks come and go.
      const unsigned bias = step / 5000 % 2 == 0 ? 6 : 2;
      const unsigned what = random() % 10;
      if (what < bias && !out.empty()) {
        std::swap(out[random() % out.size()], out.back());
        ASSERT_TRUE(set.insert(out.back()));
        naive.spans.push_back(out.back());
        out.pop_back();
      } else if (what < 8) {
        mspan* s = set.pop();
        ASSERT_EQ(s, naive.pop());
        if (s != nullptr) out.push_back(s);
      } else if (!naive.spans.empty()) {
        mspan* s = naive.spans[random() % naive.spans.size()];
        set.remove(s);
        naive.remove(s);
        out.push_back(s);
      }
      ASSERT_EQ(set.size(), naive.spans.size());
    }
    while (mspan* s = naive.pop()) ASSERT_EQ(set.pop(), s);
    EXPECT_TRUE(set.empty());
  }
}

TEST_F(span_set_test, what_is_reserved_is_used_or_given_back) {
  constexpr std::uint32_t block = span_set::block_entries;
  const std::size_t before = sys_pool::sys_bytes();
  span_set set(0u - block);
  for (std::size_t i = 0; i < 5 * block; ++i) {
    ASSERT_TRUE(set.reserve());
    ASSERT_TRUE(set.reserve());
    ASSERT_TRUE(set.insert(span(i)));
    if (i >= block) {
      ASSERT_EQ(set.pop(), span(i - block));
    }
  }
  for (std::size_t i = 4 * block; i < 5 * block; ++i) ASSERT_EQ(set.pop(), span(i));
  EXPECT_TRUE(set.empty());
  EXPECT_LE(sys_pool::sys_bytes(), before + (std::size_t{64} << 10));
}

TEST_F(span_set_test, each_is_seen_once_while_some_are_taken_out) {
  constexpr std::uint32_t block = span_set::block_entries;
  for (const std::uint32_t start : {0u, 0u - 2 * block}) {
    for (const unsigned taken_of : {1u, 2u, 3u, 100u, 1000u}) {
      span_set set(start);
      for (std::size_t i = 0; i < 300; ++i) ASSERT_TRUE(set.insert(span(i)));
      std::vector<mspan*> seen;
      set.for_each([&](mspan* s) {
        seen.push_back(s);
        if (seen.size() % taken_of == 0) set.remove(s);
      });
      ASSERT_EQ(seen.size(), 300u);
      for (std::size_t i = 0; i < 300; ++i) EXPECT_EQ(seen[i], span(i));
      EXPECT_EQ(set.size(), 300u - 300u / taken_of);
    }
  }
}

TEST_F(span_set_test, memory_follows_what_is_in_it) {
  const std::size_t before = sys_pool::sys_bytes();
  {
    span_set set;
    for (int round = 0; round < 100000; ++round) {
      ASSERT_TRUE(set.insert(span(round % 3)));
      ASSERT_TRUE(set.insert(span(3)));
      set.remove(span(3));
      (void)set.pop();
    }
  }
  // A pool takes more than it hands out, by some blocks; 100,000 entries would be 800 KB.
  EXPECT_LE(sys_pool::sys_bytes(), before + (std::size_t{64} << 10));
}

}  // namespace
