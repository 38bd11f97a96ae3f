#include "host/page_cache.hpp"

#include <gtest/gtest.h>

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
