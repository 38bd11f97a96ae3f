// Large objects that become longer or shorter where they are.
#include <gtest/gtest.h>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/host_heap_fixture.hpp"

namespace {

using namespace warpheap;

constexpr unsigned noscan = make_span_class(0, true);

struct mheap_large : ::testing::Test {
  test::host_region region{std::size_t{256} << 20};
  mheap heap{region.base(), region.bytes(), region.source()};
  page_stock stock;

  mspan* large(std::size_t pages) { return heap.alloc_large(pages, 1, noscan, stock); }
  /// All pages of s are its own, and the next one is not.
  void expect_pages(const mspan* s, std::size_t n) {
    EXPECT_EQ(s->npages(), n);
    EXPECT_EQ(s->elemsize(), n * page_size);
    for (std::size_t i = 0; i < n; ++i)
      ASSERT_EQ(heap.owner_at(s->base() + i * page_size).span(), s);
    EXPECT_NE(heap.owner_at(s->base() + n * page_size).bits(),
              page_owner::of(const_cast<mspan*>(s)).bits());
  }
  void TearDown() override {
    heap.flush(stock);
    const mheap_stats st = heap.stats();
    const page_recount n = heap.recount();
    EXPECT_EQ(n.free, st.free_pages);
    EXPECT_EQ(n.scavenged, st.scavenged_pages);
    EXPECT_EQ(n.owned_by_spans, st.pages_in_use);
    EXPECT_EQ(n.in_spans, st.pages_in_use);
    EXPECT_EQ(st.committed_pages, st.grown_pages - st.scavenged_pages);
  }
};

TEST_F(mheap_large, grow_by_the_pages_behind_them_if_these_are_free) {
  mspan* const s = large(10);
  std::byte* const base = s->base();
  std::memset(base, 0xa5, 10 * page_size);
  ASSERT_TRUE(heap.grow_large(s, 25));
  EXPECT_EQ(s->base(), base);
  expect_pages(s, 25);
  EXPECT_EQ(heap.stats().pages_in_use, 25u);
  EXPECT_FALSE(s->needzero) << "fresh pages";
  EXPECT_EQ(base[10 * page_size - 1], std::byte{0xa5});
  EXPECT_EQ(base[10 * page_size], std::byte{0});
  mspan* const behind = large(3);
  ASSERT_EQ(behind->base(), base + 25 * page_size);
  EXPECT_FALSE(heap.grow_large(s, 26));
  expect_pages(s, 25);
  heap.free_span(behind);
  EXPECT_TRUE(heap.grow_large(s, 26));
  expect_pages(s, 26);
  EXPECT_TRUE(s->needzero) << "a page that was used";
}

TEST_F(mheap_large, grow_into_chunks_that_were_not_in_use) {
  mspan* const s = large(100);
  ASSERT_TRUE(heap.grow_large(s, 3 * chunk_pages));
  expect_pages(s, 3 * chunk_pages);
  EXPECT_EQ(heap.stats().grown_pages, 3 * chunk_pages);
}

TEST_F(mheap_large, do_not_grow_past_their_arena_nor_past_the_heap) {
  mspan* const s = large(100);
  const std::size_t to_the_end =
      static_cast<std::size_t>(region.base() + region.bytes() - s->base()) / page_size;
  EXPECT_FALSE(heap.grow_large(s, to_the_end + 1));
  EXPECT_FALSE(heap.grow_large(s, region.bytes() / page_size + 1));
  EXPECT_FALSE(heap.grow_large(s, ~std::size_t{0} / page_size));
  expect_pages(s, 100);
  EXPECT_TRUE(heap.grow_large(s, to_the_end));
  EXPECT_EQ(s->npages(), to_the_end);
}

TEST_F(mheap_large, shrink_and_give_their_last_pages_back) {
  mspan* const s = large(100);
  std::memset(s->base(), 0xa5, 100 * page_size);
  heap.shrink_large(s, 20);
  expect_pages(s, 20);
  EXPECT_EQ(heap.stats().pages_in_use, 20u);
  EXPECT_TRUE(heap.owner_at(s->base() + 20 * page_size).is_gone());
  mspan* const behind = large(80);
  EXPECT_EQ(behind->base(), s->base() + 20 * page_size);
  EXPECT_TRUE(behind->needzero);
  heap.free_span(behind);
  heap.free_span(s);
  EXPECT_EQ(heap.stats().pages_in_use, 0u);
  // The whole is one run again.
  EXPECT_EQ(large(100)->npages(), 100u);
}

TEST_F(mheap_large, stay_as_they_are_when_there_is_no_memory_for_more) {
  mspan* const s = large(10);
  region.refuse = true;
  EXPECT_FALSE(heap.grow_large(s, 20));
  region.refuse = false;
  expect_pages(s, 10);
  EXPECT_EQ(heap.committed_pages(), 10u);
  heap.set_memory_limit((heap.stats().metadata_sys / page_size + 16) * page_size);
  EXPECT_FALSE(heap.grow_large(s, 40));
  expect_pages(s, 10);
  EXPECT_TRUE(heap.grow_large(s, 12));
  heap.set_memory_limit(mheap::no_limit);
  EXPECT_TRUE(heap.grow_large(s, 40));
  expect_pages(s, 40);
}

TEST(mheap_large_mapping, stay_as_they_are_when_no_more_can_be_mapped) {
  test::host_region region{std::size_t{64} << 20};
  page_source source = region.source();
  static std::atomic<bool> refuse;
  refuse = false;
  source.map = [](void*, std::byte*, std::size_t) { return !refuse; };
  mheap heap(region.base(), region.bytes(), source);
  page_stock stock;
  mspan* const s = heap.alloc_large(10, 1, noscan, stock);
  refuse = true;
  EXPECT_FALSE(heap.grow_large(s, chunk_pages + 10));
  EXPECT_EQ(s->npages(), 10u);
  EXPECT_EQ(heap.stats().pages_in_use, 10u);
  refuse = false;
  EXPECT_TRUE(heap.grow_large(s, chunk_pages + 10));
  heap.flush(stock);
  EXPECT_EQ(heap.recount().free, heap.stats().free_pages);
}

using host_heap_large = test::host_heap_fixture;

TEST_F(host_heap_large, change_their_length_in_the_figures_too) {
  void* const p = heap.malloc(100'000);
  const std::size_t old = heap.usable_size(p);
  EXPECT_EQ(heap.stats().live_bytes, old);
  ASSERT_TRUE(heap.resize(p, old, 1'000'000));
  EXPECT_EQ(heap.usable_size(p), bits::align_up(1'000'000, page_size));
  EXPECT_EQ(heap.stats().live_bytes, heap.usable_size(p));
  // By less than half nothing changes, so that a length that goes up and down takes no time.
  ASSERT_TRUE(heap.resize(p, heap.usable_size(p), 600'000));
  EXPECT_EQ(heap.usable_size(p), bits::align_up(1'000'000, page_size));
  ASSERT_TRUE(heap.resize(p, heap.usable_size(p), 50'000));
  EXPECT_EQ(heap.usable_size(p), bits::align_up(50'000, page_size));
  EXPECT_EQ(heap.stats().live_bytes, heap.usable_size(p));
  EXPECT_EQ(heap.stats().pages_in_use * page_size, heap.usable_size(p));
  EXPECT_FALSE(heap.resize(p, heap.usable_size(p), 20'000)) << "that is another kind";
  EXPECT_FALSE(heap.resize(p, heap.usable_size(p), ~std::size_t{0}));
  // What pointed into the pages that went is told.
  auto* const tail = static_cast<std::byte*>(p) + 500'000;
  EXPECT_EQ(heap.free(tail), free_status::not_allocated);
  EXPECT_EQ(heap.usable_size(tail), 0u);
  EXPECT_EQ(heap.free(p), free_status::ok);
  EXPECT_EQ(heap.free(p), free_status::double_free);
  EXPECT_FALSE(heap.resize(p, old, 1'000'000)) << "no live object";
  EXPECT_EQ(heap.stats().live_bytes, 0u);
}

TEST_F(host_heap_large, keep_their_mark_when_they_change_their_length) {
  void* const p = heap.malloc(100'000);
  void* const q = heap.malloc(3'000'000);
  EXPECT_EQ(heap.mark(p), mark_status::marked);
  EXPECT_EQ(heap.mark(q), mark_status::marked);
  ASSERT_TRUE(heap.resize(q, heap.usable_size(q), 1'000'000));
  ASSERT_TRUE(heap.resize(q, heap.usable_size(q), 2'000'000));
  EXPECT_EQ(heap.mark(q), mark_status::again);
  const sweep_report found = heap.sweep();
  EXPECT_EQ(found.kept.objects, 2u);
  EXPECT_EQ(found.kept.bytes, heap.usable_size(p) + heap.usable_size(q));
  EXPECT_EQ(heap.stats().live_bytes, found.kept.bytes);
}

TEST_F(host_heap_large, are_born_anew_when_they_change_their_length_between_mark_and_sweep) {
  void* const root = heap.malloc(100);
  void* const p = heap.malloc(100'000);
  EXPECT_EQ(heap.mark(root), mark_status::marked);
  ASSERT_TRUE(heap.resize(p, heap.usable_size(p), 400'000));
  EXPECT_EQ(heap.sweep().leaked.objects, 0u);
  EXPECT_EQ(heap.mark(root), mark_status::marked);
  EXPECT_EQ(heap.sweep().leaked.objects, 1u);
}

TEST_F(host_heap_large, whose_new_length_cannot_be_cost_nothing) {
  void* const p = heap.malloc(100'000);
  EXPECT_EQ(heap.free(heap.malloc(100'000)), free_status::ok);
  const std::size_t kept = heap.stats().free_pages;
  EXPECT_FALSE(heap.resize(p, heap.usable_size(p), region.bytes() + 1));
  EXPECT_FALSE(heap.resize(p, heap.usable_size(p), SIZE_MAX));
  EXPECT_EQ(heap.stats().free_pages, kept);
  EXPECT_EQ(heap.free(p), free_status::ok);
}

TEST_F(host_heap_large, are_found_while_another_thread_changes_their_length) {
  void* const p = heap.malloc(1'000'000);
  std::atomic<bool> done{false};
  std::thread other([&] {
    for (int i = 0; i < 50'000; ++i) {
      EXPECT_TRUE(heap.resize(p, heap.usable_size(p), 400'000));
      EXPECT_TRUE(heap.resize(p, heap.usable_size(p), 1'000'000));
    }
    done = true;
  });
  const auto* inside = static_cast<const std::byte*>(p) + 300'000;
  unsigned lost = 0;
  while (!done) {
    const std::size_t bytes = heap.usable_size(p);
    lost += bytes < 400'000 || bytes > 1'000'000 + page_size;
    lost += heap.contents_at(inside) != contents::no_pointers;
  }
  other.join();
  EXPECT_EQ(lost, 0u);
  EXPECT_EQ(heap.free(p), free_status::ok);
}

}  // namespace
