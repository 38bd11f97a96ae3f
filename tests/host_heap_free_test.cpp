#include "host/host_heap.hpp"

#include <gtest/gtest.h>
#include <cstring>
#include <map>
#include <random>

#include "tests/host_heap_fixture.hpp"

namespace {

using namespace warpheap;

struct host_heap_free_test : warpheap::test::host_heap_fixture {};

TEST_F(host_heap_free_test, wrong_frees_are_told_and_harmless) {
  EXPECT_EQ(heap.free(nullptr), free_status::null);
  int local = 0;
  EXPECT_EQ(heap.free(&local), free_status::foreign);
  EXPECT_EQ(heap.free(region.base() - 1), free_status::foreign);
  EXPECT_EQ(heap.free(region.base() + region.bytes()), free_status::foreign);
  EXPECT_EQ(heap.free(region.base() + 8), free_status::not_allocated);
  EXPECT_EQ(heap.free(region.base() + region.bytes() - 1), free_status::not_allocated);

  auto* p = static_cast<std::byte*>(heap.malloc(112));  // 73 to a span, with a tail of 16
  for (std::size_t i = 1; i < 112; ++i) EXPECT_EQ(heap.free(p + i), free_status::interior);
  EXPECT_EQ(heap.usable_size(p + 1), 0u);
  EXPECT_EQ(heap.free(p + 112), free_status::double_free);  // a slot of the cache, never allocated
  EXPECT_EQ(heap.usable_size(p + 112), 0u);
  const auto page = static_cast<std::size_t>(p - region.base()) / page_size * page_size;
  EXPECT_EQ(heap.free(region.base() + page + 8184), free_status::interior);  // the tail
  EXPECT_EQ(heap.usable_size(p), 112u);
  EXPECT_EQ(heap.free(p), free_status::ok);
  EXPECT_EQ(heap.free(p), free_status::double_free);
  heap.trim();  // now its page is nobody's
  EXPECT_EQ(heap.free(p), free_status::double_free);
  EXPECT_EQ(heap.free(p + 1), free_status::not_allocated);
  EXPECT_EQ(heap.usable_size(p), 0u);

  auto* large = static_cast<std::byte*>(heap.malloc(100000));
  EXPECT_EQ(heap.usable_size(large), 106496u);
  EXPECT_EQ(heap.free(large + 1), free_status::interior);
  EXPECT_EQ(heap.free(large + page_size), free_status::interior);
  EXPECT_EQ(heap.free(large), free_status::ok);
  EXPECT_EQ(heap.free(large), free_status::double_free);
  EXPECT_EQ(heap.free(large + page_size), free_status::not_allocated);

  const host_heap_stats st = heap.stats();
  const auto count = [&](free_status s) { return st.frees_by_status[static_cast<unsigned>(s)]; };
  EXPECT_EQ(count(free_status::ok), 2u);
  EXPECT_EQ(count(free_status::null), 1u);
  EXPECT_EQ(count(free_status::foreign), 3u);
  EXPECT_EQ(count(free_status::double_free), 4u);
  EXPECT_EQ(count(free_status::interior), 114u);
  EXPECT_EQ(st.live_objects, 0u);
}

TEST_F(host_heap_free_test, any_address_may_be_freed) {
  std::mt19937_64 random(3);
  std::map<std::byte*, std::size_t> live;
  for (int i = 0; i < 3000; ++i) {
    const std::size_t n = random() % 8 == 0 ? random() % 200000 : random() % 300;
    if (n == 0) continue;
    auto* p = static_cast<std::byte*>(heap.malloc(n));
    std::memset(p, static_cast<int>(n), n);
    live.emplace(p, n);
  }
  for (int i = 0; i < 200000; ++i) {
    std::byte* p = region.base() + random() % (std::size_t{48} << 20);
    const auto at = live.find(p);
    const free_status s = heap.free(p);
    ASSERT_EQ(s == free_status::ok, at != live.end());
    if (at != live.end()) live.erase(at);
  }
  for (const auto& [p, n] : live) {
    for (std::size_t i = 0; i < n; i += 97) ASSERT_EQ(p[i], static_cast<std::byte>(n));
    ASSERT_EQ(heap.free(p), free_status::ok);
  }
  EXPECT_EQ(heap.stats().live_objects, 0u);
}

}  // namespace
