#include "host/page_cache.hpp"

#include <gtest/gtest.h>
#include <random>

#include "host/page_allocator.hpp"
#include "tests/vectors.hpp"

namespace {

using namespace warpheap;
using warpheap::test::hex;
using warpheap::test::kinds_of_cases;
using warpheap::test::load_cases;
using warpheap::test::page_of;

TEST(page_cache, every_kind_of_case_has_a_reader) {
  EXPECT_EQ(kinds_of_cases("page_cache.json"), (std::set<std::string>{"alloc"}));
}

TEST(page_cache, go_alloc) {
  const auto cases = load_cases("page_cache.json");
  for (const auto& [name, c] : cases["alloc"].items()) {
    const auto& start = c["cache"];
    page_cache cache(page_of(start["base"]), hex(start["cache"]), hex(start["scav"]));
    for (const auto& hit : c["hits"]) {
      const page_allocation got = cache.alloc(hit["npages"]);
      if (hit["base"].is_null()) {
        EXPECT_FALSE(got) << name << hit.dump();
      } else {
        EXPECT_EQ(got.first, page_of(hit["base"])) << name << hit.dump();
      }
      EXPECT_EQ(got.scavenged * 8192, hit["scav"].get<std::size_t>()) << name << hit.dump();
    }
  }
}

TEST(page_cache, agrees_with_64_pages_one_by_one) {
  std::mt19937_64 random(9);
  for (int round = 0; round < 500; ++round) {
    // Few holes, many, and something of both.
    std::uint64_t free = random();
    for (unsigned k = random() % 4; k > 0; --k)
      free = k % 2 == 0 ? free & random() : free | random();
    std::uint64_t scavenged = random() & free;
    const std::size_t base = random() % 100'000 * 64;
    page_cache cache(base, free, scavenged);
    for (int step = 0; step < 40; ++step) {
      const unsigned n = random() % 8 == 0 ? random() % 70 : 1 + random() % 5;
      unsigned first = 64;
      for (unsigned at = 0; n > 0 && at + n <= 64 && first == 64; ++at) {
        unsigned run = 0;
        while (run < n && (free >> (at + run) & 1) != 0) ++run;
        if (run == n) first = at;
      }
      const page_allocation got = cache.alloc(n);
      ASSERT_EQ(static_cast<bool>(got), first != 64) << round;
      std::size_t given_back = 0;
      for (unsigned i = first; i < first + n && first != 64; ++i) {
        given_back += scavenged >> i & 1;
        free &= ~(std::uint64_t{1} << i);
        scavenged &= ~(std::uint64_t{1} << i);
      }
      if (got) {
        ASSERT_EQ(got.first, base + first);
      }
      ASSERT_EQ(got.scavenged, given_back);
      ASSERT_EQ(cache.free_bits(), free);
      ASSERT_EQ(cache.scavenged_bits(), scavenged);
    }
  }
}

TEST(page_cache, takes_the_group_of_the_lowest_free_page_and_gives_it_back) {
  page_allocator pages(1);
  pages.grow(0, 1);
  pages.alloc(70);
  page_cache cache = pages.alloc_to_cache();
  EXPECT_EQ(cache.base(), 64u);
  EXPECT_EQ(cache.free_bits(), ~std::uint64_t{0} << 6);
  EXPECT_EQ(cache.scavenged_bits(), ~std::uint64_t{0} << 6);
  EXPECT_EQ(pages.free_pages(), chunk_pages - 128);
  EXPECT_EQ(pages.alloc(1).first, 128u);

  const page_allocation got = cache.alloc(2);
  EXPECT_EQ(got.first, 70u);
  EXPECT_EQ(got.scavenged, 2u);
  cache.flush(pages);
  EXPECT_TRUE(cache.empty());
  EXPECT_EQ(pages.alloc(1).first, 72u);
  cache.flush(pages);  // empty: nothing happens
  EXPECT_EQ(pages.free_pages(), chunk_pages - 74);
}

TEST(page_cache, refuses_what_it_cannot_hold) {
  page_cache cache(64, ~std::uint64_t{0}, 0);
  EXPECT_FALSE(cache.alloc(0));
  EXPECT_FALSE(cache.alloc(65));
  EXPECT_EQ(cache.alloc(64).first, 64u);
  EXPECT_FALSE(cache.alloc(1));
}

}  // namespace
