// Spans with few free slots: left alone while there are pages to spare, taken up when there are
// not.
#include <gtest/gtest.h>
#include <thread>
#include <vector>

#include "host/mspan.hpp"
#include "host/span_classes.hpp"
#include "tests/host_heap_fixture.hpp"

namespace {

using namespace warpheap;

struct sparse_spans : test::host_heap_fixture {
  static constexpr unsigned slots_of(std::size_t size) {
    return host_span_objects(size_to_class(size));
  }
  const mspan* span_of(const void* p) const { return heap.pages().owner_at(p).span(); }
  void free(void* p) { ASSERT_EQ(heap.free(p), free_status::ok); }

  /// So many full spans, span by span; the current one has one object.
  std::vector<void*> fill(unsigned spans, std::size_t size) {
    std::vector<void*> all;
    for (unsigned i = 0; i <= spans * slots_of(size); ++i) all.push_back(heap.malloc(size));
    EXPECT_EQ(span_of(all[all.size() - 2])->place(), span_place::full);
    return all;
  }
  /// The first object that is not in the current span, of which `last` is the last one so far.
  void* next_elsewhere(void* last, std::size_t size) {
    for (unsigned i = 0; i <= slots_of(size); ++i) {
      void* const p = heap.malloc(size);
      if (span_of(p) != span_of(last)) return p;
    }
    ADD_FAILURE() << "a span has more slots than its class";
    return nullptr;
  }
};

constexpr std::size_t small = 64, larger = 256, largest = 1152;

TEST_F(sparse_spans, of_few_pages_need_an_eighth) {
  const std::vector<void*> all = fill(3, small);
  const unsigned eighth = slots_of(small) / 8;
  for (unsigned i = 0; i + 1 < eighth; ++i) free(all[5 * i]);
  void* p = next_elsewhere(all.back(), small);
  EXPECT_NE(span_of(p), span_of(all[0]));
  free(all[5 * eighth]);
  p = next_elsewhere(p, small);
  EXPECT_EQ(span_of(p), span_of(all[0]));
}

TEST_F(sparse_spans, of_many_pages_need_a_sixteenth) {
  constexpr unsigned spans = 40;
  const unsigned sixteenth = slots_of(small) / 16;
  const std::vector<void*> all = fill(spans, small);
  ASSERT_GT(span_of(all[0])->npages() * spans, 128u);
  for (unsigned s = 0; s < spans; ++s) {
    for (unsigned i = 0; i < sixteenth; ++i) free(all[s * slots_of(small) + i]);
  }
  EXPECT_EQ(span_of(next_elsewhere(all.back(), small)),
            span_of(all[(spans - 1) * slots_of(small)]));
}

TEST_F(sparse_spans, of_larger_objects_need_a_thirtysecond) {
  const std::vector<void*> all = fill(3, larger);
  const unsigned enough = slots_of(larger) / 32;
  ASSERT_GT(enough, 1u);
  for (unsigned i = 0; i + 1 < enough; ++i) free(all[5 * i]);
  void* p = next_elsewhere(all.back(), larger);
  EXPECT_NE(span_of(p), span_of(all[0]));
  free(all[5 * enough]);
  EXPECT_EQ(span_of(next_elsewhere(p, larger)), span_of(all[0]));
}

TEST_F(sparse_spans, of_the_largest_objects_need_one_slot_and_have_their_turn) {
  const std::vector<void*> all = fill(3, largest);
  free(all[7]);
  free(all[slots_of(largest) + 7]);
  EXPECT_EQ(next_elsewhere(all.back(), largest), all[7]);
}

TEST_F(sparse_spans, of_tiny_blocks_are_taken_up_for_what_others_have_freed) {
  std::vector<void*> all;
  while (all.size() <= 3 * page_size / tiny_size) all.push_back(heap.malloc(9));
  const mspan* const first = span_of(all[0]);
  free(all[0]);  // this thread has the span again
  std::thread([&] {
    for (unsigned i = 1; i < 100; ++i) free(all[i]);
  }).join();
  void* p = all.back();
  for (unsigned i = 0; i <= page_size / tiny_size && span_of(p) == span_of(all.back()); ++i)
    p = heap.malloc(9);
  EXPECT_EQ(span_of(p), first);
}

TEST_F(sparse_spans, come_up_in_turn) {
  constexpr unsigned spans = 20, dense = 2;
  const unsigned n = slots_of(small);
  const std::vector<void*> all = fill(spans, small);
  for (unsigned s = 0; s < spans; ++s) free(all[s * n]);
  for (unsigned i = 1; i + 1 < n; ++i) free(all[dense * n + i]);
  // The sixteen that were freed in last have too few, and the next ones are looked at next time.
  void* p = next_elsewhere(all.back(), small);
  for (unsigned s = 0; s < spans; ++s) EXPECT_NE(span_of(p), span_of(all[s * n]));
  p = next_elsewhere(p, small);
  EXPECT_EQ(span_of(p), span_of(all[dense * n]));
}

TEST_F(sparse_spans, are_taken_up_when_an_eighth_of_the_heap_is_left) {
  const std::vector<void*> all = fill(3, small);
  std::vector<void*> large;
  while (heap.pages().has_plenty()) large.push_back(heap.malloc(std::size_t{1} << 20));
  free(all[7]);
  EXPECT_EQ(next_elsewhere(all.back(), small), all[7]);
  // And not when there is room again.
  free(all[8]);
  void* p = heap.malloc(small);
  EXPECT_EQ(p, all[8]);
  for (unsigned i = 0; i < 8; ++i) free(large[i]);  // more than the thread keeps
  ASSERT_TRUE(heap.pages().has_plenty());
  free(all[slots_of(small)]);
  EXPECT_NE(span_of(next_elsewhere(p, small)), span_of(all[slots_of(small)]));
}

TEST_F(sparse_spans, are_taken_up_below_a_memory_limit) {
  const std::vector<void*> all = fill(3, small);
  heap.set_memory_limit(heap.stats().pages_in_use * page_size * 9 / 8);
  free(all[7]);
  EXPECT_EQ(next_elsewhere(all.back(), small), all[7]);
}

TEST_F(sparse_spans, are_all_found_before_a_malloc_fails) {
  std::vector<void*> all;
  while (void* p = heap.malloc(small)) all.push_back(p);
  std::size_t freed = 0;
  for (std::size_t i = 0; i < all.size(); i += 3 * slots_of(small) / 2, ++freed) free(all[i]);
  std::size_t again = 0;
  while (heap.malloc(small) != nullptr) ++again;
  EXPECT_EQ(again, freed);
}

TEST_F(sparse_spans, are_a_threads_own_up_to_a_part_of_the_heap) {
  const std::size_t most = heap.pages().reserve_pages() / 16;
  const std::size_t npages = host_span_pages(size_to_class(small));
  const auto spans = static_cast<unsigned>(most / npages + 20);
  const std::vector<void*> all = fill(spans, small);
  std::size_t own = 0, in_mcentral = 0;
  for (unsigned s = 0; s < spans; ++s) free(all[s * slots_of(small)]);
  for (unsigned s = 0; s < spans; ++s) {
    const span_place place = span_of(all[s * slots_of(small)])->place();
    own += place == span_place::cached;
    in_mcentral += place == span_place::partial;
  }
  EXPECT_EQ(own, most / npages);
  EXPECT_EQ(in_mcentral, spans - most / npages);
}

}  // namespace
