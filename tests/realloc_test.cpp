// realloc, calloc and aligned_alloc of the public heap.
#include <gtest/gtest.h>
#include <algorithm>
#include <cstring>
#include <random>
#include <thread>
#include <vector>
#include <warpheap/heap.hpp>

#include "tests/host_heap_fixture.hpp"

namespace {

using namespace warpheap;

struct realloc_test : ::testing::Test {
  heap h{{.reserve_bytes = 256_MiB,
          .backend = backend_kind::simt,
          .refill_service = false,
          .report_leaks = false}};
  unsigned char* bytes(void* p) { return static_cast<unsigned char*>(p); }
};

TEST_F(realloc_test, large_objects_grow_where_they_are) {
  auto* const p = bytes(h.malloc(40'000));
  std::memset(p, 0x5a, 40'000);
  for (std::size_t n = 50'000; n < 20'000'000; n += n / 3) ASSERT_EQ(h.realloc(p, n), p) << n;
  EXPECT_EQ(std::count(p, p + 40'000, 0x5a), 40'000);
  EXPECT_EQ(h.memory().heap_alloc, h.usable_size(p));
  ASSERT_EQ(h.realloc(p, 1'000'000), p);
  EXPECT_EQ(h.memory().heap_alloc, h.usable_size(p));
  EXPECT_LT(h.usable_size(p), 1'000'000 + page_size);
  h.free(p);
  EXPECT_TRUE(h.errors().empty());
}

TEST_F(realloc_test, what_is_in_the_way_makes_them_move) {
  auto* const p = bytes(h.malloc(100'000));
  void* const behind = h.malloc(100'000);
  std::memset(p, 0x5a, 100'000);
  auto* const moved = bytes(h.realloc(p, 300'000));
  ASSERT_NE(moved, nullptr);
  EXPECT_NE(moved, p);
  EXPECT_EQ(std::count(moved, moved + 100'000, 0x5a), 100'000);
  EXPECT_EQ(h.usable_size(p), 0u);
  h.free(behind);
  h.free(moved);
  EXPECT_EQ(h.memory().live_objects, 0u);
  EXPECT_TRUE(h.errors().empty());
}

TEST_F(realloc_test, small_objects_that_grow_a_little_get_a_quarter_more) {
  for (const contents kind : {contents::pointers, contents::no_pointers}) {
    void* p = h.malloc(64, kind);
    unsigned moves = 0;
    for (std::size_t n = 65; n <= 32768; ++n) {
      void* const moved = h.realloc(p, n);
      moves += moved != p;
      p = moved;
      ASSERT_GE(h.usable_size(p), n);
      ASSERT_LE(h.usable_size(p), round_up_size(n + n / 4)) << "and its class";
    }
    // From 64 B to 32 KiB are 28 quarters; all classes would be 61.
    EXPECT_LE(moves, 28u);
    h.free(p);
    // Not what grows by more.
    for (const std::size_t n : {100, 1000, 10'000}) {
      p = h.realloc(h.malloc(n, kind), 2 * n);
      EXPECT_EQ(h.usable_size(p), round_up_size(2 * n));
      h.free(p);
    }
  }
}

TEST_F(realloc_test, one_that_fails_leaves_the_object) {
  auto* const p = bytes(h.malloc(100'000));
  std::memset(p, 0x5a, 100'000);
  for (const std::size_t n : {std::size_t{256_MiB}, std::size_t{1_GiB}, SIZE_MAX / 2, SIZE_MAX})
    EXPECT_EQ(h.realloc(p, n), nullptr) << n;
  EXPECT_EQ(std::count(p, p + 100'000, 0x5a), 100'000);
  EXPECT_EQ(h.memory().live_objects, 1u);
  h.free(p);
}

TEST_F(realloc_test, freed_objects_are_told) {
  for (const std::size_t n : {std::size_t{48}, std::size_t{5000}, std::size_t{100'000}}) {
    void* const p = h.malloc(n);
    void* const other = h.malloc(n);
    h.free(p);
    EXPECT_EQ(h.usable_size(p), 0u) << n;
    EXPECT_EQ(h.usable_size(bytes(other) + 8), 0u) << n;
    EXPECT_EQ(h.realloc(p, n), nullptr) << n;
    EXPECT_EQ(h.realloc(p, 3 * n), nullptr) << n;
    EXPECT_EQ(h.realloc(bytes(other) + 8, n), nullptr) << n;
    EXPECT_EQ(h.errors().size(), 3u) << n;
    EXPECT_GE(h.usable_size(other), n);
    h.free(other);
  }
}

TEST_F(realloc_test, objects_of_other_threads_grow_and_are_measured) {
  std::vector<void*> all;
  std::thread([&] {
    for (const std::size_t n : {20, 48, 1000, 30'000, 100'000})
      all.push_back(std::memset(h.malloc(n), 0x5a, n));
  }).join();
  std::size_t n = 20;
  for (void*& p : all) {
    const std::size_t had = h.usable_size(p);
    EXPECT_GE(had, n);
    p = h.realloc(p, 2 * had);
    EXPECT_EQ(std::count(bytes(p), bytes(p) + 20, 0x5a), 20);
    EXPECT_GE(h.usable_size(p), 2 * had);
    h.free(p);
    n = had + 1;
  }
  EXPECT_EQ(h.memory().live_objects, 0u);
  EXPECT_TRUE(h.errors().empty());
}

/// Objects of all sizes that grow and shrink keep what they hold, and none lies on another.
TEST_F(realloc_test, contents_survive_any_order) {
  struct object {
    unsigned char* p = nullptr;
    std::size_t n = 0;
    unsigned char mark = 0;
  };
  std::mt19937 random(1);
  std::vector<object> all(60);
  for (int step = 0; step < 4000; ++step) {
    object& o = all[random() % all.size()];
    const std::size_t most = std::size_t{1} << (4 + random() % 17);
    const std::size_t n = tiny_size + random() % most;
    const std::size_t kept = std::min(n, o.n);
    o.p = bytes(h.realloc(o.p, n));
    ASSERT_NE(o.p, nullptr);
    ASSERT_EQ(std::count(o.p, o.p + kept, o.mark), static_cast<std::ptrdiff_t>(kept)) << step;
    ASSERT_GE(h.usable_size(o.p), n);
    o.n = n;
    o.mark = static_cast<unsigned char>(step);
    std::memset(o.p, o.mark, n);
  }
  std::size_t live = 0;
  for (const object& o : all) live += h.usable_size(o.p);
  EXPECT_EQ(h.memory().heap_alloc, live);
  for (const object& o : all) h.free(o.p);
  EXPECT_EQ(h.memory().live_objects, 0u);
  EXPECT_TRUE(h.errors().empty());
}

TEST(calloc_test, clears_what_was_used_and_counts_it) {
  for (const contents kind : {contents::pointers, contents::no_pointers}) {
    for (const std::size_t n : {16, 48, 1000, 5000, 32768}) {
      test::host_region region(64_MiB);
      host_heap heap(region.base(), region.bytes(), region.source());
      std::vector<unsigned char*> all;
      const auto take = [&] {
        void* p = host_heap::calloc_fast(n, kind, heap.id());
        if (p == nullptr) p = heap.calloc(n, 1, kind);
        return static_cast<unsigned char*>(p);
      };
      for (int i = 0; i < 6; ++i) all.push_back(take());
      EXPECT_EQ(heap.stats().cleared_bytes, 0u) << n << ": fresh memory is zero";
      for (int i = 0; i < 500; ++i) {
        unsigned char*& p = all[static_cast<std::size_t>(i) % all.size()];
        ASSERT_EQ(std::count(p, p + n, 0), static_cast<std::ptrdiff_t>(n)) << n;
        std::memset(p, 0x5a, n);
        heap.free(p);
        p = take();
      }
      const std::uint64_t cleared = heap.stats().cleared_bytes;
      EXPECT_GT(cleared, 0u) << n;
      EXPECT_LE(cleared, 500 * n);
      EXPECT_EQ(cleared % n, 0u);
      for (unsigned char* p : all) EXPECT_EQ(heap.free(p), free_status::ok);
      test::expect_recount(heap);
      for (const std::size_t no : {std::size_t{0}, max_small_size + 1, SIZE_MAX})
        EXPECT_EQ(host_heap::calloc_fast(no, kind, heap.id()), nullptr) << no;
      EXPECT_EQ(host_heap::calloc_fast(n, kind, heap.id() + 1), nullptr) << "another heap";
    }
  }
}

TEST_F(realloc_test, aligned_objects_are_aligned_and_in_the_smallest_class_that_is) {
  std::vector<void*> all;
  for (std::size_t align = 1; align <= 16384; align *= 2) {
    for (const std::size_t n : {1, 8, 17, 48, 100, 1000, 5000, 32768, 40'000}) {
      for (const contents kind : {contents::pointers, contents::no_pointers}) {
        void* const p = h.aligned_alloc(align, n, kind);
        ASSERT_NE(p, nullptr);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % align, 0u) << align << " " << n;
        EXPECT_GE(h.usable_size(p), n);
        EXPECT_LE(h.usable_size(p), 2 * std::max(std::max(align, n), std::size_t{16}))
            << align << " " << n;
        all.push_back(p);
      }
    }
  }
  for (void* p : all) h.free(p);
  EXPECT_EQ(h.memory().live_objects, 0u);
  EXPECT_TRUE(h.errors().empty());
}

}  // namespace
