// Pages, slots and colors of the spans of the host.
#include "host/span_classes.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/host_heap_fixture.hpp"

namespace {

using namespace warpheap;
using warpheap::test::expect_recount;

TEST(span_classes, a_color_costs_no_slot_and_no_alignment_of_a_cache_line) {
  unsigned colored = 0;
  for (unsigned c = 1; c < num_classes; ++c) {
    const std::size_t size = class_to_size(c), color = host_span_color(c);
    colored += color != 0;
    for (const std::size_t pages : {host_span_pages(c), class_to_pages(c)}) {
      EXPECT_EQ(host_span_objects(c, pages), pages * page_size / size);
      EXPECT_LE(color + host_span_objects(c, pages) * size, pages * page_size) << size;
    }
    EXPECT_LT(color, size);
    for (std::size_t align = 1; align <= page_size; align *= 2) {
      const bool of_the_size = size % align == 0;
      EXPECT_EQ(host_slot_alignments[c] >= align, of_the_size && color % align == 0);
      // Powers of two and two lines at most are not lost to a color.
      if (of_the_size && (align <= 128 || size == (size & (~size + 1)))) {
        EXPECT_GE(host_slot_alignments[c], align) << size << " " << align;
      }
    }
  }
  EXPECT_GT(colored, num_classes / 3);
}

struct span_classes_test : test::host_heap_fixture {
  /// The pages of a span whose first slot is p.
  std::byte* pages_of(std::byte* p) const {
    return p - static_cast<std::size_t>(p - region.base()) % page_size;
  }
  /// What frees of all bytes of the color in front of p come to.
  void expect_color(std::byte* p, free_status want) {
    for (std::byte* at = pages_of(p); at < p; ++at) {
      ASSERT_EQ(heap.free(at), want) << p - at;
      ASSERT_EQ(heap.usable_size(at), 0u);
    }
  }
};

TEST_F(span_classes_test, what_lies_in_front_of_the_slots_and_behind_is_no_object) {
  for (unsigned c = 2; c < num_classes; ++c) {
    const std::size_t size = class_to_size(c), color = host_span_color(c);
    std::vector<std::byte*> all(host_span_objects(c));
    for (std::byte*& p : all) p = static_cast<std::byte*>(heap.malloc(size));
    std::byte* const first = all[0];
    ASSERT_EQ(first, pages_of(first) + color) << size;
    ASSERT_EQ(all.back(), first + (all.size() - 1) * size);

    std::byte* const limit = all.back() + size;
    const bool has_tail = limit < pages_of(first) + host_span_pages(c) * page_size;

    expect_color(first, free_status::interior);  // this thread's
    if (has_tail) {
      EXPECT_EQ(heap.free(limit), free_status::interior);
    }
    void* const next = heap.malloc(size);        // another span is current
    expect_color(first, free_status::interior);  // nobody's
    if (color != 0) {
      // That was enough for the span to become this thread's.
      std::thread([&] { expect_color(first, free_status::interior); }).join();
    }
    std::thread([&] {
      EXPECT_EQ(heap.free(first), free_status::ok);  // of another thread's span
      EXPECT_EQ(heap.free(first), free_status::double_free);
      expect_color(first, free_status::interior);
    }).join();
    for (std::byte* p : all)
      EXPECT_EQ(heap.free(p), p == first ? free_status::double_free : free_status::ok);
    EXPECT_EQ(heap.free(next), free_status::ok);
    heap.trim();
    expect_color(first, free_status::not_allocated);  // gone
    for (std::byte* p : all) EXPECT_EQ(heap.free(p), free_status::double_free);
  }
  expect_recount(heap);
}

TEST_F(span_classes_test, nor_is_it_after_all_was_freed_at_once) {
  std::vector<std::byte*> first(num_classes);
  for (unsigned c = 2; c < num_classes; ++c)
    first[c] = static_cast<std::byte*>(heap.malloc(class_to_size(c)));
  heap.reset();
  for (unsigned c = 2; c < num_classes; ++c) {
    if (host_span_color(c) != 0) expect_color(first[c], free_status::not_allocated);
    EXPECT_EQ(heap.free(first[c]), free_status::double_free);
  }
}

TEST_F(span_classes_test, what_points_in_front_of_the_first_slot_keeps_nothing_alive) {
  auto** root = static_cast<std::byte**>(heap.malloc(8 * num_classes, contents::pointers));
  unsigned kept = 1, lost = 0;
  for (unsigned c = 0; c < num_classes; ++c) {
    root[c] = nullptr;
    if (host_span_color(c) == 0) continue;
    // Odd ones are pointed to in front of, even ones by their last byte.
    auto* p = static_cast<std::byte*>(heap.malloc(class_to_size(c)));
    root[c] = c % 2 != 0 ? p - 1 : p + class_to_size(c) - 1;
    ++(c % 2 != 0 ? lost : kept);
  }
  EXPECT_EQ(heap.mark_reachable(root), mark_status::marked);
  for (unsigned c = 1; c < num_classes; c += 2) {
    if (root[c] == nullptr) continue;
    EXPECT_EQ(heap.mark(root[c]), mark_status::dangling);
  }
  const sweep_report report = heap.sweep(0);
  EXPECT_EQ(report.kept.objects, kept);
  EXPECT_EQ(report.leaked.objects, lost);
  EXPECT_GT(lost, 0u);
}

}  // namespace
