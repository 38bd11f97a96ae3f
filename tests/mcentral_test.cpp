#include "host/mcentral.hpp"

#include <gtest/gtest.h>
#include <random>
#include <utility>
#include <vector>

#include "host/mcache.hpp"
#include "host/mheap.hpp"
#include "tests/host_region.hpp"
#include "tests/test_scale.hpp"

namespace {

using namespace warpheap;

struct mcentral_test : ::testing::Test {
  test::host_region region{std::size_t{64} << 20};
  mheap heap{region.base(), region.bytes(), region.source()};
  mcentral_set central{heap};
  page_stock stock;
  alignas(64) char owner[64];

  mspan* new_span(unsigned sc) {
    mspan* s = heap.alloc_span(host_span_pages(host_span_size_class(sc)), sc,
                               span_status::of(owner, sc), stock);
    if (s != nullptr) s->set_phase(heap.sweepgen(), sweep_phase::cached);
    return s;
  }
  static void take(mspan* s, unsigned n) {
    ASSERT_TRUE(s->enter());
    while (n-- > 0) {
      if (s->take() == nullptr) {
        ASSERT_TRUE(s->advance());
        ++n;
      }
    }
    s->leave();
  }
  void expect_sets(unsigned sc, std::size_t partial, std::size_t empty) {
    const auto sizes = central[sc].set_sizes();
    EXPECT_EQ(sizes.partial, partial);
    EXPECT_EQ(sizes.empty, empty);
  }
};

const unsigned sc64 = make_span_class(6, true);  // 256 slots of 64 bytes in two pages
constexpr unsigned pages64 = host_span_pages(6);

TEST_F(mcentral_test, has_nothing_at_first_and_shares_no_cache_line) {
  static_assert(alignof(mcentral) == 64 && sizeof(mcentral) % 64 == 0);
  for (unsigned sc = 0; sc < host_span_classes; ++sc) {
    EXPECT_EQ(central[sc].cache_span(owner), nullptr);
    expect_sets(sc, 0, 0);
  }
}

TEST_F(mcentral_test, hands_a_partial_span_out_once) {
  mspan* s = new_span(sc64);
  take(s, 5);
  central[sc64].uncache_span(s);
  expect_sets(sc64, 1, 0);
  EXPECT_EQ(s->place(), span_place::partial);
  EXPECT_EQ(s->phase(heap.sweepgen()), sweep_phase::swept);
  EXPECT_EQ(central[sc64].cache_span(owner), s);
  EXPECT_EQ(s->phase(heap.sweepgen()), sweep_phase::cached);
  EXPECT_TRUE(s->status().is_owned_by(owner));
  EXPECT_EQ(central[sc64].cache_span(owner), nullptr);
  ASSERT_TRUE(s->enter());
  EXPECT_EQ(s->take(), s->slot_address(5));
}

TEST_F(mcentral_test, full_span_is_nobodys_then_partial_then_empty_then_goes) {
  mspan* s = new_span(sc64);
  take(s, s->nelems());
  central[sc64].uncache_span(s);
  expect_sets(sc64, 0, 0);
  EXPECT_EQ(s->place(), span_place::full);
  EXPECT_EQ(central[sc64].cache_span(owner), nullptr);
  EXPECT_EQ(s->free_remote(70), remote_free::left_full);
  central[sc64].take_full(s);
  expect_sets(sc64, 1, 0);
  EXPECT_EQ(s->free_remote(70), remote_free::was_free);
  for (unsigned i = 0; i < s->nelems(); ++i) {
    central[sc64].became_empty(s);  // not yet
    EXPECT_EQ(s->free_remote(i), i == 70 ? remote_free::was_free : remote_free::done);
  }
  expect_sets(sc64, 1, 0);
  central[sc64].became_empty(s);
  expect_sets(sc64, 0, 1);
  EXPECT_EQ(heap.stats().spans, 1u);
  EXPECT_EQ(central[sc64].release_empty(), pages64);
  EXPECT_EQ(heap.stats().spans, 0u);
  EXPECT_EQ(heap.stats().pages_in_use, 0u);
  EXPECT_EQ(s->state(), span_state::dead);
  EXPECT_EQ(s->free_remote(70), remote_free::was_free);  // a stale pointer
}

TEST_F(mcentral_test, span_marked_while_it_is_given_up_is_partial) {
  mspan* s = new_span(sc64);
  take(s, s->nelems());
  EXPECT_EQ(s->free_remote(7), remote_free::done);
  central[sc64].uncache_span(s);
  expect_sets(sc64, 1, 0);
  EXPECT_EQ(central[sc64].cache_span(owner), s);
  EXPECT_TRUE(s->status().is_pending());
  EXPECT_FALSE(s->has_free());
  EXPECT_EQ(central.collect(s), 0u);
  EXPECT_TRUE(s->has_free());
}

TEST_F(mcentral_test, keeps_few_empty_spans) {
  std::vector<mspan*> spans;
  for (int i = 0; i < 40; ++i) spans.push_back(new_span(sc64));
  for (mspan* s : spans) central[sc64].uncache_span(s);
  constexpr std::size_t most = mcentral::max_empty_pages / pages64;
  expect_sets(sc64, 0, most);
  EXPECT_EQ(heap.stats().spans, most);
  for (std::size_t i = 0; i < most; ++i) {
    EXPECT_NE(central[sc64].cache_span(owner), nullptr);
  }
  EXPECT_EQ(central[sc64].cache_span(owner), nullptr);
}

TEST_F(mcentral_test, late_call_for_a_span_of_another_class_changes_nothing) {
  mspan* s = new_span(sc64);
  take(s, 1);
  central[sc64].uncache_span(s);
  EXPECT_EQ(s->free_remote(0), remote_free::done);
  for (unsigned sc = 0; sc < host_span_classes; ++sc) {
    if (sc == sc64) continue;
    central[sc].became_empty(s);
    central[sc].take_full(s);
  }
  expect_sets(sc64, 1, 0);
  mspan* cached = central[sc64].cache_span(owner);
  central[sc64].became_empty(cached);
  central[sc64].take_full(cached);
  EXPECT_EQ(cached->place(), span_place::cached);
  expect_sets(sc64, 0, 0);
}

TEST_F(mcentral_test, refills_a_cache_as_often_as_spans_are_needed) {
  mcache cache(heap, central);
  const unsigned n = host_span_objects(6);
  for (unsigned i = 0; i < 3 * n; ++i) ASSERT_NE(cache.alloc(sc64), nullptr);
  EXPECT_EQ(cache.counters.refills.get(), 3u);
  cache.flush();
  expect_sets(sc64, 0, 0);
  EXPECT_EQ(heap.stats().spans, 3u);  // full
}

/// Two caches, one of which frees what the other has allocated.
struct two_caches : mcentral_test {
  static constexpr unsigned size_class = size_to_class(8192);
  static constexpr unsigned slots = host_span_objects(size_class);
  const unsigned sc = make_span_class(size_class, true);
  mcache a{heap, central}, b{heap, central};

