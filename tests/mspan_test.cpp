#include "host/mspan.hpp"

#include <gtest/gtest.h>
#include <random>
#include <vector>

#include "host/mcache.hpp"
#include "tests/vectors.hpp"

namespace {

using namespace warpheap;
using warpheap::test::hex;
using warpheap::test::load_cases;

std::byte* const some_base = reinterpret_cast<std::byte*>(std::uintptr_t{0x10000000});

/// A span with the geometry of a case. 63 slots of 128 bytes, 65 of 112 and the like are no class
/// of the heap, so the record is set up from the number of slots.
void set_up(mspan& s, unsigned nelems, std::size_t elemsize, const std::string& alloc_bits) {
  s.set_slots(some_base, 1, elemsize, nelems);
  for (unsigned w = 0; w * 16 < alloc_bits.size(); ++w) {
    std::uint64_t allocated = 0;
    for (unsigned b = 0; b < 8; ++b) {
      const std::string byte = alloc_bits.substr(w * 16 + b * 2, 2);
      allocated |= std::stoull(byte, nullptr, 16) << (8 * b);
    }
    s.set_free_word(w, ~allocated);
  }
  s.rewind();
}

TEST(mspan, go_next_free) {
  for (const auto& c : load_cases("span.json")) {
    mspan s;
    set_up(s, c["nelems"], c["elemsize"], c["allocBits_bytes_hex"]);
    for (const auto& step : c["seq[via(0=nextFreeFast,1=nextFreeIndex),index,freeindex_after,"
                              "allocCache_after]"]) {
      unsigned via = 0;
      unsigned index = s.next_free_fast();
      if (index == mspan::no_index) {
        index = s.next_free_index();
        via = index == s.nelems() ? 2 : 1;
      }
      ASSERT_EQ(via, step[0].get<unsigned>()) << step.dump();
      ASSERT_EQ(index, step[1].get<unsigned>()) << step.dump();
      ASSERT_EQ(s.freeindex(), step[2].get<unsigned>()) << step.dump();
      ASSERT_EQ(s.alloc_cache(), hex(step[3])) << step.dump();
    }
  }
}

TEST(mspan, drains_every_class_and_finds_again_what_was_freed) {
  std::mt19937 random(7);
  for (unsigned sc = 2; sc < host_span_classes; ++sc) {
    mspan s;
    const unsigned c = host_span_size_class(sc);
    s.init(some_base, class_to_pages(c), sc);
    EXPECT_EQ(s.nelems(), class_to_objects(c));
    EXPECT_LE(s.limit(), s.base() + s.npages() * page_size);
    EXPECT_TRUE(s.all_free());
    for (unsigned want = 0; want < s.nelems(); ++want) {
      unsigned i = s.next_free_fast();
      if (i == mspan::no_index) i = s.next_free_index();
      ASSERT_EQ(i, want);
      ASSERT_EQ(s.slot_of(static_cast<std::size_t>(s.slot_address(i) - s.base())), i);
      s.take(i);
    }
    EXPECT_EQ(s.next_free_fast(), mspan::no_index);
    EXPECT_EQ(s.next_free_index(), s.nelems());
    EXPECT_FALSE(s.any_free());
    std::vector<unsigned> freed;
    for (unsigned i = 0; i < s.nelems(); ++i) {
      if (random() % 3 != 0) continue;
      EXPECT_EQ(s.give(i) >> (i % 64) & 1, 0u);
      EXPECT_EQ(s.give(i) >> (i % 64) & 1, 1u);
      freed.push_back(i);
    }
    EXPECT_EQ(s.count_free(), freed.size());
    s.rewind();
    for (unsigned want : freed) {
      unsigned i = s.next_free_fast();
      if (i == mspan::no_index) i = s.next_free_index();
      ASSERT_EQ(i, want);
      s.take(i);
    }
    EXPECT_FALSE(s.any_free());
  }
}

TEST(mspan, large_span_is_one_taken_object) {
  mspan s;
  s.init(some_base, 20000, make_span_class(0, true));
  EXPECT_EQ(s.nelems(), 1u);
  EXPECT_EQ(s.elemsize(), 20000 * page_size);
  EXPECT_FALSE(s.any_free());
  EXPECT_EQ(s.limit(), s.base() + 20000 * page_size);
}

TEST(mspan, states_change_only_through_dead) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  mspan s;
  for (const span_state used : {span_state::in_use, span_state::manual}) {
    EXPECT_DEATH(s.set_state(span_state::dead), "bad span state change");
    s.set_state(used);
    EXPECT_DEATH(s.set_state(used), "bad span state change");
    s.set_state(span_state::dead);
  }
  s.set_state(span_state::in_use);
  EXPECT_DEATH(s.set_state(span_state::manual), "bad span state change");
}

