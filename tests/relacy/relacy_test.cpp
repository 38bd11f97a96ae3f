// The device core under a weak memory model: relacy runs the product's own headers, each execution
// with another schedule and with other late values for loads that are not ordered.
//
// What is checked: no byte has two owners, all uses of a user's byte are ordered, no slot is of
// another class than was asked for; and at the end that every free slot is found by the search.
#define WARPHEAP_SLOTS_PER_WORD 2

#include "relacy/scenario.hpp"

namespace warpheap::weak {
namespace {

/// Takes and frees objects of a size, `keep` at a time.
std::function<void()> churn(weak_heap& h, std::size_t size, unsigned rounds, unsigned keep) {
  return [&h, size, rounds, keep] {
    void* mine[4] = {};
    for (unsigned r = 0; r < rounds; ++r) {
      for (unsigned k = 0; k < keep; ++k) mine[k] = h.take(size);
      for (unsigned k = 0; k < keep; ++k) h.give(mine[k], size);
    }
  };
}

std::function<void()> at_rest(weak_heap& h, std::size_t size, unsigned slots) {
  return [&h, size, slots] {
    h.check_at_rest();
    h.exhaust(size, slots);
    h.check_at_rest();
  };
}

TEST(Relacy, ThreadsShareTheSlotsOfOneWord) {
  weak_heap h({.pages = 1}, {size_to_class(128)});
  explore(40'000,
          {h, {churn(h, 128, 2, 1), churn(h, 128, 2, 1), churn(h, 128, 1, 2)}, at_rest(h, 128, 2)});
}

TEST(Relacy, WordsOfOneSpanEmptyAndFill) {
  weak_heap h({.pages = 1, .warp_slots = 3, .stride = 32}, {size_to_class(32)});
  explore(40'000,
          {h, {churn(h, 32, 2, 2), churn(h, 32, 1, 3), churn(h, 32, 2, 3)}, at_rest(h, 32, 8)});
}

TEST(Relacy, FreesOfASpanThatStaysInUseAreFound) {
  for (const page_index first : {1u, 70u}) {
    weak_heap h({.first_page = first, .pages = 1}, {size_to_class(64)});
    // Two words of two slots, one of them taken.
    const weak_heap::live_object kept[] = {{h.keep(64), 64}};
    explore(40'000, {h, {churn(h, 64, 2, 1), churn(h, 64, 2, 2), churn(h, 64, 1, 3)}, [&] {
                       h.check_at_rest(kept);
                       h.exhaust(64, 3);
                       h.check_at_rest(kept);
                     }});
  }
}

TEST(Relacy, SpansMoveBetweenClassesUnderStaleHints) {
  for (const std::uint32_t pages : {1u, 2u}) {
    weak_heap h({.pages = pages, .pressure = true}, {size_to_class(64), size_to_class(128)});
    explore(30'000, {h,
                     {churn(h, 128, 2, 1), churn(h, 64, 2, 1), churn(h, 128, 1, 2)},
                     at_rest(h, 64, 4 * pages)});
  }
}

TEST(Relacy, LateMarksGoToTheSpanThatTheyHit) {
  // One of two frees that empty a span is late with its mark: the span has become another class's
  // by then, and may be full.
  weak_heap h({.pages = 1, .warp_slots = 3, .pressure = true},
              {size_to_class(64), size_to_class(128)});
  void* first = h.keep(128);
  void* second = h.keep(128);
  weak_heap::live_object left[4];
  explore(30'000, {h,
                   {[&] { h.give(first, 128); }, [&] { h.give(second, 128); },
                    [&] {
                      for (weak_heap::live_object& object : left) object = {h.take(64), 64};
                      h.give(std::exchange(left[0].p, nullptr), 64);
                    }},
                   [&] { h.check_at_rest(left); }});
}

TEST(Relacy, StaleHintsReachSpansThatAreBeingPublished) {
  // The page was a span of the class before. While it becomes one again, its words can be claimed
  // and freed to before its record says so: here by a warp of two lanes, and all at once.
  const unsigned cls = size_to_class(128);
  weak_heap h({.pages = 1}, {cls});
  h.give_kept(h.keep(128), 128);
  core::retire_span(h.view(), 1);
  const page_index page = core::take_pages(h.view(), 1);
  core::keep_in_hand(h.view());
  explore(100'000, {h,
                    {[&] { core::publish_span(h.view(), cls, page); },
                     [&] {
                       const core::claim c = core::claim_slots(h.view(), cls, 2);
                       if (c.got != 0) core::free_bits(h.view(), c.at, c.got);
                     },
                     [&] {
                       for (int i = 0; i < 4; ++i) core::find_word(h.view(), cls);
                     }},
                    at_rest(h, 128, 2)});
}

TEST(Relacy, AnybodyRetiresAnythingAtAnyTime) {
  weak_heap h({.pages = 2, .warp_slots = 3}, {size_to_class(64), size_to_class(128)});
  explore(30'000, {h,
                   {churn(h, 64, 2, 2), churn(h, 128, 2, 1),
                    [&] {
                      for (page_index p = 0; p < 4; ++p) core::retire_span(h.view(), 1 + p % 2);
                    }},
                   at_rest(h, 128, 4)});
}

