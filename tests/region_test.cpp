#include <warpheap/region.hpp>

#include <gtest/gtest.h>
#include <csignal>
#include <cstring>
#include <map>
#include <memory_resource>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace warpheap;

struct region_test : ::testing::Test {
  static heap_options options() {
    heap_options o;
    o.reserve_bytes = 64_MiB;
    o.backend = backend_kind::simt;
    o.on_report = [](const std::string&) {};
    o.initial_stock_bytes = 0;
    return o;
  }
  heap h{options()};
};

TEST_F(region_test, bumps_upwards_and_frees_at_once) {
  region r(h);
  EXPECT_EQ(r.used_bytes() + r.chunk_bytes(), 0u);
  auto* a = static_cast<std::byte*>(r.malloc(100));
  auto* b = static_cast<std::byte*>(r.malloc(24));
  auto* c = static_cast<std::byte*>(r.malloc(1, 1));
  auto* d = static_cast<std::byte*>(r.malloc(1, 1));
  EXPECT_EQ(b, a + 112);
  EXPECT_EQ(c, b + 24);
  EXPECT_EQ(d, c + 1);
  EXPECT_EQ(r.used_bytes(), 138u);
  EXPECT_EQ(r.chunk_bytes(), 64_KiB);
  EXPECT_EQ(h.memory().regions_sys, 64_KiB);
  EXPECT_EQ(h.stats().host.live_objects, 0u);
  r.clear();
  EXPECT_EQ(r.used_bytes() + r.chunk_bytes(), 0u);
  EXPECT_EQ(h.memory().regions_sys, 0u);
  EXPECT_EQ(h.memory().quarantined, 64_KiB);
  auto* e = static_cast<std::byte*>(r.malloc(100));
  EXPECT_NE(e, a);
}

TEST_F(region_test, objects_do_not_overlap_and_are_aligned) {
  region r(h, {.first_chunk_bytes = 1, .largest_chunk_bytes = 64_KiB});
  std::map<std::uintptr_t, std::size_t> all;
  std::mt19937 random(7);
  for (int i = 0; i < 20000; ++i) {
    const std::size_t n = random() % (random() % 100 == 0 ? 30000 : 200);
    const std::size_t alignment = std::size_t{1} << random() % 14;
    void* p = r.malloc(n, alignment);
    ASSERT_NE(p, nullptr);
    std::memset(p, i, n);
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    ASSERT_EQ(at % alignment, 0u);
    if (n == 0) continue;
    const auto next = all.lower_bound(at);
    ASSERT_TRUE(next == all.end() || at + n <= next->first);
    ASSERT_TRUE(next == all.begin() || std::prev(next)->first + std::prev(next)->second <= at);
    all[at] = n;
  }
  EXPECT_GE(r.chunk_bytes(), r.used_bytes());
  EXPECT_LE(r.chunk_bytes(), 2 * r.used_bytes());
}

TEST_F(region_test, chunks_double_and_large_objects_have_their_own) {
  region r(h, {.first_chunk_bytes = 8_KiB, .largest_chunk_bytes = 32_KiB});
  (void)r.malloc(1);
  EXPECT_EQ(r.chunk_bytes(), 8_KiB);
  (void)r.malloc(2_KiB);
  (void)r.malloc(2_KiB);
  (void)r.malloc(2_KiB);
  (void)r.malloc(2_KiB);
  EXPECT_EQ(r.chunk_bytes(), 24_KiB);
  auto* small = static_cast<std::byte*>(r.malloc(16));
  (void)r.malloc(1_MiB);
  EXPECT_EQ(r.chunk_bytes(), 24_KiB + 1_MiB);
  EXPECT_EQ(r.malloc(16), small + 16);  // the small ones go on where they were
}

TEST_F(region_test, refuses_what_it_cannot_give) {
  region r(h);
  EXPECT_EQ(r.malloc(10, 3), nullptr);
  EXPECT_EQ(r.malloc(10, 0), nullptr);
  EXPECT_EQ(r.malloc(10, 16_KiB), nullptr);
  EXPECT_EQ(r.malloc(~std::size_t{0}), nullptr);
  EXPECT_EQ(r.malloc(1_GiB), nullptr);
  EXPECT_NE(r.malloc(10), nullptr);
  EXPECT_EQ(r.malloc(~std::size_t{0}, 1), nullptr);
  EXPECT_EQ(r.malloc(~std::size_t{0} - 100, 16), nullptr);
  EXPECT_THROW((void)static_cast<std::pmr::memory_resource&>(r).allocate(1_GiB), std::bad_alloc);
}

TEST_F(region_test, uses_the_heap_to_its_last_page_again_and_again) {
  for (int round = 0; round < 3; ++round) {
    region r(h);
    std::size_t bytes = 0;
    while (r.malloc(5000) != nullptr) bytes += 5000;
    EXPECT_GE(bytes, 60_MiB);
    // One report, for the object that there was no room for.
    const std::vector<error_record> errors = h.errors();
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_EQ(errors[0].kind, error_kind::out_of_memory);
    EXPECT_EQ(errors[0].address, 5000u);
  }
  // Pages in quarantine are there for objects, too.
  std::vector<void*> all;
  while (void* p = h.malloc(1_MiB)) all.push_back(p);
  EXPECT_GE(all.size(), 62u);
  for (void* p : all) h.free(p);
}

struct point {
  int x, y;
};

TEST_F(region_test, is_memory_of_containers) {
  region r(h);
  {
    std::pmr::map<int, std::pmr::string> names(&r);
    for (int i = 0; i < 1000; ++i) names[i] = std::string(static_cast<std::size_t>(i % 100), 'x');
    for (int i = 0; i < 1000; ++i) EXPECT_EQ(names[i].size(), static_cast<std::size_t>(i % 100));
  }
  EXPECT_GT(r.used_bytes(), 50000u);
  point* p = r.make<point>(point{1, 2});
  EXPECT_EQ(p->x + p->y, 3);
  region other(h);
  EXPECT_TRUE(r.is_equal(r));
  EXPECT_FALSE(r.is_equal(other));
}

TEST_F(region_test, is_no_object_and_survives_a_reset) {
  region r(h);
  auto* p = static_cast<std::byte*>(r.malloc(100));
  h.free(p);
  EXPECT_EQ(h.usable_size(p), 0u);
  const std::vector<error_record> errors = h.errors();
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].kind, error_kind::not_allocated);
  p[0] = std::byte{42};
  h.reset();
  EXPECT_EQ(p[0], std::byte{42});
  EXPECT_NE(r.malloc(1_MiB), nullptr);
}

TEST_F(region_test, use_after_clear_is_a_signal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  region r(h);
  auto* p = static_cast<volatile char*>(r.malloc(100));
  p[0] = 1;
  r.clear();
  const auto died = [](int status) {
    return WIFSIGNALED(status) ? WTERMSIG(status) == SIGSEGV
                               : WIFEXITED(status) && WEXITSTATUS(status) != 0;
  };
  EXPECT_EXIT(p[0] = 2, died, "");
  EXPECT_EXIT(
      {
        if (p[0] == 1) std::abort();
        std::_Exit(0);
      },
      died, "");
}

}  // namespace
