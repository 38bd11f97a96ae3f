// Sweeping below the caches: the phases of a span, the sets of a class, who sweeps what and when.
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "host/mcache.hpp"
#include "host/mcentral.hpp"
#include "host/mheap.hpp"
#include "tests/host_region.hpp"

namespace {

using namespace warpheap;

constexpr sweep_phase phases[] = {sweep_phase::unswept, sweep_phase::sweeping, sweep_phase::swept,
                                  sweep_phase::stale_cached, sweep_phase::cached};

/// A span in a phase of the cycle h.
void bring_to(mspan& s, std::uint32_t h, sweep_phase phase) {
  switch (phase) {
    case sweep_phase::unswept: return s.reset_phase(h - 2);
    case sweep_phase::sweeping: s.reset_phase(h - 2); return s.set_phase(h, sweep_phase::sweeping);
    case sweep_phase::swept: return s.reset_phase(h);
    case sweep_phase::stale_cached:
      s.reset_phase(h - 2);
      return s.set_phase(h - 2, sweep_phase::cached);
    case sweep_phase::cached: s.reset_phase(h); return s.set_phase(h, sweep_phase::cached);
  }
}

TEST(sweep_phases, every_legal_change_is_made_and_every_other_refused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const std::set<std::pair<sweep_phase, sweep_phase>> legal = {
      {sweep_phase::unswept, sweep_phase::sweeping},
      {sweep_phase::stale_cached, sweep_phase::sweeping},
      {sweep_phase::sweeping, sweep_phase::swept},
      {sweep_phase::swept, sweep_phase::cached},
      {sweep_phase::cached, sweep_phase::swept},
  };
  for (const std::uint32_t h : {4u, 1000u, ~0u - 1, 0u, 2u}) {  // also where the number wraps
    for (const sweep_phase from : phases) {
      for (const sweep_phase to : phases) {
        mspan s;
        bring_to(s, h, from);
        ASSERT_EQ(s.phase(h), from);
        if (legal.count({from, to}) != 0) {
          s.set_phase(h, to);
          EXPECT_EQ(s.phase(h), to);
        } else if (h == 4) {
          EXPECT_DEATH(s.set_phase(h, to), "bad sweepgen change");
        }
      }
    }
  }
}

TEST(sweep_phases, sweeping_begins_where_it_may_and_once) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  constexpr std::uint32_t h = 8;
  for (const sweep_phase is : phases) {
    for (const sweep_phase asked : phases) {
      mspan s;
      bring_to(s, h, is);
      if (asked != sweep_phase::unswept && asked != sweep_phase::stale_cached) {
        EXPECT_DEATH((void)s.begin_sweep(h, asked), "bad sweepgen change");
        continue;
      }
      EXPECT_EQ(s.begin_sweep(h, asked), is == asked);
      EXPECT_EQ(s.phase(h), is == asked ? sweep_phase::sweeping : is);
      EXPECT_FALSE(s.begin_sweep(h, asked));
    }
  }
}

TEST(sweep_phases, a_new_cycle_changes_what_it_should) {
  constexpr std::uint32_t h = 8;
  const std::map<sweep_phase, std::pair<bool, sweep_phase>> after = {
      {sweep_phase::swept, {true, sweep_phase::unswept}},
      {sweep_phase::cached, {true, sweep_phase::stale_cached}},
      {sweep_phase::unswept, {false, {}}},
      {sweep_phase::sweeping, {false, {}}},
      {sweep_phase::stale_cached, {false, sweep_phase::sweeping}},
  };
  for (const auto& [before, is] : after) {
    mspan s;
    bring_to(s, h, before);
    EXPECT_EQ(s.is_swept(h), is.first);
    EXPECT_FALSE(s.is_swept(h + 2));
    if (is.first) {
      EXPECT_EQ(s.phase(h + 2), is.second);
    }
  }
}

