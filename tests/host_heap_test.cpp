#include "host/host_heap.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <random>
#include <vector>

#include "tests/host_heap_fixture.hpp"

namespace {

using namespace warpheap;
using warpheap::test::expect_recount;

struct host_heap_test : warpheap::test::host_heap_fixture {};

TEST_F(host_heap_test, size_zero_is_the_base) {
  EXPECT_EQ(heap.malloc(0), region.base());
  EXPECT_EQ(heap.calloc(0, 5), region.base());
  EXPECT_EQ(heap.calloc(5, 0), region.base());
  EXPECT_EQ(heap.aligned_alloc(4096, 0), region.base());
  EXPECT_EQ(heap.free(region.base()), free_status::zero_size);
  EXPECT_EQ(heap.free(region.base()), free_status::zero_size);
  EXPECT_EQ(heap.usable_size(region.base()), 0u);
  EXPECT_EQ(heap.stats().mallocs, 0u);
}

TEST_F(host_heap_test, routes_by_size) {
  const auto route = [&](std::size_t n) {
    const host_heap_stats a = heap.stats();
    void* p = heap.malloc(n);
    EXPECT_NE(p, nullptr);
    EXPECT_GE(heap.usable_size(p), n);
    const host_heap_stats b = heap.stats();
    EXPECT_EQ(b.mallocs, a.mallocs + (n > 0));
    if (b.tiny_mallocs != a.tiny_mallocs) return 1000u;
    for (unsigned c = 0; c < num_classes; ++c) {
      if (b.by_class[c].mallocs != a.by_class[c].mallocs) return c;
    }
    return 2000u;
  };
  EXPECT_EQ(route(0), 2000u);
  EXPECT_EQ(route(1), 1000u);
  EXPECT_EQ(route(15), 1000u);
  EXPECT_EQ(route(16), 2u);
  EXPECT_EQ(route(17), 3u);
  EXPECT_EQ(route(32760), 67u);
  EXPECT_EQ(route(32761), 67u);
  EXPECT_EQ(route(32768), 67u);
  EXPECT_EQ(route(32769), 0u);
}

TEST_F(host_heap_test, every_class_fills_spans_with_disjoint_aligned_slots) {
  for (unsigned c = 1; c < num_classes; ++c) {
    const std::size_t size = class_to_size(c);
    // All that the size gives, of powers of two; else 128 at least, if that is.
    const std::size_t natural = class_to_align(c);
    const std::size_t align =
        natural == std::min(size, page_size) ? natural : std::min<std::size_t>(natural, 128);
    const auto kind = c == 1 ? contents::pointers : contents::no_pointers;  // 8: else tiny
    std::vector<std::byte*> all;
    for (unsigned i = 0; i < 2 * class_to_objects(c) + 1; ++i) {
      auto* p = static_cast<std::byte*>(heap.malloc(size, kind));
      ASSERT_NE(p, nullptr);
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(p) % align, 0u);
      ASSERT_EQ(heap.usable_size(p), size);
      std::memset(p, static_cast<int>(c), size);
      all.push_back(p);
    }
    EXPECT_EQ(heap.stats().by_class[c].live, all.size());
    std::sort(all.begin(), all.end());
    for (std::size_t i = 1; i < all.size(); ++i) ASSERT_LE(all[i - 1] + size, all[i]);
    for (std::byte* p : all) {
      ASSERT_EQ(p[0], static_cast<std::byte>(c));
      ASSERT_EQ(p[size - 1], static_cast<std::byte>(c));
      ASSERT_EQ(heap.free(p), free_status::ok);
      ASSERT_EQ(heap.free(p), free_status::double_free);
    }
    EXPECT_EQ(heap.stats().by_class[c].live, 0u);
  }
  EXPECT_EQ(heap.stats().live_objects, 0u);
}

TEST_F(host_heap_test, kinds_of_contents_never_share_a_span) {
  std::map<std::size_t, contents> kind_of_page;
  std::mt19937 random(1);
  for (int i = 0; i < 5000; ++i) {
    const auto kind = random() % 2 ? contents::pointers : contents::no_pointers;
    auto* p = static_cast<std::byte*>(heap.malloc(random() % 3000 + 1, kind));
    const auto page = static_cast<std::size_t>(p - region.base()) / page_size;
    EXPECT_EQ(kind_of_page.emplace(page, kind).first->second, kind);
  }
}