TEST(mspan, sweep_phases) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (std::uint32_t h : {4u, 0x7ffffffeu, 0xfffffffeu, 0u, 2u}) {
    mspan s;
    s.reset_phase(h);
    EXPECT_EQ(s.phase(h), sweep_phase::swept);
    EXPECT_EQ(s.phase(h + 2), sweep_phase::unswept);
    s.set_phase(h, sweep_phase::cached);
    EXPECT_EQ(s.phase(h), sweep_phase::cached);
    EXPECT_EQ(s.phase(h + 2), sweep_phase::stale_cached);
    s.set_phase(h, sweep_phase::swept);
    s.set_phase(h + 2, sweep_phase::sweeping);
    s.set_phase(h + 2, sweep_phase::swept);
    s.set_phase(h + 2, sweep_phase::cached);
    s.set_phase(h + 4, sweep_phase::sweeping);
    EXPECT_EQ(s.phase(h + 4), sweep_phase::sweeping);
  }
  mspan s;
  s.reset_phase(4);
  EXPECT_DEATH(s.set_phase(4, sweep_phase::sweeping), "bad sweepgen change");
  EXPECT_DEATH(s.set_phase(6, sweep_phase::cached), "bad sweepgen change");
  EXPECT_DEATH(s.set_phase(4, sweep_phase::unswept), "bad sweepgen change");
  EXPECT_DEATH(s.phase(100), "out of step");
}

TEST(mspan, taking_a_taken_slot_aborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  mspan s;
  s.init(some_base, 1, make_span_class(5, true));
  s.take(3);
  EXPECT_DEATH(s.take(3), "freeIndex is not valid");
}

TEST(span_list, keeps_order_and_refuses_misuse) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  mspan s[4];
  span_list list, other;
  for (mspan& x : s) list.insert_back(&x);
  EXPECT_EQ(list.size(), 4u);
  EXPECT_DEATH(list.insert_back(&s[1]), "span is in a list");
  list.remove(&s[2]);
  EXPECT_DEATH(list.remove(&s[2]), "span is not in this list");
  other.insert_back(&s[2]);
  EXPECT_EQ(list.pop_front(), &s[0]);
  EXPECT_EQ(list.first(), &s[1]);
  EXPECT_EQ(span_list::next(&s[1]), &s[3]);
  EXPECT_EQ(list.pop_front(), &s[1]);
  EXPECT_EQ(list.pop_front(), &s[3]);
  EXPECT_EQ(list.pop_front(), nullptr);
  EXPECT_TRUE(list.empty());
}

TEST(tiny_rule, go_tiny) {
  for (const auto& c : load_cases("tiny.json")) {
    tiny_rule rule;
    for (const auto& step :
         c["seq[size,block_is_new_span_slot,offset_in_block,cur_tiny_is_this_block,"
           "tinyoffset_after]"]) {
      const unsigned n = step[0];
      unsigned offset = rule.place(n);
      const bool fresh = offset == tiny_rule::none;
      bool kept = true;
      if (fresh) {
        offset = 0;
        kept = rule.keep_new(n);
      }
      ASSERT_EQ(fresh, step[1].get<int>() != 0) << step.dump();
      ASSERT_EQ(offset, step[2].get<unsigned>()) << step.dump();
      ASSERT_EQ(kept, step[3].get<int>() != 0) << step.dump();
      ASSERT_EQ(rule.offset(), step[4].get<unsigned>()) << step.dump();
    }
  }
}

TEST(tiny_mask, frontier_and_extents) {
  std::uint32_t m = tiny_mask::live(0) | tiny_mask::started(0) | tiny_mask::frontier(3);
  EXPECT_EQ(tiny_mask::extent(m, 0), 3u);
  m = tiny_mask::with_object(m, 4, 5);  // 3 is padding
  EXPECT_EQ(tiny_mask::extent(m, 0), 4u);
  EXPECT_EQ(tiny_mask::extent(m, 4), 5u);
  EXPECT_FALSE(tiny_mask::is_live(m, 9));  // the frontier
  EXPECT_FALSE(tiny_mask::is_live(m, 3));
  m &= ~tiny_mask::live(0) & ~tiny_mask::live(4);
  EXPECT_FALSE(tiny_mask::holds_nothing(m));  // open
  EXPECT_TRUE(tiny_mask::holds_nothing(m & ~tiny_mask::frontier_of(m)));
  m = tiny_mask::with_object(m, 15, 1);
  EXPECT_TRUE(tiny_mask::is_live(m, 15));
  EXPECT_EQ(tiny_mask::frontier_of(m), 0u);  // full, hence closed
  EXPECT_EQ(tiny_mask::extent(m, 15), 1u);
}

}  // namespace