struct sweep_test : ::testing::Test {
  test::host_region region{std::size_t{64} << 20};
  mheap heap{region.base(), region.bytes(), region.source()};
  mcentral_set central{heap};
  page_stock stock;
  alignas(64) char owner[64];

  /// A span of a cache with so many slots taken.
  mspan* new_span(unsigned sc, unsigned taken) {
    mspan* s = heap.alloc_span(host_span_pages(host_span_size_class(sc)), sc,
                               span_status::of(owner, sc), stock);
    s->set_phase(heap.sweepgen(), sweep_phase::cached);
    EXPECT_TRUE(s->enter());
    while (taken > 0) {
      if (s->take() != nullptr)
        --taken;
      else
        EXPECT_TRUE(s->advance());
    }
    s->leave();
    return s;
  }
  mspan* uncached_span(unsigned sc, unsigned taken) {
    mspan* s = new_span(sc, taken);
    central[sc].uncache_span(s);
    return s;
  }
  void expect_sizes(unsigned sc, mcentral::sizes want) {
    const mcentral::sizes got = central[sc].set_sizes();
    EXPECT_EQ(got.partial, want.partial);
    EXPECT_EQ(got.empty, want.empty);
    EXPECT_EQ(got.full, want.full);
    EXPECT_EQ(got.partial_unswept, want.partial_unswept);
    EXPECT_EQ(got.full_unswept, want.full_unswept);
    EXPECT_EQ(got.stale, want.stale);
  }
  void expect_swept(std::uint64_t for_allocation, std::uint64_t kept, std::uint64_t freed) {
    const sweep_counts got = central.swept();
    EXPECT_EQ(got.for_allocation, for_allocation);
    EXPECT_EQ(got.kept, kept);
    EXPECT_EQ(got.freed, freed);
  }
};

const unsigned spans64 = make_span_class(6, true);  // 256 slots of 64 bytes in two pages
constexpr unsigned full64 = host_span_objects(6);

TEST_F(sweep_test, sets_change_roles_and_no_span_is_touched) {
  mspan* partial = uncached_span(spans64, 5);
  mspan* full = uncached_span(spans64, full64);
  expect_sizes(spans64, {1, 0, 1, 0, 0, 0});
  const span_set* const sets[] = {partial->set(), full->set()};
  const std::uintptr_t status[] = {partial->status().bits(), full->status().bits()};
  central.next_cycle();
  expect_sizes(spans64, {0, 0, 0, 1, 1, 0});
  EXPECT_EQ(partial->phase(heap.sweepgen()), sweep_phase::unswept);
  EXPECT_EQ(full->phase(heap.sweepgen()), sweep_phase::unswept);
  EXPECT_EQ(partial->set(), sets[0]);
  EXPECT_EQ(full->set(), sets[1]);
  EXPECT_EQ(partial->status().bits(), status[0]);
  EXPECT_EQ(full->status().bits(), status[1]);
  EXPECT_EQ(heap.unswept_spans(), 2u);
  EXPECT_EQ(heap.stats().spans, 0u);
  expect_swept(0, 0, 0);
}

TEST_F(sweep_test, a_cache_gets_swept_spans_first_then_partial_then_full_unswept_ones) {
  mspan* full = uncached_span(spans64, full64);
  mspan* partial = uncached_span(spans64, 5);
  mspan* empty = uncached_span(spans64, 0);
  mspan* stale = new_span(spans64, 7);
  central[spans64].add_stale(stale);
  central.next_cycle();
  mspan* swept = uncached_span(spans64, 9);
  expect_sizes(spans64, {1, 1, 0, 1, 1, 1});
  for (mspan* want : {swept, empty, stale, partial, full}) {
    EXPECT_EQ(central[spans64].cache_span(owner), want);
    EXPECT_EQ(want->phase(heap.sweepgen()), sweep_phase::cached);
    EXPECT_TRUE(want->status().is_owned_by(owner));
    EXPECT_EQ(want->set(), nullptr);
    EXPECT_EQ(want->has_all_free(), want != swept);
  }
  EXPECT_EQ(central[spans64].cache_span(owner), nullptr);
  expect_sizes(spans64, {0, 0, 0, 0, 0, 0});
  expect_swept(4, 0, 0);
  EXPECT_EQ(heap.unswept_spans(), 0u);
}

