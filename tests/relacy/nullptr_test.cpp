// When a malloc may answer nullptr, under a weak memory model: not while there are pages enough for
// everybody, in whoever's hands a page is at the moment of a look.
#define WARPHEAP_SLOTS_PER_WORD 2

#include "relacy/scenario.hpp"

namespace warpheap::weak {
namespace {

/// Nobody fails because his time is up: whoever waits for another waits until it is done.
constexpr std::uint64_t no_limit = 1'000'000;

/// Takes objects of whole pages, one at a time, for which there is room.
std::function<void()> never_fails(weak_heap& h, std::uint32_t pages, unsigned rounds,
                                  bool keep_last = false) {
  return [&h, pages, rounds, keep_last] {
    for (unsigned r = 0; r < rounds; ++r) {
      void* p = core::malloc_pages(h.view(), pages * page_size);
      if (p == nullptr) fail("nullptr while there are pages for everybody");
      if (!keep_last || r + 1 < rounds) device_heap(h.view()).free(p);
    }
  };
}

/// Takes a free page, before there are threads; and makes an object of it, which stays.
void take_page(weak_heap& h, page_index page) {
  core::claim_run(h.view(), page, 1);
  core::keep_in_hand(h.view());
  h.view().state->stock_pages.value -= 1;
}
void make_object_in(weak_heap& h, page_index page) {
  take_page(h, page);
  core::make_large(h.view(), page, 1);
}

TEST(Nullptr, NobodyFailsWhileAnotherThreadReclaims) {
  // All pages are in empty spans. One thread collects them, the other waits for it.
  weak_heap h({.pages = 2, .warp_slots = 3, .timeout_ns = no_limit}, {size_to_class(128)});
  void* all[4];
  for (void*& p : all) p = h.keep(128);
  for (void* p : all) h.give_kept(p, 128);
  explore(20'000, {h, {never_fails(h, 1, 1, true), never_fails(h, 1, 1, true)}, [&] {
                     h.check_at_rest();
                   }});
}

TEST(Nullptr, NobodyFailsWhileOnePageIsFree) {
  // Three pages in two words: a page that comes free is counted before the same thread takes the
  // next one.
  weak_heap h({.first_page = 62, .pages = 3, .warp_slots = 3, .timeout_ns = no_limit}, {});
  explore(20'000, {h, {never_fails(h, 1, 3), never_fails(h, 1, 2), never_fails(h, 1, 1)}, [&] {
                     h.check_at_rest();
                   }});
}

TEST(Nullptr, NobodyFailsWhileOneRunIsFree) {
  // Two runs, which a page that stays in use keeps apart.
  weak_heap h({.first_page = 59, .pages = 11, .warp_slots = 3, .timeout_ns = no_limit}, {});
  make_object_in(h, 64);
  explore(20'000, {h, {never_fails(h, 5, 3), never_fails(h, 5, 2)}, [&] { h.check_at_rest(); }});
}

TEST(Nullptr, NobodyFailsWhileAPageMoves) {
  // Two pages in two words. Who has one gives it back and takes the other, with nothing around it.
  for (const page_index from : {63u, 64u}) {
    weak_heap h({.first_page = 63, .pages = 2, .warp_slots = 3, .timeout_ns = no_limit}, {});
    const page_index to = 63 + 64 - from;
    take_page(h, from);
    const auto mover = [&] {
      core::give_pages(h.view(), {from, 1});
      if (!core::claim_run(h.view(), to, 1)) return;
      core::keep_in_hand(h.view());
      core::give_pages(h.view(), {to, 1});
    };
    explore(20'000, {h, {mover, never_fails(h, 1, 1)}, [] {}});
  }
}

/// Takes a slot, for which there is room, and gives it back.
std::function<void()> slot_never_fails(weak_heap& h, std::size_t size) {
  return [&h, size] {
    void* p = h.take(size);
    if (p == nullptr) fail("nullptr while there are slots for everybody");
    h.give(p, size);
  };
}

TEST(Nullptr, NobodyFailsWhileASpanIsRetired) {
  // Every free that leaves the only span without an object tries to end it.
  weak_heap h({.pages = 1, .warp_slots = 3, .pressure = true, .timeout_ns = no_limit},
              {size_to_class(64)});
  void* live = h.keep(64);
  explore(30'000, {h,
                   {[&] { h.give(live, 64); }, slot_never_fails(h, 64), slot_never_fails(h, 64)},
                   [&] { h.check_at_rest(); }});
}

TEST(Nullptr, NobodyFailsWhileAPageBecomesASpan) {
  weak_heap h({.pages = 1, .warp_slots = 3, .timeout_ns = no_limit}, {size_to_class(64)});
  explore(20'000, {h,
                   {slot_never_fails(h, 64), slot_never_fails(h, 64), slot_never_fails(h, 64)},
                   [&] { h.check_at_rest(); }});
}

