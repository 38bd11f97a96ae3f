#include "host/mspan.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <random>
#include <vector>

#include "host/span_list.hpp"
#include "tests/vectors.hpp"

namespace {

using namespace warpheap;
using warpheap::test::hex;
using warpheap::test::load_cases;

std::byte* const some_base = reinterpret_cast<std::byte*>(std::uintptr_t{0x10000000});

/// Words of a case, bit = 1: free. Bits past the slots are junk, as they are in Go.
std::vector<std::uint64_t> free_words(const std::string& alloc_bits) {
  std::vector<std::uint64_t> words;
  for (std::size_t at = 0; at < alloc_bits.size(); at += 16) {
    std::uint64_t allocated = 0;
    for (unsigned b = 0; b < 8; ++b) {
      const std::string byte = alloc_bits.substr(at + b * 2, 2);
      allocated |= std::stoull(byte, nullptr, 16) << (8 * b);
    }
    words.push_back(~allocated);
  }
  return words;
}

TEST(free_cursor, go_next_free) {
  for (const auto& c : load_cases("span.json")) {
    const std::vector<std::uint64_t> words = free_words(c["allocBits_bytes_hex"]);
    const unsigned nelems = c["nelems"];
    free_cursor cursor(nelems, [&](unsigned w) { return words.at(w); });
    for (const auto& step : c["seq[via(0=nextFreeFast,1=nextFreeIndex),index,freeindex_after,"
                              "allocCache_after]"]) {
      unsigned via = 0;
      unsigned index = cursor.next_free_fast();
      if (index == cursor.no_index) {
        index = cursor.next_free_index();
        via = index == nelems ? 2 : 1;
      }
      ASSERT_EQ(via, step[0].get<unsigned>()) << step.dump();
      ASSERT_EQ(index, step[1].get<unsigned>()) << step.dump();
      ASSERT_EQ(cursor.freeindex(), step[2].get<unsigned>()) << step.dump();
      ASSERT_EQ(cursor.alloc_cache(), hex(step[3])) << step.dump();
    }
  }
}

// Go's rule in words: slots in order, each free one once; the fast way stops where the slot after
// the next one would need another word.
TEST(free_cursor, walks_any_bits_in_order) {
  std::mt19937_64 random(21);
  for (int round = 0; round < 3000; ++round) {
    const unsigned nelems = 1 + random() % (round % 2 == 0 ? 1024 : 130);
    std::vector<std::uint64_t> words((nelems + 63) / 64);
    for (std::uint64_t& word : words) {
      word = random() % 4 == 0 ? 0 : random() % 4 == 0 ? ~std::uint64_t{0} : random();
      if (random() % 2 == 0) word &= random() & random();
    }
    const auto is_free_slot = [&](unsigned i) { return (words[i / 64] >> i % 64 & 1) != 0; };
    free_cursor cursor(nelems, [&](unsigned w) { return words.at(w); });
    for (unsigned from = 0;;) {
      unsigned want = from;
      while (want < nelems && !is_free_slot(want)) ++want;
      const unsigned next = want + 1;
      const bool fast =
          want < nelems && want / 64 == from / 64 && (next % 64 != 0 || next == nelems);
      const unsigned fast_index = cursor.next_free_fast();
      ASSERT_EQ(fast_index, fast ? want : cursor.no_index) << round << " " << from;
      if (!fast) {
        ASSERT_EQ(cursor.next_free_index(), want) << round << " " << from;
      }
      if (want == nelems) break;
      ASSERT_EQ(cursor.freeindex(), next);
      from = next;
    }
    ASSERT_EQ(cursor.freeindex(), nelems);
    ASSERT_EQ(cursor.next(), nelems);
  }
}

/// The slot that the span gives next; nelems when it has none.
unsigned next_slot(mspan& s) {
  std::byte* p = s.take();
  if (p == nullptr && s.advance()) p = s.take();
  return p == nullptr ? s.nelems() : s.slot_of(static_cast<std::size_t>(p - s.first()));
}

TEST(mspan, gives_the_slots_that_the_cursor_of_go_would) {
  for (const auto& c : load_cases("span.json")) {
    const unsigned nelems = c["nelems"];
    const std::vector<std::uint64_t> words = free_words(c["allocBits_bytes_hex"]);
    mspan s;
    s.set_slots(some_base, 1, 8, nelems);
    for (unsigned w = 0; w < s.words(); ++w) {
      s.set_free_word(w, words.at(w) | ~bits::low_mask(nelems - w * 64));
    }
    bool any = s.enter();
    for (const auto& step : c["seq[via(0=nextFreeFast,1=nextFreeIndex),index,freeindex_after,"
                              "allocCache_after]"]) {
      std::byte* p = any ? s.take() : nullptr;
      if (p == nullptr && any && (any = s.advance())) p = s.take();
      ASSERT_EQ(p == nullptr ? nelems : static_cast<unsigned>(p - s.base()) / 8,
                step[1].get<unsigned>())
          << step.dump();
    }
  }
}

TEST(mspan, drains_every_class_and_finds_again_what_was_freed) {
  std::mt19937 random(7);
  for (unsigned sc = 2; sc < host_span_classes; ++sc) {
    mspan s;
    const unsigned c = host_span_size_class(sc);
    s.init(some_base, host_span_pages(c), sc);
    EXPECT_EQ(s.nelems(), host_span_objects(c));
    EXPECT_LE(s.limit(), s.base() + s.npages() * page_size);
    EXPECT_TRUE(s.has_all_free());
    EXPECT_EQ(s.count_free(), s.nelems());
    ASSERT_TRUE(s.enter());
    for (unsigned want = 0; want < s.nelems(); ++want) {
      ASSERT_FALSE(want > 0 && !s.is_free(want));
      ASSERT_EQ(next_slot(s), want);
      ASSERT_FALSE(s.is_free(want));
    }
    EXPECT_EQ(next_slot(s), s.nelems());
    EXPECT_EQ(s.count_free(), 0u);
    EXPECT_FALSE(s.has_free());
    std::vector<unsigned> freed;
    for (unsigned i = 0; i < s.nelems(); ++i) {
      if (random() % 3 != 0) continue;
      EXPECT_TRUE(s.free_own_slot(i));
      EXPECT_FALSE(s.free_own_slot(i));
      freed.push_back(i);
    }
    EXPECT_EQ(s.count_free(), freed.size());
    std::vector<unsigned> taken;
    s.for_each_taken([&](unsigned i) { taken.push_back(i); });
    EXPECT_EQ(taken.size(), s.nelems() - freed.size());
    EXPECT_EQ(s.enter(), !freed.empty());
    for (unsigned want : freed) ASSERT_EQ(next_slot(s), want);
    EXPECT_EQ(s.count_free(), 0u);
  }
}

TEST(mspan, own_free_knows_each_byte_of_every_class) {
  for (unsigned c = 1; c < num_classes; ++c) {
    mspan s;
    s.init(some_base, host_span_pages(c), make_span_class(c, true));
    const std::size_t size = class_to_size(c), color = host_span_color(c);
    ASSERT_EQ(s.first(), some_base + color);
    for (std::size_t at = 0; at < s.npages() * page_size; ++at) {
      if (at >= color) {
        ASSERT_EQ(s.slot_of(at - color), (at - color) / size) << at;
      }
      // All slots are free, the tail's as well.
      ASSERT_FALSE(s.free_own(some_base + at));
      ASSERT_EQ(s.slot_at(some_base + at) < s.nelems(),
                at >= color && (at - color) % size == 0 && (at - color) / size < s.nelems());
    }
    ASSERT_TRUE(s.enter());
    while (next_slot(s) != s.nelems()) {
    }
    for (std::size_t at = 0; at < s.npages() * page_size; ++at) {
      ASSERT_EQ(s.free_own(some_base + at), s.slot_at(some_base + at) < s.nelems()) << at;
    }
    EXPECT_TRUE(s.has_all_free());
    // Not entered, the last slot of a word is left to be looked at.
    ASSERT_TRUE(s.enter());
    while (next_slot(s) != s.nelems()) {
    }
    s.leave();
    for (unsigned i = 0; i < s.nelems(); ++i) {
      const bool last = i % 64 == 63 || i + 1 == s.nelems();
      ASSERT_EQ(s.free_own(s.slot_address(i)), !last);
      if (last) {
        ASSERT_TRUE(s.free_own_slot(i));
      }
    }
    EXPECT_TRUE(s.has_all_free());
  }
}

TEST(mspan, few_slots_at_a_time_are_those_freed_last) {
  for (unsigned c = size_to_class(512); c < num_classes; ++c) {
    if (host_span_objects(c) > 64) continue;
    mspan s;
    s.init(some_base, host_span_pages(c), make_span_class(c, true));
    ASSERT_TRUE(s.enter());
    const auto next = [&] {
      std::byte* p = s.take();
      return p != nullptr || !s.advance() ? p : s.take();
    };
    // What is freed at once comes again: 16 KiB of objects, or two, or one.
    const unsigned bytes = 16 << 10;
    const auto most = static_cast<unsigned>(
        s.elemsize() > bytes ? 1 : std::max<std::size_t>(bytes / s.elemsize(), 2));
    for (unsigned i = 0; i < 100; ++i) {
      std::byte* p = next();
      ASSERT_EQ(p, s.slot_address(i % most)) << s.elemsize();
      ASSERT_FALSE(s.is_free(i % most));
      ASSERT_EQ(s.count_free(), s.nelems() - 1);
      ASSERT_TRUE(s.free_own(p));
      ASSERT_FALSE(s.free_own(p));
    }
    // All of them come once; when those of the first time were kept, the rest at once.
    while (s.sets(0).ready != 0) ASSERT_NE(s.take(), nullptr);
    for (unsigned i = 0; i < s.nelems(); ++i) (void)s.free_own_slot(i);
    ASSERT_TRUE(s.enter());
    std::vector<bool> taken(s.nelems());
    unsigned advances = 0;
    for (;;) {
      std::byte* p = s.take();
      if (p == nullptr) {
        if (!s.advance()) break;
        ++advances;
        continue;
      }
      const unsigned slot = s.slot_of(static_cast<std::size_t>(p - s.first()));
      ASSERT_FALSE(taken[slot]);
      taken[slot] = true;
    }
    EXPECT_EQ(std::count(taken.begin(), taken.end(), true), s.nelems());
    EXPECT_EQ(s.count_free(), 0u);
    EXPECT_EQ(advances, s.nelems() > most ? 1u : 0u);
  }
}

TEST(mspan, frees_of_others_are_collected) {
  mspan s;
  s.init(some_base, 2, make_span_class(5, true));  // 341 slots
  int owner[64];
  s.set_status(span_status::of(owner, s.span_class()));
  ASSERT_TRUE(s.enter());
  while (next_slot(s) != s.nelems()) {
  }
  EXPECT_EQ(s.free_remote(3), remote_free::done);
  EXPECT_EQ(s.free_remote(340), remote_free::done);
  EXPECT_EQ(s.free_remote(3), remote_free::was_free);
  EXPECT_TRUE(s.status().is_pending());
  EXPECT_TRUE(s.status().is_owned_by(owner));
  EXPECT_EQ(s.count_free(), 2u);
  EXPECT_FALSE(s.advance());
  // The owner's free of the same object at the same time.
  EXPECT_TRUE(s.free_own_slot(340));
  std::vector<unsigned> twice;
  s.collect([&](unsigned i) { twice.push_back(i); },
            [](unsigned) {
              ADD_FAILURE();
              return true;
            });
  EXPECT_EQ(twice, std::vector<unsigned>{340});
  EXPECT_EQ(s.seen_status(), reinterpret_cast<std::uintptr_t>(owner));
  EXPECT_EQ(s.free_remote(3), remote_free::was_free);
  EXPECT_EQ(next_slot(s), 340u);  // it was in the last word
  EXPECT_EQ(next_slot(s), 3u);
  EXPECT_EQ(next_slot(s), s.nelems());
  s.set_place(span_place::full);
  EXPECT_EQ(s.free_remote(4), remote_free::left_full);
  EXPECT_EQ(s.free_remote(5), remote_free::done);  // the first one's affair
  span_status seen = span_status::in(span_place::full, s.span_class());
  EXPECT_FALSE(s.exchange_status(seen, span_status::of(owner, s.span_class())));
  EXPECT_TRUE(seen.is_pending());
  EXPECT_EQ(seen.place(), span_place::full);
  EXPECT_TRUE(s.exchange_status(seen, span_status::of(owner, s.span_class())));
}

TEST(mspan, a_slot_freed_twice_at_once_is_given_once) {
  mspan s;
  s.init(some_base, 1, make_span_class(5, true));
  int owner[64];
  s.set_status(span_status::of(owner, s.span_class()));
  ASSERT_TRUE(s.enter());
  while (next_slot(s) != s.nelems()) {
  }
  // Another thread frees 7, and the owner, who does not know, frees it too and makes it ready.
  EXPECT_EQ(s.free_remote(7), remote_free::done);
  EXPECT_TRUE(s.free_own_slot(7));
  EXPECT_TRUE(s.advance());
  EXPECT_FALSE(s.free_own_slot(7));
  std::vector<unsigned> twice;
  s.collect([&](unsigned i) { twice.push_back(i); },
            [](unsigned) {
              ADD_FAILURE();
              return true;
            });
  EXPECT_EQ(twice, std::vector<unsigned>{7});
  EXPECT_EQ(next_slot(s), 7u);
  EXPECT_EQ(next_slot(s), s.nelems());
}

TEST(mspan, large_span_is_one_taken_object) {
  mspan s;
  s.init(some_base, 20000, make_span_class(0, true));
  EXPECT_EQ(s.nelems(), 1u);
  EXPECT_EQ(s.elemsize(), 20000 * page_size);
  EXPECT_EQ(s.count_free(), 0u);
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

TEST(span_list, appends_a_whole_list_at_once) {
  mspan spans[5];
  span_list a, b;
  a.append(b);
  EXPECT_TRUE(a.empty());
  b.insert_back(&spans[0]);
  b.insert_back(&spans[1]);
  a.append(b);
  EXPECT_TRUE(b.empty());
  EXPECT_EQ(b.size(), 0u);
  b.insert_back(&spans[2]);
  a.append(b);
  a.append(b);
  EXPECT_EQ(a.size(), 3u);
  EXPECT_EQ(a.last(), &spans[2]);
  a.remove(&spans[1]);
  EXPECT_EQ(a.pop_front(), &spans[0]);
  EXPECT_EQ(a.pop_front(), &spans[2]);
  EXPECT_EQ(a.pop_front(), nullptr);
}

TEST(span_list, keeps_order_and_refuses_misuse) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  mspan s[4];
  span_list list, other;
  for (mspan& x : s) list.insert_back(&x);
  EXPECT_EQ(list.size(), 4u);
  EXPECT_DEATH(list.insert_back(&s[1]), "span is in a list");
  EXPECT_EQ(list.last(), &s[3]);
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
  for (mspan* x : {&s[0], &s[1]}) list.insert_front(x);
  EXPECT_EQ(list.first(), &s[1]);
  EXPECT_EQ(list.last(), &s[0]);
  list.clear();
  EXPECT_EQ(list.size(), 0u);
}

TEST(mspan, a_slot_known_before_the_span_was_cut_anew_is_none) {
  mspan s;
  auto* const base = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40);
  const unsigned sc48 = make_span_class(size_to_class(48), true);
  const unsigned sc64 = make_span_class(size_to_class(64), true);
  s.init(base, 1, sc48);
  std::byte* const p = base + 48 * 5;
  const unsigned slot = s.slot_of(48 * 5);
  EXPECT_TRUE(s.is_slot(slot, p));
  EXPECT_FALSE(s.is_slot(slot, p + 1));
  const unsigned last = s.nelems() - 1;
  std::byte* const end = s.slot_address(last);
  s.init(base, 1, sc64);
  EXPECT_FALSE(s.is_slot(slot, p));
  EXPECT_FALSE(s.is_slot(last, end));  // fewer slots
  EXPECT_TRUE(s.is_slot(5, base + 64 * 5));
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

// Of every sequence of three sizes, and of long ones: objects of a block lie one after the other,
// as low as their alignment allows, and of two blocks the one with more room stays open.
TEST(tiny_rule, places_any_sizes) {
  const auto check = [](auto&& size, unsigned objects) {
    tiny_rule rule;
    bool open = false;
    unsigned end = 0;
    for (unsigned k = 0; k < objects; ++k) {
      const unsigned n = size(k);
      unsigned align = 1;
      while (align < 8 && n % (2 * align) == 0) align *= 2;
      unsigned at = end;
      while (at % align != 0) ++at;
      const bool fits = open && at + n <= 16;
      ASSERT_EQ(rule.place(n), fits ? at : tiny_rule::none) << k;
      if (fits) {
        end = at + n;
      } else {
        const bool kept = !open || 16 - n > 16 - end;
        ASSERT_EQ(rule.keep_new(n), kept) << k;
        if (kept) end = n;
        open = true;
      }
      ASSERT_EQ(rule.offset(), end);
    }
  };
  for (unsigned sizes = 0; sizes < 15 * 15 * 15; ++sizes)
    check(
        [&](unsigned k) {
          return 1 + (k == 0 ? sizes : k == 1 ? sizes / 15 : sizes / 225) % 15;
        },
        3);
  std::mt19937 random(4);
  check([&](unsigned) { return 1 + random() % 15; }, 20'000);
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
