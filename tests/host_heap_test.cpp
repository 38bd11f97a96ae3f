#include "host/host_heap.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "tests/host_region.hpp"

namespace {

using namespace warpheap;

/// What the counters say must be what the bitmaps say.
void expect_recount(const host_heap& heap) {
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
  EXPECT_EQ((st.pages_in_use + st.device_pages + st.free_pages) * page_size, st.heap_sys_bytes);
  EXPECT_LE(st.live_bytes, st.pages_in_use * page_size);
  EXPECT_LE(st.released_bytes, st.free_pages * page_size);
  EXPECT_GE(st.peak_pages, st.pages_in_use + st.device_pages);
}

struct host_heap_test : testing::Test {
  test::host_region region{std::size_t{256} << 20};
  host_heap heap{region.base(), region.bytes(), region.source()};
  void TearDown() override { expect_recount(heap); }
};

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
    const auto kind = c == 1 ? contents::pointers : contents::no_pointers;  // 8: else tiny
    std::vector<std::byte*> all;
    for (unsigned i = 0; i < 2 * class_to_objects(c) + 1; ++i) {
      auto* p = static_cast<std::byte*>(heap.malloc(size, kind));
      ASSERT_NE(p, nullptr);
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(p) % class_to_align(c), 0u);
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

TEST_F(host_heap_test, wrong_frees_are_told_and_harmless) {
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

TEST_F(host_heap_test, any_address_may_be_freed) {
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

TEST_F(host_heap_test, tiny_objects_die_in_any_order) {
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

TEST_F(host_heap_test, tiny_objects_are_packed) {
  for (int i = 0; i < 1024 * 16; ++i) ASSERT_NE(heap.malloc(1), nullptr);
  EXPECT_EQ(heap.stats().tiny_blocks, 1024u);
  EXPECT_EQ(heap.stats().live_bytes, 16384u);
  EXPECT_EQ(heap.stats().pages_in_use, 2u);
}

TEST_F(host_heap_test, flush_closes_the_tiny_block) {
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

TEST_F(host_heap_test, out_of_memory_then_all_of_it_again) {
  for (const std::size_t n : {std::size_t{16}, std::size_t{1024}, std::size_t{10880},
                              std::size_t{32768}, std::size_t{100000}, std::size_t{5}}) {
    std::vector<std::size_t> counts;
    test::host_region small(std::size_t{5} << 20);  // the last chunk is not whole
    host_heap heap_of_5(small.base(), small.bytes(), small.source());
    for (int again = 0; again < 3; ++again) {
      std::vector<void*> all;
      while (void* p = heap_of_5.malloc(n)) all.push_back(p);
      counts.push_back(all.size());
      EXPECT_GE(heap_of_5.stats().out_of_memory, 1u);
      if (again > 0) std::reverse(all.begin(), all.end());
      unsigned wrong = 0;
      for (void* p : all) wrong += heap_of_5.free(p) != free_status::ok;
      EXPECT_EQ(wrong, 0u);
      expect_recount(heap_of_5);
    }
    // A gap at the border of two arenas may go when these have all been free.
    for (std::size_t count : counts) EXPECT_GE(count, counts[0]) << n;
    EXPECT_EQ(counts[1], counts[2]) << n;
    if (n == 16) {
      EXPECT_EQ(counts[0], ((std::size_t{5} << 20) - page_size) / 16);
    }
  }
}

TEST_F(host_heap_test, classes_give_their_pages_to_each_other) {
  test::host_region small(std::size_t{8} << 20);
  host_heap h(small.base(), small.bytes(), small.source());
  for (int round = 0; round < 2; ++round) {
    for (std::size_t n : {64u, 24576u, 15u, 48u, 4000000u, 27000u, 512u}) {
      std::vector<void*> all;
      std::size_t bytes = 0;
      while (void* p = h.malloc(n)) {
        all.push_back(p);
        bytes += n;
      }
      EXPECT_GE(static_cast<double>(bytes), 0.85 * (std::size_t{8} << 20) * (n == 4000000 ? .5 : 1))
          << n;
      unsigned wrong = 0;
      for (void* p : all) wrong += h.free(p) != free_status::ok;
      EXPECT_EQ(wrong, 0u);
    }
  }
}

TEST_F(host_heap_test, lends_pages_to_the_device) {
  void* p = heap.malloc(100);
  const page_run a = heap.take_device_pages(1, 500);
  EXPECT_EQ(a.count, 500u);
  for (std::uint32_t i = a.first; i < a.first + a.count; ++i) EXPECT_TRUE(heap.is_device_page(i));
  EXPECT_FALSE(heap.is_device_page(0));
  EXPECT_FALSE(heap.is_device_page(a.first + a.count));
  EXPECT_FALSE(heap.is_device_page(~0u));
  EXPECT_EQ(heap.free(region.base() + std::size_t{a.first} * page_size), free_status::device_page);
  EXPECT_EQ(heap.usable_size(region.base() + std::size_t{a.first} * page_size), 0u);
  EXPECT_EQ(heap.stats().device_pages, 500u);
  // As much as there is, when not all that is wanted.
  const std::uint32_t all = static_cast<std::uint32_t>(region.bytes() / page_size);
  const page_run b = heap.take_device_pages(1000, all);
  EXPECT_GE(b.count, all / 2);
  EXPECT_LT(b.count, all);
  EXPECT_EQ(heap.take_device_pages(all, all).count, 0u);
  heap.give_back_device_pages({b.first, b.count / 2});
  heap.give_back_device_pages({b.first + b.count / 2, b.count - b.count / 2});
  heap.give_back_device_pages(a);
  heap.give_back_device_pages({});
  EXPECT_EQ(heap.stats().device_pages, 0u);
  EXPECT_EQ(heap.free(region.base() + std::size_t{a.first} * page_size),
            free_status::not_allocated);
  heap.free(p);
  heap.trim();
  EXPECT_EQ(heap.take_device_pages(all - 1, all - 1).count, all - 1);  // page 0 is the heap's
  heap.give_back_device_pages({1, all - 1});
}

TEST_F(host_heap_test, device_takes_pages_of_spans_without_objects) {
  test::host_region small(std::size_t{8} << 20);
  host_heap h(small.base(), small.bytes(), small.source());
  std::vector<void*> all;
  while (void* p = h.malloc(8192)) all.push_back(p);
  for (void* p : all) h.free(p);
  EXPECT_GE(h.take_device_pages(1000, 1000).count, 1000u);
}

TEST_F(host_heap_test, giving_back_what_was_not_lent_aborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(heap.give_back_device_pages({5, 2}), "not lent to the device");
}

TEST_F(host_heap_test, reset_frees_everything_but_lent_pages) {
  for (int round = 0; round < 3; ++round) {
    std::vector<void*> all;
    for (int i = 0; i < 3000; ++i) all.push_back(heap.malloc(static_cast<std::size_t>(i)));
    all.push_back(heap.malloc(1000000));
    const page_run lent = heap.take_device_pages(10, 10);
    expect_recount(heap);
    heap.reset();
    const host_heap_stats st = heap.stats();
    EXPECT_EQ(st.live_objects, 0u);
    EXPECT_EQ(st.live_bytes, 0u);
    EXPECT_EQ(st.tiny_blocks, 0u);
    EXPECT_EQ(st.spans, 0u);
    EXPECT_EQ(st.pages_in_use, 0u);
    EXPECT_EQ(st.device_pages, 10u);
    EXPECT_EQ(heap.free(all.back()), free_status::double_free);
    heap.give_back_device_pages(lent);
  }
  EXPECT_NE(heap.malloc(10), nullptr);
}

TEST_F(host_heap_test, trim_gives_memory_back_and_calloc_sees_zero) {
  std::vector<void*> all;
  for (int i = 0; i < 100; ++i) {
    all.push_back(heap.malloc(100000));
    std::memset(all.back(), 0xff, 100000);
  }
  for (void* p : all) heap.free(p);
  EXPECT_GE(heap.trim(), 100 * 100000u);
  EXPECT_GE(region.decommitted, 100 * 100000u);
  EXPECT_EQ(heap.stats().released_bytes, heap.stats().free_pages * page_size);
  EXPECT_EQ(heap.trim(), 0u);
  auto* p = static_cast<unsigned char*>(heap.calloc(1, 5000000));
  for (std::size_t i = 0; i < 5000000; i += 4096) ASSERT_EQ(p[i], 0);
  heap.free(p);
}

TEST_F(host_heap_test, refused_memory_is_out_of_memory) {
  region.refuse = true;
  EXPECT_EQ(heap.malloc(100), nullptr);
  EXPECT_EQ(heap.malloc(5), nullptr);
  EXPECT_EQ(heap.malloc(100000), nullptr);
  EXPECT_EQ(heap.aligned_alloc(65536, 100000), nullptr);
  EXPECT_EQ(heap.stats().out_of_memory, 4u);
  region.refuse = false;
  EXPECT_NE(heap.malloc(100), nullptr);
}

TEST_F(host_heap_test, metadata_lies_outside_the_pages) {
  // All pages handed out and overwritten: the heap still works.
  std::vector<void*> all;
  while (void* p = heap.malloc(std::size_t{1} << 20)) {
    std::memset(p, 0xff, std::size_t{1} << 20);
    all.push_back(p);
  }
  for (void* p : all) ASSERT_EQ(heap.free(p), free_status::ok);
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

std::size_t status_kib(const std::string& key) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    std::size_t value = 0;
    if (word == key && status >> value) return value;
  }
  return 0;
}

TEST(host_heaps, a_thousand_come_and_go_without_a_leak) {
  test::host_region region(std::size_t{8} << 20);
  const auto one = [&] {
    host_heap heap(region.base(), region.bytes(), region.source());
    EXPECT_EQ(heap.stats().thread_caches, 0u);
    void* p = heap.malloc(100);
    void* q = heap.malloc(100000);
    EXPECT_EQ(heap.stats().thread_caches, 1u);
    heap.free(p);
    heap.free(q);
  };
  for (int i = 0; i < 100; ++i) one();
  const std::size_t resident = status_kib("VmRSS:");
  const std::size_t address_space = status_kib("VmSize:");
  for (int i = 0; i < 1000; ++i) one();
  EXPECT_LE(status_kib("VmRSS:"), resident + 4096);
  EXPECT_LE(status_kib("VmSize:"), address_space + 65536);
}

TEST(host_heaps, heap_of_8_gib_is_made_quickly) {
  test::host_region region(std::size_t{8} << 30);
  auto best = std::chrono::nanoseconds::max();
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    host_heap heap(region.base(), region.bytes(), region.source());
    best = std::min(best, std::chrono::nanoseconds(std::chrono::steady_clock::now() - start));
  }
  EXPECT_LE(best, std::chrono::milliseconds(5));
}

TEST(host_heaps, heap_of_512_gib_costs_what_is_used) {
  // The heap's tables, not its pages: no memory is behind the addresses.
  auto* base = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 45);
  const std::size_t resident = status_kib("VmRSS:");
  host_heap heap(base, std::size_t{512} << 30, {});
  void* p = heap.malloc(std::size_t{2} << 30);
  EXPECT_EQ(p, base + (std::size_t{510} << 30));  // arenas at the upper end
  EXPECT_EQ(heap.free(p), free_status::ok);
  EXPECT_EQ(heap.malloc(std::size_t{512} << 30), nullptr);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they keep a shadow of memory
  EXPECT_LE(status_kib("VmRSS:"), resident + (std::size_t{32} << 10));
#else
  (void)resident;
#endif
}

TEST(host_heaps, several_at_once_do_not_mix) {
  test::host_region a_region(std::size_t{16} << 20), b_region(std::size_t{16} << 20);
  host_heap a(a_region.base(), a_region.bytes(), a_region.source());
  host_heap b(b_region.base(), b_region.bytes(), b_region.source());
  for (int i = 1; i < 2000; ++i) {
    void* p = a.malloc(static_cast<std::size_t>(i));
    void* q = b.malloc(static_cast<std::size_t>(i));
    EXPECT_EQ(b.free(p), free_status::foreign);
    EXPECT_EQ(a.free(q), free_status::foreign);
    EXPECT_EQ(a.free(p), free_status::ok);
    EXPECT_EQ(b.free(q), free_status::ok);
  }
  EXPECT_EQ(a.stats().live_objects, 0u);
  EXPECT_EQ(b.stats().live_objects, 0u);
}

}  // namespace
