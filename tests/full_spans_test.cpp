// Full spans, in which others than their last owner free: left to that one, up to a quarter, and
// found when there is nothing else.
#include <gtest/gtest.h>
#include <thread>
#include <vector>

#include "host/mspan.hpp"
#include "tests/host_heap_fixture.hpp"

namespace {

using namespace warpheap;

struct full_spans : test::host_heap_fixture {
  static constexpr std::size_t size = 64;
  static constexpr unsigned slots = host_span_objects(size_to_class(size));
  static constexpr unsigned quarter = slots / 4;

  const mspan& span_of(const void* p) const { return *heap.pages().owner_at(p).span(); }
  span_place place_of(const void* p) const { return span_of(p).place(); }
  void free(void* p) { ASSERT_EQ(heap.free(p), free_status::ok); }

  /// So many full spans, span by span, and a current one.
  std::vector<void*> fill(unsigned spans) {
    std::vector<void*> all;
    for (unsigned i = 0; i <= spans * slots; ++i) all.push_back(heap.malloc(size));
    for (unsigned i = 0; i < spans * slots; ++i) {
      EXPECT_EQ(place_of(all[i]), span_place::full);
      EXPECT_EQ(&span_of(all[i]), &span_of(all[i / slots * slots]));
    }
    return all;
  }
  /// In a thread of its own, to its end.
  template <class F>
  static void elsewhere(F&& f) {
    std::thread(f).join();
  }
};

TEST_F(full_spans, stay_their_last_owners_until_others_have_freed_a_quarter) {
  const std::vector<void*> all = fill(2);
  elsewhere([&] {
    for (unsigned i = 0; i + 1 < quarter; ++i) free(all[i]);
    EXPECT_EQ(place_of(all[0]), span_place::full);
    for (unsigned i = 0; i < quarter; ++i) {
      EXPECT_EQ(place_of(all[slots]), span_place::full) << i;
      free(all[slots + i]);
    }
    EXPECT_EQ(place_of(all[slots]), span_place::cached);
  });
  EXPECT_EQ(span_of(all[0]).count_free(), quarter - 1);
  free(all[slots - 1]);
  EXPECT_EQ(place_of(all[0]), span_place::cached);
  EXPECT_FALSE(span_of(all[0]).status().is_pending());
  EXPECT_EQ(span_of(all[0]).count_free(), quarter);
}

TEST_F(full_spans, a_quarter_may_be_of_many_threads) {
  const std::vector<void*> all = fill(1);
  for (unsigned i = 0; i < quarter; ++i) {
    EXPECT_EQ(place_of(all[0]), span_place::full);
    elsewhere([&] { free(all[i]); });
  }
  EXPECT_NE(place_of(all[0]), span_place::full);
}

TEST_F(full_spans, second_frees_are_told_wherever_the_first_is) {
  const std::vector<void*> all = fill(1);
  elsewhere([&] {
    free(all[3]);
    EXPECT_EQ(heap.free(all[3]), free_status::double_free);
  });
  EXPECT_EQ(place_of(all[0]), span_place::full);
  EXPECT_EQ(heap.usable_size(all[3]), 0u);
  EXPECT_EQ(heap.free(all[3]), free_status::double_free);
  EXPECT_EQ(place_of(all[0]), span_place::cached);
}

TEST_F(full_spans, who_frees_mostly_what_others_allocate_takes_them_at_once) {
  constexpr unsigned many = 64;
  const std::vector<void*> all = fill(2 * many + 2);
  elsewhere([&] {
    const auto free_in = [&](unsigned k) {
      free(all[k * slots]);
      return place_of(all[k * slots]) == span_place::cached;
    };
    unsigned k = 0;
    for (; k + 1 < many; ++k) EXPECT_FALSE(free_in(k)) << k;
    for (; k < 2 * many; ++k) EXPECT_TRUE(free_in(k)) << k;
    // As many of its own.
    std::vector<void*> own;
    for (unsigned turn = 0; turn < 2 * many; ++turn) {
      do {
        own.push_back(heap.malloc(size));
      } while (place_of(own[0]) != span_place::full);
      free(own[0]);
      own[0] = own.back();
      own.pop_back();
    }
    EXPECT_FALSE(free_in(k));
    for (void* p : own) free(p);
  });
}

TEST_F(full_spans, who_takes_them_over_keeps_few_when_they_are_empty) {
  constexpr unsigned spans = 60, most_kept = 64;
  const std::vector<void*> all = fill(spans);
  elsewhere([&] {
    const std::vector<void*> own = fill(spans);
    const auto pages = [&] { return heap.stats().pages_in_use; };
    const auto before = pages();
    const auto in_full = (before - 2 * span_of(all[0]).npages()) / 2;
    for (unsigned i = 0; i < spans * slots; ++i) free(all[i]);
    EXPECT_LE(pages(), before - in_full + most_kept);
    EXPECT_GE(pages(), before - in_full + most_kept / 2);
    // Of its own it keeps more.
    const auto others_gone = pages();
    for (unsigned i = 0; i < spans * slots; ++i) free(own[i]);
    EXPECT_GT(pages(), others_gone - in_full / 2);
  });
}

TEST_F(full_spans, of_tiny_blocks_become_the_first_ones_who_frees_in_them) {
  std::vector<void*> all;
  while (all.size() < 2 * page_size / tiny_size) all.push_back(heap.malloc(9));
  ASSERT_EQ(place_of(all[0]), span_place::full);
  elsewhere([&] {
    free(all[0]);
    EXPECT_EQ(place_of(all[0]), span_place::cached);
  });
}

TEST_F(full_spans, are_swept_and_reset_with_what_others_have_freed) {
  std::vector<void*> all = fill(3);
  elsewhere([&] {
    for (unsigned k = 0; k < 3; ++k) free(all[k * slots]);
  });
  for (unsigned i = 1; i < slots; ++i) ASSERT_EQ(heap.mark(all[i]), mark_status::marked);
  ASSERT_EQ(heap.mark(all[slots]), mark_status::dangling);
  const sweep_report report = heap.sweep();
  EXPECT_EQ(report.kept.objects, slots - 1);
  EXPECT_EQ(report.leaked.objects, 2 * (slots - 1) + 1);
  test::expect_recount(heap);
  EXPECT_EQ(place_of(all[1]), span_place::partial);
  heap.reset();
  all = fill(3);
  elsewhere([&] { free(all[2 * slots]); });
  EXPECT_EQ(place_of(all[2 * slots]), span_place::full);
  heap.reset();
  test::expect_nothing_lives(heap.stats());
  EXPECT_EQ(heap.free(all[2 * slots]), free_status::double_free);
}

TEST_F(full_spans, give_what_others_have_freed_to_trim) {
  const std::vector<void*> all = fill(2);
  elsewhere([&] { free(all[0]); });
  heap.trim();
  EXPECT_EQ(place_of(all[0]), span_place::partial);
  EXPECT_EQ(place_of(all[slots]), span_place::full);
}

TEST_F(full_spans, are_left_alone_by_mallocs_that_they_cannot_help) {
  const std::vector<void*> all = fill(2);
  elsewhere([&] { free(all[0]); });
  const std::size_t most = region.bytes() / 8 * 5;
  void* const half = heap.malloc(most);
  ASSERT_NE(half, nullptr);
  EXPECT_EQ(heap.malloc(most), nullptr);
  EXPECT_EQ(place_of(all[0]), span_place::full);
  free(half);
}

TEST_F(full_spans, of_a_thread_that_has_ended_are_anyones) {
  std::vector<void*> all;
  elsewhere([&] { all = fill(2); });
  for (unsigned i = 0; i < quarter; ++i) free(all[i]);
  EXPECT_EQ(place_of(all[0]), span_place::cached);
  elsewhere([&] { free(all[slots]); });
  EXPECT_TRUE(span_of(all[slots]).is_free(span_of(all[slots]).slot_at(all[slots])));
}

/// Sizes, of which a heap is full; others free less than a quarter in each full span.
struct full_heaps : ::testing::TestWithParam<std::size_t> {};

TEST_P(full_heaps, give_each_slot_that_others_have_freed_before_a_malloc_fails) {
  test::host_region region(std::size_t{8} << 20);
  host_heap heap(region.base(), region.bytes(), region.source());
  std::vector<void*> all;
  while (void* p = heap.malloc(GetParam())) all.push_back(p);
  std::thread([&] {
    unsigned freed = 0, left = 0, again = 0;
    for (std::size_t i = 0; i < all.size(); i += 9) {
      const mspan& s = *heap.pages().owner_at(all[i]).span();
      if (s.place() != span_place::full) continue;  // the current one
      ASSERT_EQ(heap.free(all[i]), free_status::ok);
      ++freed;
      left += s.place() == span_place::full;
    }
    EXPECT_GT(left, freed / 2);
    while (heap.malloc(GetParam()) != nullptr) ++again;
    EXPECT_EQ(again, freed);
  }).join();
  test::expect_recount(heap);
}

INSTANTIATE_TEST_SUITE_P(sizes, full_heaps, ::testing::Values(8, 16, 48, 500, 2000, 8192),
                         [](const auto& info) { return std::to_string(info.param); });

}  // namespace
