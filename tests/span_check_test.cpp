#include "host/span_check.hpp"

#include <gtest/gtest.h>
#include <cstring>
#include <random>
#include <vector>

#include "host/mcache.hpp"
#include "host/mcentral.hpp"
#include "host/mheap.hpp"
#include "tests/host_region.hpp"

namespace {

using namespace warpheap;

alignas(page_size) std::byte memory[4 * page_size];

TEST(span_check, sound_spans_of_all_classes_pass) {
  std::mt19937 random(3);
  for (unsigned c = 1; c < num_classes; ++c) {
    mspan s;
    // The record alone: no slot is touched.
    s.init(memory, host_span_pages(c), make_span_class(c, true));
    EXPECT_EQ(span_error(s), nullptr) << c;
    ASSERT_TRUE(s.enter());
    for (unsigned i = 0; i < s.nelems(); ++i) {
      std::byte* p = s.take();
      if (p == nullptr) {
        ASSERT_TRUE(s.advance());
        p = s.take();
      }
      ASSERT_EQ(span_error(s), nullptr) << c << ", after " << i;
      if (random() % 2 == 0) {
        ASSERT_TRUE(s.free_own_slot(s.slot_of(static_cast<std::size_t>(p - s.first()))));
      }
      ASSERT_EQ(span_error(s), nullptr) << c << ", after " << i;
    }
    s.leave();
    EXPECT_EQ(span_error(s), nullptr) << c;
  }
}

TEST(span_check, broken_records_are_told) {
  mspan s;
  const auto fresh = [&] { s.init(memory, 1, make_span_class(1, true)); };  // 8 bytes
  fresh();
  ASSERT_EQ(s.nelems(), 1024u);
  s.set_slots(memory, 1, 16, 1024);
  EXPECT_STREQ(span_error(s), "s.nelems does not fit the span");
  s.set_slots(memory, 1, 8, 0);
  EXPECT_STREQ(span_error(s), "s.nelems does not fit the span");
  fresh();
  s.set_ready_word(3, 1);
  EXPECT_STREQ(span_error(s), "s.allocCount > s.nelems");
  s.init(memory, 2, make_span_class(5, true));  // 48 bytes: 341 slots, 21 in the last word
  ASSERT_EQ(s.words(), 6u);
  s.set_free_word(5, bits::low_mask(21));
  EXPECT_STREQ(span_error(s), "freeIndex is not valid");
  s.set_free_word(5, ~bits::low_mask(21));
  EXPECT_EQ(span_error(s), nullptr);
  s.set_ready_word(5, std::uint64_t{1} << 21);
  EXPECT_STREQ(span_error(s), "freeIndex is not valid");
  s.set_ready_word(5, 0);
  // What says where the slots end lies behind the words; with all of the last word, slots would be
  // handed out that lie past the span.
  auto* const words = static_cast<std::byte*>(const_cast<void*>(s.ready_words()));
  std::byte* const behind = words + mspan::max_words * sizeof(std::uint64_t);
  std::uint64_t past = s.past_last();
  ASSERT_EQ(std::memcmp(behind, &past, sizeof past), 0);
  past = 0;
  std::memcpy(behind, &past, sizeof past);
  EXPECT_STREQ(span_error(s), "s.nelems does not fit the span");
  fresh();
  s.set_current_word(16);
  EXPECT_STREQ(span_error(s), "s.freeindex > s.nelems");
}

struct span_check_death_test : ::testing::Test {
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  test::host_region region{std::size_t{64} << 20};
  mheap heap{region.base(), region.bytes(), region.source()};
  mcentral_set central{heap};
  mcache cache{heap, central};

  /// The span that the cache gets next, broken by f.
  template <class F>
  void give_broken(F&& f) {
    const unsigned sc = make_span_class(1, true);
    page_stock stock;
    mspan* s = heap.alloc_span(host_span_pages(1), sc, span_status::of(&cache, sc), stock);
    s->set_phase(heap.sweepgen(), sweep_phase::cached);
    ASSERT_TRUE(s->enter());
    ASSERT_NE(s->take(), nullptr);
    s->leave();
    central[sc].uncache_span(s);
    f(*s);
  }
};

// The dump has the record's words; the message is the last line.
TEST_F(span_check_death_test, a_refill_aborts_with_a_dump) {
  give_broken([](mspan& s) { s.set_ready_word(3, 5); });
  EXPECT_DEATH(
      cache.alloc(make_span_class(1, true)),
      "slots 1024 of 8 bytes(.|\n)*word 3: ready 0000000000000005 free ffffffffffffffff(.|\n)*"
      "fatal: s.allocCount > s.nelems");
}

TEST_F(span_check_death_test, each_message) {
  const auto alloc = [&] { (void)cache.alloc(make_span_class(1, true)); };
  mspan* broken = nullptr;
  give_broken([&](mspan& s) { broken = &s; });
  ASSERT_NE(broken, nullptr);
  broken->set_slots(broken->base(), broken->npages(), 8, 1025);
  EXPECT_DEATH(alloc(), "s.nelems does not fit the span");
  broken->set_slots(broken->base(), broken->npages(), 8, 1000);
  broken->set_free_word(15, 0);
  EXPECT_DEATH(alloc(), "freeIndex is not valid");
  broken->set_slots(broken->base(), broken->npages(), 8, 1024);
  broken->set_free_word(15, ~std::uint64_t{0});
  broken->set_current_word(99);
  EXPECT_DEATH(alloc(), "s.freeindex > s.nelems");
}

// A span that a thread keeps for its next objects lost its free bits: nothing else that a check of
// the record sees, and no slot to be taken.
TEST_F(span_check_death_test, a_kept_span_without_free_slots) {
  const unsigned size_class = size_to_class(1024);
  const unsigned sc = make_span_class(size_class, true);
  std::vector<std::byte*> all(host_span_objects(size_class));
  for (std::byte*& p : all) p = static_cast<std::byte*>(cache.alloc(sc));
  mspan* const kept = heap.owner_at(all.front()).span();
  ASSERT_NE(cache.alloc(sc), nullptr);  // from the next span: the first is nobody's
  ASSERT_TRUE(cache.adopt(kept, kept->status()));
  for (std::byte* p : all) {
    ASSERT_TRUE(
        cache.free_own_slot(kept, kept->slot_of(static_cast<std::size_t>(p - kept->first()))));
  }
  kept->set_ready_word(0, 0);
  kept->set_free_word(0, ~bits::low_mask(kept->nelems()));
  ASSERT_EQ(span_error(*kept), nullptr);
  for (std::size_t i = 1; i < all.size(); ++i) ASSERT_NE(cache.alloc(sc), nullptr);
  EXPECT_DEATH((void)cache.alloc(sc),
               "warpheap: span (.|\n)*fatal: s.allocCount != s.nelems && freeIndex == s.nelems");
}

}  // namespace