TEST_F(sweep_test, full_span_stays_in_its_set_when_it_gets_an_owner_and_is_passed_over_when_stale) {
  mcache cache(heap, central);
  mspan* s = uncached_span(spans64, full64);
  EXPECT_TRUE(cache.adopt(s, s->status()));
  expect_sizes(spans64, {0, 0, 1, 0, 0, 0});
  EXPECT_TRUE(cache.free_own_slot(s, 3));
  central.next_cycle();
  // Cached by nobody's leave: an allocation passes it over.
  EXPECT_EQ(s->phase(heap.sweepgen()), sweep_phase::stale_cached);
  EXPECT_EQ(central[spans64].cache_span(owner), nullptr);
  EXPECT_EQ(s->phase(heap.sweepgen()), sweep_phase::stale_cached);
  expect_sizes(spans64, {0, 0, 0, 0, 0, 0});
  EXPECT_EQ(heap.unswept_spans(), 1u);
}

TEST_F(sweep_test, a_span_that_runs_full_again_is_put_away_once_a_cycle) {
  mcache cache(heap, central);
  mspan* s = uncached_span(spans64, full64);
  for (int round = 0; round < 10; ++round) {
    EXPECT_TRUE(cache.adopt(s, s->status()));
    // As many as make it worth while to take it up again.
    const unsigned freed = full64 / 8;
    for (unsigned i = 0; i < freed; ++i) EXPECT_TRUE(cache.free_own_slot(s, 3 * i));
    for (unsigned i = 0; i < freed; ++i) EXPECT_NE(cache.alloc(spans64), nullptr);  // those
    EXPECT_NE(cache.alloc(spans64), nullptr);  // of another span: this one is let go
    EXPECT_EQ(s->place(), span_place::full);
    EXPECT_EQ(central[spans64].set_sizes().full, 1u);
    cache.flush();
    EXPECT_NE(central[spans64].cache_span(owner), nullptr);  // the other one goes out of the way
  }
}

TEST_F(sweep_test, stale_span_given_back_is_swept) {
  mspan* s = new_span(spans64, 5);
  EXPECT_EQ(s->free_remote(2), remote_free::done);
  central.next_cycle();
  EXPECT_EQ(s->phase(heap.sweepgen()), sweep_phase::stale_cached);
  central[spans64].uncache_span(s);
  expect_swept(0, 0, 1);
  EXPECT_EQ(s->state(), span_state::dead);
  EXPECT_EQ(heap.unswept_spans(), 0u);
  EXPECT_EQ(heap.stats().pages_in_use, 0u);
}

TEST_F(sweep_test, sweeper_visits_every_place_that_a_span_can_be_in) {
  mcache cache(heap, central);
  for (unsigned c = 1; c < num_classes; ++c) {
    for (const bool noscan : {false, true}) {
      const unsigned sc = make_span_class(c, noscan);
      uncached_span(sc, 1);
      uncached_span(sc, host_span_objects(c));
      uncached_span(sc, 0);
      ASSERT_NE(cache.alloc(sc), nullptr);
    }
  }
  ASSERT_NE(cache.alloc_tiny(3), nullptr);
  mspan* large = heap.alloc_large(20, 1, 1, cache.stock());
  central[1].add_full(large);
  mspan* kept = heap.alloc_large(30, 1, 1, cache.stock());
  central[1].add_full(kept);
  EXPECT_FALSE(kept->free_large());
  cache.keep_large(kept);
  const std::size_t spans = heap.stats().spans;
  const std::size_t pages = heap.stats().pages_in_use;
  cache.retire();
  central.next_cycle();
  EXPECT_EQ(heap.unswept_spans(), spans);
  std::size_t swept_spans = 0, swept_pages = 0;
  while (const std::size_t n = central.sweep_one()) {
    ++swept_spans;
    swept_pages += n;
  }
  EXPECT_EQ(swept_spans, spans);
  EXPECT_EQ(swept_pages, pages);
  expect_swept(0, 0, spans);
  EXPECT_EQ(heap.unswept_spans(), 0u);
  EXPECT_EQ(heap.unswept_pages(), 0u);
  EXPECT_EQ(heap.stats().spans, 0u);
  for (unsigned sc = 0; sc < host_span_classes; ++sc) expect_sizes(sc, {0, 0, 0, 0, 0, 0});
  EXPECT_EQ(heap.stats().free_pages, heap.stats().grown_pages);
}

