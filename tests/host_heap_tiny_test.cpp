#include "host/host_heap.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "tests/host_heap_fixture.hpp"

namespace {

using namespace warpheap;

struct host_heap_tiny_test : warpheap::test::host_heap_fixture {};

TEST_F(host_heap_tiny_test, tiny_objects_die_in_any_order) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    struct object {
      unsigned char* p;
      unsigned n;
    };
    std::vector<object> all;
    for (int i = 0; i < 200; ++i) {
      const unsigned n = random() % 15 + 1;
      auto* p = static_cast<unsigned char*>(heap.malloc(n));
      const std::size_t align = n % 8 == 0 ? 8 : n % 4 == 0 ? 4 : n % 2 == 0 ? 2 : 1;
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(p) % align, 0u);
      ASSERT_GE(heap.usable_size(p), n);
      std::memset(p, i, n);
      all.push_back({p, n});
      if (i % 3 == 0) {
        const std::size_t at = random() % all.size();
        const object o = all[at];
        all.erase(all.begin() + static_cast<long>(at));
        ASSERT_EQ(heap.free(o.p), free_status::ok);
        ASSERT_EQ(heap.free(o.p), free_status::double_free);
      }
    }
    for (const object& o : all) {
      for (unsigned i = 1; i < o.n; ++i) {
        ASSERT_EQ(o.p[i], o.p[0]);
        ASSERT_EQ(heap.free(o.p + i), free_status::interior);
      }
    }
    std::shuffle(all.begin(), all.end(), random);
    for (const object& o : all) {
      ASSERT_EQ(heap.free(o.p), free_status::ok);
      ASSERT_EQ(heap.free(o.p), free_status::double_free);
    }
    ASSERT_EQ(heap.stats().tiny_mallocs, heap.stats().tiny_frees);
    ASSERT_LE(heap.stats().tiny_blocks, 1u);  // the open one
  }
  heap.trim();
  EXPECT_EQ(heap.stats().tiny_blocks, 0u);
  EXPECT_EQ(heap.stats().pages_in_use, 0u);
}

TEST_F(host_heap_tiny_test, tiny_objects_are_packed) {
  for (int i = 0; i < 1024 * 16; ++i) ASSERT_NE(heap.malloc(1), nullptr);
  EXPECT_EQ(heap.stats().tiny_blocks, 1024u);
  EXPECT_EQ(heap.stats().live_bytes, 16384u);
  EXPECT_EQ(heap.stats().pages_in_use, 2u);
}

TEST_F(host_heap_tiny_test, flush_closes_the_tiny_block) {
  void* a = heap.malloc(3);
  heap.trim();
  void* b = heap.malloc(3);
  EXPECT_NE(reinterpret_cast<std::uintptr_t>(a) / 16, reinterpret_cast<std::uintptr_t>(b) / 16);
  EXPECT_EQ(heap.usable_size(a), 16u);
  EXPECT_EQ(heap.usable_size(b), 3u);
  heap.free(a);
  heap.free(b);
  EXPECT_EQ(heap.free(a), free_status::double_free);
}

}  // namespace