TEST(Relacy, ObjectsAreHandedOver) {
  weak_heap h({.pages = 2, .warp_slots = 3, .pressure = true}, {size_to_class(128)});
  const auto body = [&](unsigned place) {
    return [&h, place] {
      for (unsigned r = 0; r < 2; ++r) h.give(h.swap((place + r) % 2, h.take(128)), 128);
    };
  };
  explore(30'000, {h, {body(0), body(1), body(0)}, [&] {
                     for (unsigned place = 0; place < 2; ++place)
                       h.give(h.swap(place, nullptr), 128);
                     h.check_at_rest();
                     h.exhaust(128, 4);
                   }});
}

TEST(Relacy, PagesOfSpansBecomeLargeObjects) {
  weak_heap h({.pages = 5, .warp_slots = 3}, {size_to_class(64), size_to_class(128)});
  explore(20'000, {h, {churn(h, 40'000, 2, 1), churn(h, 128, 2, 1), churn(h, 64, 1, 3)}, [&] {
                     h.check_at_rest();
                   }});
}

TEST(Relacy, RunsOfPagesAreTakenWholeOrNotAtAll) {
  // Ten pages, five in each of two words of the stock's bitmap.
  weak_heap h({.first_page = 59, .pages = 10, .warp_slots = 3}, {size_to_class(128)});
  explore(20'000,
          {h, {churn(h, 50'000, 2, 1), churn(h, 40'000, 2, 1), churn(h, 40'000, 1, 2)}, [&] {
             h.check_at_rest();
             h.exhaust(80'000, 1);
             h.check_at_rest();
           }});
}

TEST(Relacy, SpansOfManyPages) {
  // Two spans of 64 pages; the second slot lies in the second page.
  weak_heap h({.first_page = 40, .pages = 128, .warp_slots = 3, .stride = 8192, .pressure = true},
              {size_to_class(8192)});
  explore(2'000, {h, {churn(h, 8192, 2, 1), churn(h, 8192, 1, 3), {}}, [&] { h.check_at_rest(); }});
}

TEST(Relacy, StockOnAllLevels) {
  for (const page_index first : {130u, 4224u}) {
    weak_heap h({.first_page = first, .pages = 5, .warp_slots = 3}, {});
    explore(20'000,
            {h, {churn(h, 40'000, 2, 1), churn(h, 40'000, 2, 1), churn(h, 33'000, 1, 2)}, [&] {
               h.check_at_rest();
               h.exhaust(40'000, 1);
             }});
  }
}

TEST(Relacy, ListsOfPagesOnAllLevels) {
  // The first page of word 1 of level 1, for which level 2 has to be asked; and the last of word 0.
  for (const page_index first : {4095u, 4224u}) {
    weak_heap h({.first_page = first, .pages = 2, .warp_slots = 3}, {size_to_class(128)});
    explore(
        20'000,
        {h, {churn(h, 128, 2, 1), churn(h, 128, 2, 1), churn(h, 128, 1, 2)}, at_rest(h, 128, 4)});
  }
}

TEST(Relacy, FreesOfHostObjectsAreCollectedOrTheFlagIsSet) {
  weak_heap h({.pages = 1}, {no_class});
  const heap_view& v = h.view();
  std::uint32_t* pending = &v.queue->host_frees_pending;
  the_memory.hear(pending, sizeof *pending);
  const page_index p = 2;  // nobody's
  const core::summary list = core::has_free_of(v, no_class);
  std::uint32_t* const words = v.tiny_mask + std::size_t{p} * (page_size / 32);
  const auto freeing = [&](unsigned word) {
    return [&, word] { core::free_host_object(v, std::uint64_t{p} * page_size + word * 32); };
  };
  const auto collect = [&] {
    for (unsigned round = 0; round < 2; ++round) {
      if (atomic::load<order::relaxed, scope::system>(pending) == 0) yield();
      core::begin_collecting(v);
      if ((list.word(0) >> p & 1) == 0) continue;
      list.clear(p);
      for (unsigned word = 0; word < 2; ++word)
        if (atomic::load<order::relaxed>(words + word) != 0)
          atomic::exchange<order::acq_rel>(words + word, 0u);
    }
  };
  explore(40'000, {h, {freeing(0), freeing(1), collect}, [&] {
                     for (unsigned word = 0; word < 2; ++word)
                       if (the_memory.latest(words[word]) != 0 && the_memory.latest(*pending) == 0)
                         fail("a free that nobody looks for");
                   }});
}

TEST(Relacy, TinyObjectsOfThreadsThatShareABlock) {
  weak_heap h({.pages = 1, .stride = 1}, {tiny_blocks});
  explore(40'000, {h, {churn(h, 8, 2, 1), churn(h, 5, 1, 2), churn(h, 8, 1, 2)}, [&] {
                     h.close_tiny_blocks();
                     h.check_at_rest();
                   }});
}

}  // namespace
}  // namespace warpheap::weak