/// Marks every slot that is taken, for the next cycle.
void mark_all(mheap& heap, mspan* s, span_marks::list& marks) {
  s->set_marks(span_marks::make(marks, s->base(), s->span_class(), heap.sweepgen() + 2));
  s->for_each_taken([&](unsigned i) { s->marks()->set(i); });
}

struct counting_sink final : sweep_sink {
  void kept(std::size_t) override { ++live; }
  void leaked(void*, std::size_t, unsigned) override { ++dead; }
  void dangling(void*) override { ++wrong; }
  void tiny_blocks_freed(unsigned) override {}
  std::size_t live = 0, dead = 0, wrong = 0;
};

TEST_F(sweep_test, allocation_gives_up_after_a_hundred_spans_that_stay_full) {
  constexpr unsigned tries = mcentral::sweep_tries;
  static_assert(tries == 100);
  span_marks::list marks;
  for (unsigned i = 0; i < tries + 50; ++i) {
    mark_all(heap, uncached_span(spans64, full64), marks);
  }
  mspan* with_room = uncached_span(spans64, full64);  // the last one in line
  mark_all(heap, with_room, marks);
  counting_sink sink;
  central.next_cycle(&sink);
  with_room->set_marks(nullptr);
  EXPECT_EQ(central[spans64].cache_span(owner), nullptr);
  expect_swept(0, tries, 0);
  expect_sizes(spans64, {0, 0, tries, 0, 51, 0});
  EXPECT_EQ(central[spans64].cache_span(owner), with_room);
  expect_swept(1, tries + 50, 0);
  expect_sizes(spans64, {0, 0, tries + 50, 0, 0, 0});
  EXPECT_EQ(sink.live, (tries + 50) * full64);
  EXPECT_EQ(sink.dead, full64);
}

TEST_F(sweep_test, a_swept_span_goes_where_its_marks_say) {
  mspan* stays_full = uncached_span(spans64, full64);
  mspan* loses_some = uncached_span(spans64, full64);
  mspan* loses_all = uncached_span(spans64, full64);
  mspan* partial = uncached_span(spans64, 10);
  span_marks::list marks;
  for (mspan* s : {stays_full, loses_some, partial}) mark_all(heap, s, marks);
  counting_sink sink;
  EXPECT_EQ(loses_some->free_remote(3), remote_free::left_full);
  EXPECT_EQ(partial->free_remote(4), remote_free::done);
  central.next_cycle(&sink);
  central.sweep_all();
  expect_swept(0, 3, 1);
  expect_sizes(spans64, {2, 0, 1, 0, 0, 0});
  EXPECT_EQ(stays_full->place(), span_place::full);
  EXPECT_EQ(loses_some->place(), span_place::partial);
  EXPECT_EQ(partial->place(), span_place::partial);
  EXPECT_EQ(loses_all->state(), span_state::dead);
  EXPECT_EQ(sink.live, 2 * full64 - 1 + 9);
  EXPECT_EQ(sink.dead, full64);
  EXPECT_EQ(sink.wrong, 2u);
  EXPECT_EQ(stays_full->marks(), nullptr);
  EXPECT_FALSE(loses_some->status().is_pending());
}

