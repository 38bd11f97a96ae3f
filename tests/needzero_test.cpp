// Memory is cleared when it was used before and zero is asked for, and not otherwise: what the
// system has just given reads zero, and is not touched.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <cstring>
#include <random>
#include <thread>
#include <vector>
#include <warpheap/heap.hpp>

#include "tests/host_heap_fixture.hpp"

namespace {

using namespace warpheap;

constexpr std::size_t bytes = 4_MiB;

/// Pages of the system at p that hold memory.
std::ptrdiff_t resident(void* p) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> in_core(bytes / page);
  EXPECT_EQ(mincore(p, bytes, in_core.data()), 0);
  return std::count_if(in_core.begin(), in_core.end(),
                       [](unsigned char c) { return (c & 1) != 0; });
}

bool is_zero(void* p) {
  const auto* c = static_cast<const unsigned char*>(p);
  return std::all_of(c, c + bytes, [](unsigned char x) { return x == 0; });
}

TEST(needzero, fresh_pages_are_not_touched_and_used_ones_are_cleared) {
  heap h({.reserve_bytes = 64_MiB,
          .backend = backend_kind::simt,
          .refill_service = false,
          .report_leaks = false});
  void* p = h.calloc(1, bytes);
  EXPECT_EQ(resident(p), 0);
  EXPECT_TRUE(is_zero(p));
  std::memset(p, 0xaa, bytes);
  h.free(p);
  void* plain = h.malloc(bytes);
  EXPECT_EQ(plain, p);
  EXPECT_FALSE(is_zero(plain));  // nobody asked
  h.free(plain);
  void* again = h.calloc(1, bytes);
  EXPECT_EQ(again, p);
  EXPECT_TRUE(is_zero(again));
  std::memset(again, 0xaa, bytes);
  h.free(again);
  // Given back to the system: fresh again.
  h.trim();
  void* fresh = h.calloc(1, bytes);
  EXPECT_EQ(fresh, p);
  EXPECT_EQ(resident(fresh), 0);
  EXPECT_TRUE(is_zero(fresh));
}

struct small_calloc : test::host_heap_fixture {
  std::uint64_t cleared() const { return heap.stats().cleared_bytes; }
  /// `count` objects of n zeroed bytes each, filled with other bytes then.
  std::vector<void*> zeroed(std::size_t n, unsigned count) {
    std::vector<void*> all;
    for (unsigned i = 0; i < count; ++i) {
      auto* p = static_cast<unsigned char*>(heap.calloc(1, n));
      EXPECT_NE(p, nullptr);
      EXPECT_TRUE(std::all_of(p, p + n, [](unsigned char c) { return c == 0; })) << i;
      std::memset(p, 0xaa, heap.usable_size(p));
      all.push_back(p);
    }
    return all;
  }
};

// Each history of a slot's memory: fresh, reused by its thread, by another, swept, given back.
TEST_F(small_calloc, clears_what_was_used_and_nothing_else) {
  for (unsigned c = 1; c < num_classes; ++c) {
    const std::size_t n = class_to_size(c);
    const unsigned count = 2 * host_span_objects(c) + 3;
    SCOPED_TRACE(n);
    std::uint64_t before = cleared();
    const auto all = zeroed(n, count);
    EXPECT_EQ(cleared(), before);
    for (std::size_t i = 0; i < all.size(); i += 3) ASSERT_EQ(heap.free(all[i]), free_status::ok);
    std::thread([&] {
      for (std::size_t i = 1; i < all.size(); i += 3) EXPECT_EQ(heap.free(all[i]), free_status::ok);
    }).join();
    (void)zeroed(n, count);
    EXPECT_GE(cleared() - before, n * (count / 3));
    heap.reset();
    before = cleared();
    (void)zeroed(n, count);  // swept
    EXPECT_EQ(cleared() - before, n * count);
    heap.reset();
    (void)heap.trim();
    before = cleared();
    (void)zeroed(n, count);  // given back
    EXPECT_EQ(cleared(), before);
    heap.reset();
    (void)heap.trim();
  }
}

TEST_F(small_calloc, plain_objects_before_it_leave_the_rest_fresh) {
  for (int i = 0; i < 10; ++i) std::memset(heap.malloc(64), 0xaa, 64);
  (void)zeroed(64, 200);
  EXPECT_EQ(cleared(), 0u);
  // A word that is filled anew has used slots in it.
  void* const p = heap.malloc(64);
  std::memset(p, 0xaa, 64);
  EXPECT_EQ(heap.free(p), free_status::ok);
  (void)zeroed(64, 1000);
}

TEST_F(small_calloc, tiny_objects_are_always_cleared) {
  for (int round = 0; round < 3; ++round) {
    for (std::size_t n = 1; n < 16; ++n) {
      const auto all = zeroed(n, 50);
      for (void* p : all) ASSERT_EQ(heap.free(p), free_status::ok);
    }
  }
}

// Any order of everything that leaves memory behind.
TEST_F(small_calloc, is_zero_whatever_came_before) {
  std::mt19937 random(1);
  std::vector<void*> live;
  for (int i = 0; i < 100'000; ++i) {
    const std::size_t n = random() % 20 == 0 ? 20'000 + random() % 40'000 : 1 + random() % 700;
    switch (random() % 16) {
      case 0:
        if (random() % 500 == 0) {
          heap.reset();
          live.clear();
        } else if (random() % 100 == 0) {
          (void)heap.trim();
        }
        break;
      case 1:
        if (void* p = heap.acquire_stack(4096); p != nullptr) {
          std::memset(p, 0xaa, 4096);
          heap.release_stack(p, 4096);
        }
        break;
      case 2:
      case 3:
      case 4: {
        void* p = heap.malloc(n);
        ASSERT_NE(p, nullptr);
        std::memset(p, 0xaa, n);
        live.push_back(p);
        break;
      }
      case 5:
      case 6:
      case 7:
      case 8: live.push_back(zeroed(n, 1)[0]); break;
      default:
        if (live.empty()) break;
        std::swap(live[random() % live.size()], live.back());
        ASSERT_EQ(heap.free(live.back()), free_status::ok);
        live.pop_back();
    }
  }
}

}  // namespace