TEST_F(host_heap_test, calloc_zeroes_and_refuses_overflow) {
  for (std::size_t n : {1u, 5u, 15u, 16u, 100u, 5000u, 32768u, 32769u, 300000u}) {
    for (int round = 0; round < 3; ++round) {
      auto* p = static_cast<unsigned char*>(heap.calloc(n, 1));
      ASSERT_NE(p, nullptr);
      for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(p[i], 0) << n;
      std::memset(p, 0xaa, heap.usable_size(p));
      heap.free(p);
    }
  }
  EXPECT_EQ(heap.calloc(SIZE_MAX, 2), nullptr);
  EXPECT_EQ(heap.calloc(SIZE_MAX / 2 + 1, 2), nullptr);
  EXPECT_EQ(heap.calloc(std::size_t{1} << 32, std::size_t{1} << 32), nullptr);
  EXPECT_EQ(heap.stats().refused, 3u);
  EXPECT_EQ(heap.calloc(SIZE_MAX, 1), nullptr);
  EXPECT_EQ(heap.stats().out_of_memory, 1u);
}

TEST_F(host_heap_test, sizes_beyond_all_bounds_are_null) {
  for (std::size_t n : {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 8190, SIZE_MAX - 8191, SIZE_MAX / 2,
                        std::size_t{1} << 47, region.bytes(), region.bytes() - page_size + 1}) {
    EXPECT_EQ(heap.malloc(n), nullptr) << n;
    EXPECT_EQ(heap.aligned_alloc(std::size_t{1} << 20, n), nullptr) << n;
  }
  EXPECT_EQ(heap.stats().out_of_memory, 16u);
  void* all = heap.malloc(region.bytes() - page_size);
  EXPECT_EQ(all, region.base() + page_size);
  EXPECT_EQ(heap.malloc(100), nullptr);
  EXPECT_EQ(heap.free(all), free_status::ok);
  EXPECT_NE(heap.malloc(100), nullptr);
}

TEST_F(host_heap_test, aligned_alloc) {
  std::mt19937_64 random(11);
  std::vector<void*> all;
  for (std::size_t align = 1; align <= (std::size_t{8} << 20); align *= 2) {
    for (int i = 0; i < 20; ++i) {
      const std::size_t n =
          i < 4 ? align * static_cast<std::size_t>(i + 1) % (1 << 20) + 1 : random() % 50000 + 1;
      void* p = heap.aligned_alloc(align, n);
      ASSERT_NE(p, nullptr) << align << " " << n;
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(p) % align, 0u);
      ASSERT_GE(heap.usable_size(p), n);
      std::memset(p, 1, n);
      all.push_back(p);
    }
    for (void* p : all) ASSERT_EQ(heap.free(p), free_status::ok);
    all.clear();
  }
  for (std::size_t bad : {std::size_t{0}, std::size_t{3}, std::size_t{24}, SIZE_MAX}) {
    EXPECT_EQ(heap.aligned_alloc(bad, 16), nullptr);
  }
  EXPECT_EQ(heap.stats().refused, 4u);
  EXPECT_EQ(heap.aligned_alloc(std::size_t{1} << 63, 1), nullptr);
  EXPECT_EQ(heap.aligned_alloc(std::size_t{1} << 40, 0), nullptr);  // base has no such alignment
  heap.trim();
  EXPECT_EQ(heap.stats().pages_in_use, 0u);  // nothing of the slack was kept
}

TEST_F(host_heap_test, random_traffic_agrees_with_a_map) {
  std::mt19937_64 random(17);
  struct object {
    std::size_t n;
    unsigned char fill;
  };
  std::map<unsigned char*, object> live;
  const auto check = [](unsigned char* p, const object& o) {
    ASSERT_EQ(p[0], o.fill);
    ASSERT_EQ(p[o.n / 2], o.fill);
    ASSERT_EQ(p[o.n - 1], o.fill);
  };
  for (int step = 0; step < 60000; ++step) {
    if (live.size() < 3000 && random() % 5 < 3) {
      const std::size_t n = random() % 50 == 0 ? random() % 300000 + 1
                            : random() % 2     ? random() % 64 + 1
                                               : random() % 3000 + 1;
      auto* p = static_cast<unsigned char*>(heap.malloc(n));
      ASSERT_NE(p, nullptr);
      const auto above = live.lower_bound(p);
      if (above != live.end()) {
        ASSERT_LE(p + n, above->first);
      }
      if (above != live.begin()) {
        ASSERT_LE(std::prev(above)->first + std::prev(above)->second.n, p);
      }
      const object o{n, static_cast<unsigned char>(random())};
      std::memset(p, o.fill, n);
      live.emplace(p, o);
    } else if (!live.empty()) {
      auto at = live.lower_bound(reinterpret_cast<unsigned char*>(region.base())
                                 + random() % (std::size_t{32} << 20));
      if (at == live.end()) at = live.begin();
      check(at->first, at->second);
      ASSERT_EQ(heap.free(at->first), free_status::ok);
      live.erase(at);
    }
    if (step % 20000 == 0) expect_recount(heap);
  }
  EXPECT_EQ(heap.stats().live_objects, live.size());
  for (const auto& [p, o] : live) {
    check(p, o);
    ASSERT_EQ(heap.free(p), free_status::ok);
  }
  heap.trim();
  EXPECT_EQ(heap.stats().pages_in_use, 0u);
}

}  // namespace