TEST_F(sweep_test, cycle_begins_when_the_last_one_is_done) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  uncached_span(spans64, 1);
  central.next_cycle();
  EXPECT_DEATH(central.next_cycle(), "before the last one ended");
  central.sweep_all();
  central.next_cycle();
}

TEST_F(sweep_test, pages_are_paid_for_with_as_many_swept_and_no_debt_costs_nothing) {
  for (int i = 0; i < 100; ++i) uncached_span(spans64, 1);
  central.pay_for(1000);
  expect_swept(0, 0, 0);  // nothing is unswept
  central.next_cycle();
  const std::size_t pages = host_span_pages(6);
  central.pay_for(10 * pages);
  expect_swept(0, 0, 10);
  central.pay_for(1);
  expect_swept(0, 0, 11);
  // What a sweeper does is credit.
  for (int i = 0; i < 20; ++i) EXPECT_EQ(central.sweep_one(), pages);
  central.pay_for(20 * pages - 1);
  expect_swept(0, 0, 31);
  central.pay_for(2 * pages);
  expect_swept(0, 0, 32);
  central.pay_for(100000);
  expect_swept(0, 0, 100);
  EXPECT_EQ(heap.unswept_spans(), 0u);
}

TEST_F(sweep_test, all_is_swept_before_the_room_runs_out) {
  // Three quarters of the heap are unswept: each page of the rest pays for three.
  const std::size_t pages = heap.reserve_pages();
  std::size_t taken = 0;
  while (taken < pages * 3 / 4) {
    mspan* s = heap.alloc_large(64, 1, 1, stock);
    central[1].add_full(s);
    taken += 64;
  }
  central.next_cycle();
  const std::size_t room = heap.room_pages();
  for (std::size_t used = 0; used < room && heap.unswept_spans() != 0; ++used) central.pay_for(1);
  EXPECT_EQ(heap.unswept_spans(), 0u);
}

TEST_F(sweep_test, threads_that_sweep_at_the_same_time_sweep_each_span_once) {
  constexpr std::size_t spans = 2000;
  for (std::size_t i = 0; i < spans; ++i) {
    const unsigned sc = make_span_class(1 + i % 20, i % 2 == 0);
    uncached_span(sc, i % 3 == 0 ? host_span_objects(host_span_size_class(sc)) : 1);
  }
  const std::size_t all = heap.stats().spans;
  central.next_cycle();
  std::vector<std::vector<mspan*>> taken(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < taken.size(); ++t) {
    threads.emplace_back([&, t] {
      alignas(64) char mine[64];
      for (unsigned c = 1; c <= 20; ++c) {
        for (const bool noscan : {false, true}) {
          for (int i = 0; i < 5; ++i) {
            mspan* s = central[make_span_class(c, noscan)].cache_span(mine);
            if (s != nullptr) taken[t].push_back(s);
            (void)central.sweep_one();
          }
        }
      }
      central.sweep_all();
      for (mspan* s : taken[t]) {
        if (!s->status().is_owned_by(mine)) ADD_FAILURE() << "two owners";
        if (!s->has_all_free()) ADD_FAILURE() << "not swept";
      }
    });
  }
  for (std::thread& t : threads) t.join();
  std::set<mspan*> distinct;
  for (const auto& spans_of_one : taken) {
    for (mspan* s : spans_of_one) EXPECT_TRUE(distinct.insert(s).second);
  }
  const sweep_counts swept = central.swept();
  EXPECT_EQ(swept.for_allocation + swept.freed, all);
  EXPECT_EQ(swept.for_allocation, distinct.size());
  EXPECT_EQ(heap.unswept_spans(), 0u);
  EXPECT_EQ(heap.stats().spans, distinct.size());
}

}  // namespace
