#pragma once

// A heap to test, whose counters are compared with its bitmaps at the end of each test.

#include <gtest/gtest.h>
#include <set>

#include "host/host_heap.hpp"
#include "tests/host_region.hpp"

namespace warpheap::test {

/// What the counters say must be what the bitmaps say.
inline void expect_recount(const host_heap& heap) {
  std::uint64_t objects = 0;
  std::set<void*> seen;
  heap.for_each_live([&](void* p, std::size_t bytes) {
    ++objects;
    EXPECT_TRUE(seen.insert(p).second);
    EXPECT_EQ(heap.usable_size(p), bytes);
  });
  const host_heap_stats st = heap.stats();
  EXPECT_EQ(st.live_objects, objects);
  EXPECT_EQ(st.mallocs - st.frees, st.live_objects);
  EXPECT_EQ(st.heap_sys_bytes % page_size, 0u);
  EXPECT_EQ((st.pages_in_use + st.device_pages + st.other_pages + st.free_pages) * page_size,
            st.heap_sys_bytes);
  EXPECT_LE(st.live_bytes, st.pages_in_use * page_size);
  EXPECT_LE(st.released_bytes, st.free_pages * page_size);
  EXPECT_GE(st.peak_pages, st.pages_in_use + st.device_pages);
}

/// After everything was freed at once.
inline void expect_nothing_lives(const host_heap_stats& st) {
  EXPECT_EQ(st.live_objects, 0u);
  EXPECT_EQ(st.live_bytes, 0u);
  EXPECT_EQ(st.tiny_blocks, 0u);
  EXPECT_EQ(st.spans, 0u);
  EXPECT_EQ(st.pages_in_use, 0u);
}

struct host_heap_fixture : ::testing::Test {
  host_region region{std::size_t{256} << 20};
  host_heap heap{region.base(), region.bytes(), region.source()};
  void TearDown() override { expect_recount(heap); }
};

}  // namespace warpheap::test