  std::vector<void*> alloc(mcache& c, unsigned n) {
    std::vector<void*> made;
    while (made.size() < n) made.push_back(c.alloc(sc));
    return made;
  }
  /// By the cache that owns the span then, if it was full.
  void free(mcache& c, void* p) {
    mspan* const s = heap.owner_at(p).span();
    const span_status seen = s->status();
    if (seen.place() == span_place::full) {
      ASSERT_TRUE(c.adopt(s, seen));
    }
    ASSERT_TRUE(s->status().is_owned_by(&c));
    ASSERT_TRUE(c.free_own_slot(
        s, s->slot_of(static_cast<std::size_t>(static_cast<std::byte*>(p) - s->first()))));
  }
  /// Fills spans, and frees so many objects in each but the current one.
  void make_others(mcache& c, unsigned spans, unsigned freed) {
    const std::vector<void*> all = alloc(c, spans * slots + 1);
    for (unsigned k = 0; k < spans; ++k) {
      for (unsigned i = 0; i < freed; ++i) free(c, all[k * slots + i]);
    }
  }
  void TearDown() override {
    a.flush();
    b.flush();
  }
};

TEST_F(two_caches, one_with_many_free_slots_gives_a_span_for_each_that_it_takes_over) {
  make_others(a, 4, slots / 4);
  const std::vector<void*> of_b = alloc(b, 3 * slots);
  EXPECT_NE(b.alloc(sc), nullptr);
  expect_sets(sc, 0, 0);
  free(a, of_b[0]);
  free(a, of_b[slots]);
  expect_sets(sc, 2, 0);
  free(a, of_b[1]);  // in a span that is its own by now
  expect_sets(sc, 2, 0);
  // The other has these slots before it makes a span.
  const std::size_t spans = heap.stats().spans;
  alloc(b, slots - 1 + slots / 4 + slots / 4);
  EXPECT_EQ(heap.stats().spans, spans);
  expect_sets(sc, 0, 0);
  EXPECT_NE(b.alloc(sc), nullptr);
  EXPECT_EQ(heap.stats().spans, spans + 1);
}

TEST_F(two_caches, one_with_few_free_slots_gives_none) {
  make_others(a, 4, slots / 4 - 1);
  const std::vector<void*> of_b = alloc(b, 2 * slots + 1);
  free(a, of_b[0]);
  free(a, of_b[slots]);
  expect_sets(sc, 0, 0);
}

TEST_F(two_caches, one_that_has_no_other_span_keeps_what_it_takes_over) {
  const std::vector<void*> of_b = alloc(b, slots + 1);
  for (unsigned i = 0; i < slots - 1; ++i) free(a, of_b[i]);
  expect_sets(sc, 0, 0);
}

TEST_F(two_caches, none_is_given_for_a_span_that_was_its_own) {
  make_others(a, 4, slots / 4);
  make_others(a, 4, slots / 4);
  expect_sets(sc, 0, 0);
}

TEST(mheap, every_page_of_a_span_leads_to_it) {
  test::host_region region(std::size_t{512} << 20);
  mheap heap(region.base(), region.bytes(), region.source());
  page_stock stock;
  std::vector<mspan*> spans;
  for (unsigned i = 0; i < 300; ++i) {
    const unsigned c = i % num_classes;
    spans.push_back(c == 0 ? heap.alloc_large(i + 1, 1, 1, stock)
                           : heap.alloc_span(host_span_pages(c), make_span_class(c, true),
                                             span_status::in(span_place::none, 2), stock));
  }
  // 200 MiB in one span, over arena bounds.
  spans.push_back(heap.alloc_large(25600, 1, 1, stock));
  std::size_t pages = 0;
  for (mspan* s : spans) {
    ASSERT_NE(s, nullptr);
    pages += s->npages();
    const auto first = static_cast<std::size_t>(s->base() - heap.base()) / page_size;
    for (std::size_t i = 0; i < s->npages(); ++i) ASSERT_EQ(heap.owner(first + i).span(), s);
  }
  EXPECT_EQ(heap.stats().pages_in_use, pages);
  std::size_t counted = 0;
  heap.for_each_span([&](mspan& s) { counted += s.npages(); });
  EXPECT_EQ(counted, pages);
  for (mspan* s : spans) heap.free_span(s);
  heap.flush(stock);
  EXPECT_EQ(heap.stats().pages_in_use, 0u);
  EXPECT_EQ(heap.stats().spans, 0u);
  EXPECT_EQ(heap.stats().free_pages, heap.stats().grown_pages);
}

TEST(mheap, every_byte_of_a_thousand_random_spans_leads_to_it) {
  test::host_region region(std::size_t{512} << 20);
  mheap heap(region.base(), region.bytes(), region.source());
  page_stock stock;
  std::mt19937 random(17);
  std::vector<mspan*> spans;
  while (spans.size() < 1000) {
    const unsigned c = random() % num_classes;
    spans.push_back(c == 0 ? heap.alloc_large(1 + random() % 40, 1, 1, stock)
                           : heap.alloc_span(host_span_pages(c), make_span_class(c, true),
                                             span_status::in(span_place::none, 2), stock));
    ASSERT_NE(spans.back(), nullptr);
    if (random() % 4 != 0) continue;  // there are holes
    std::swap(spans[random() % spans.size()], spans.back());
    heap.free_span(spans.back());
    spans.pop_back();
  }
  const std::size_t step = warpheap::testing::sanitized ? 509 : 1;
  for (const mspan* s : spans) {
    const std::uintptr_t mine = page_owner::of(const_cast<mspan*>(s)).bits();
    const std::byte* const end = s->base() + s->npages() * page_size;
    std::size_t others = 0;
    for (const std::byte* p = s->base(); p < end; p += step)
      others += heap.owner_at(p).bits() != mine;
    ASSERT_EQ(others, 0u);
    ASSERT_EQ(heap.owner_at(end - 1).bits(), mine);
    ASSERT_NE(heap.owner_at(s->base() - 1).bits(), mine);
    ASSERT_NE(heap.owner_at(end).bits(), mine);
  }
}

TEST(mheap, grows_by_whole_chunks_and_up_to_the_last_page) {
  constexpr std::size_t pages = 3 * chunk_pages + 100;
  test::host_region region(pages * page_size);
  mheap heap(region.base(), region.bytes(), region.source());
  page_stock stock;
  EXPECT_EQ(heap.stats().grown_pages, 0u);
  mspan* a = heap.alloc_large(1, 1, 1, stock);
  // The last chunk has 100 pages.
  EXPECT_EQ(a->base(), region.base() + 3 * chunk_bytes);
  EXPECT_EQ(heap.stats().grown_pages, 100u);
  mspan* b = heap.alloc_large(1, 1, 1, stock);
  EXPECT_EQ(b->base(), a->limit());
  mspan* c = heap.alloc_large(chunk_pages, 1, 1, stock);
  EXPECT_EQ(c->base(), region.base() + 2 * chunk_bytes);
  EXPECT_EQ(heap.stats().grown_pages, 100u + chunk_pages);
  // All that is left in one run, none of it whole chunks.
  heap.free_span(c);
  mspan* d = heap.alloc_large(3 * chunk_pages - 1, 1, 1, stock);
  ASSERT_NE(d, nullptr);
  EXPECT_EQ(d->base(), region.base() + page_size);
  mspan* e = heap.alloc_large(98, 1, 1, stock);
  ASSERT_NE(e, nullptr);
  EXPECT_EQ(e->limit(), region.base() + region.bytes());
  EXPECT_EQ(heap.alloc_large(1, 1, 1, stock), nullptr);
  EXPECT_EQ(heap.stats().free_pages, 0u);
}

TEST(mheap, refused_memory_loses_no_page) {
  test::host_region region(std::size_t{8} << 20);
  mheap heap(region.base(), region.bytes(), region.source());
  page_stock stock;
  region.refuse = true;
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(heap.alloc_large(100, 1, 1, stock), nullptr);
    EXPECT_EQ(heap.alloc_large(100, 16, 1, stock), nullptr);
    EXPECT_EQ(heap.alloc_span(1, sc64, span_status::in(span_place::none, 2), stock), nullptr);
    EXPECT_EQ(heap.take_device_pages(1, 50).count, 0u);
  }
  region.refuse = false;
  EXPECT_NE(heap.alloc_large(1023, 1, 1, stock), nullptr);
}

TEST(mheap, rejects_bad_regions) {
  test::host_region region(std::size_t{1} << 20);
  EXPECT_THROW(mheap(nullptr, 1 << 20, {}), std::invalid_argument);
  EXPECT_THROW(mheap(region.base() + 1, 1 << 20, {}), std::invalid_argument);
  EXPECT_THROW(mheap(region.base(), 2 * page_size - 1, {}), std::invalid_argument);
}

}  // namespace