TEST(Nullptr, RoomForARunIsSeenThoughAnObjectMoves) {
  // Two places for two pages, with a page between them that stays in use. An object that is in the
  // one is gone from there before it is in the other.
  weak_heap h({.pages = 5, .warp_slots = 3, .timeout_ns = no_limit}, {});
  for (const page_index p : {1u, 3u}) make_object_in(h, p);
  const auto mover = [&] {
    core::give_pages(h.view(), {1, 1});
    if (!core::claim_run(h.view(), 5, 1)) fail("a free page cannot be had");
    core::make_large(h.view(), 5, 1);
    core::keep_in_hand(h.view());
  };
  const auto looker = [&] {
    const std::uint64_t gives = core::gives_so_far(h.view()), hands = core::hands_before(h.view());
    if (core::room_for(h.view(), 2).end == 0 && core::nothing_was_in_hand(h.view(), hands)
        && core::gives_so_far(h.view()) == gives)
      fail("no room for two pages is seen");
  };
  explore(20'000, {h, {mover, looker}, [] {}});
}

TEST(Nullptr, RoomForARunIsSeenThoughASpanIsMade) {
  // The same with a span in place of the object's new page, and a slot of it in use. Its words say
  // nothing of what its maker gave before: who sees them sees that it was in hand.
  const unsigned cls = size_to_class(128);
  weak_heap h({.pages = 5, .warp_slots = 3, .timeout_ns = no_limit}, {cls});
  for (const page_index p : {1u, 3u}) make_object_in(h, p);
  const auto mover = [&] {
    core::give_pages(h.view(), {1, 1});
    if (!core::claim_run(h.view(), 5, 1)) fail("a free page cannot be had");
    core::publish_span(h.view(), cls, 5);
    core::let_go(h.view());
    core::claim_bits(h.view(), cls, core::index_of_word(5, 0), full_word, 1);
  };
  const auto looker = [&] {
    const std::uint64_t hands = core::hands_before(h.view()), gives = core::gives_so_far(h.view());
    if (core::room_for(h.view(), 2).end == 0 && core::gives_so_far(h.view()) == gives
        && core::nothing_was_in_hand(h.view(), hands))
      fail("no room for two pages is seen");
  };
  explore(20'000, {h, {mover, looker}, [] {}});
}

/// One thread reclaims the only page. Another looks for it in vain, does something else for so
/// long, and wants it to be reclaimed: then it has to know that a page was given.
void look_and_reclaim(unsigned turns_between) {
  weak_heap h({.pages = 1, .warp_slots = 3, .timeout_ns = no_limit}, {size_to_class(128)});
  h.give_kept(h.keep(128), 128);
  const auto second = [&] {
    std::uint64_t seen = core::gives_so_far(h.view());
    if (const page_index p = core::scan_stock(h.view(), 1)) {
      core::give_pages(h.view(), {p, 1});
      core::let_go(h.view());
      return;
    }
    for (unsigned i = 0; i < turns_between; ++i) yield();
    if (!core::reclaim_or_await(h.view(), seen)) fail("a page was given, and nobody told of it");
  };
  explore(20'000, {h, {[&] { core::reclaim(h.view()); }, second}, [&] { h.check_at_rest(); }});
}

TEST(Nullptr, WhoReclaimsNextKnowsWhatTheLastOneGave) { look_and_reclaim(20); }

TEST(Nullptr, WhoAwaitsAReclaimKnowsWhatItGave) { look_and_reclaim(0); }

TEST(Nullptr, AScanInVainSaysNothingOfPagesThatCameLater) {
  // The only page comes back. It is either of two threads', whatever marks a third one clears.
  weak_heap h({.first_page = 70, .pages = 1, .warp_slots = 3, .timeout_ns = no_limit}, {});
  void* page = core::malloc_pages(h.view(), page_size);
  void *first = nullptr, *second = nullptr;
  explore(20'000, {h,
                   {[&] { first = core::malloc_pages(h.view(), page_size); },
                    [&] {
                      device_heap(h.view()).free(page);
                      second = core::malloc_pages(h.view(), page_size);
                    },
                    [&] {
                      if (core::take_pages(h.view(), 2)) core::keep_in_hand(h.view());
                    }},
                   [&] {
                     if (first == nullptr && second == nullptr) fail("nullptr for both");
                   }});
}

}  // namespace
}  // namespace warpheap::weak
