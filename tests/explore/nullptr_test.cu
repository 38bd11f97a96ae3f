// Explorations of when a malloc may answer nullptr: not while there are pages enough for everybody,
// in whoever's hands a page is at the moment of a look.
#define WARPHEAP_SLOTS_PER_WORD 2

#include "explore.cuh"

namespace warpheap {
namespace {

__global__ void free_then_malloc(device_heap heap, void* p, std::size_t size, void** out) {
  heap.free(p);
  *out = heap.malloc(size);
}

__global__ void malloc_pages(device_heap heap, std::uint32_t pages, void** out) {
  *out = core::malloc_pages(*heap.view.self, pages * page_size);
}

simt::explored_kernel taking_pages(small_heap& h, std::uint32_t pages, void** out) {
  return simt::explored(1, 1, malloc_pages, h.device(), pages, out);
}
simt::explored_kernel allocating(small_heap& h, std::size_t size, void** out) {
  return simt::explored(1, 1, malloc_one, h.device(), size, out);
}

/// Two warps need up to five pages each, and all of sixteen are in empty spans of other classes: of
/// each no more than a class keeps. Wherever the first one takes his, five others are left in a
/// row.
void reclaim_by_two(const simt::explore_options& o, std::size_t size) {
  small_heap h(16);
  const std::function<void()> fill = [&] {
    std::vector<void*> all;
    for (const auto& [other, pages] : {std::pair{128u, 4u}, {256u, 4u}, {512u, 8u}}) {
      const std::uint64_t rest = h.view().state->stock_pages.value - pages;
      while (h.view().state->stock_pages.value > rest) all.push_back(h.device().malloc(other));
    }
    for (void* p : all) h.device().free(p);
  };
  alone(fill);
  if (h.view().state->stock_pages.value != 0) throw std::runtime_error("pages are in the stock");
  void *a = nullptr, *b = nullptr;
  run_schedule(o, {allocating(h, size, &a), allocating(h, size, &b)});
  if (a == nullptr || b == nullptr)
    throw std::runtime_error("nullptr while most pages are in empty spans");
}

TEST(Explore, NobodyFailsWhileAnotherWarpReclaims) {
  for (const std::size_t size : {std::size_t{40'000}, std::size_t{64}})
    explore_seeds(7'000, [&](const simt::explore_options& o) { reclaim_by_two(o, size); });
}

TEST(Bounded, NobodyFailsWhileAnotherWarpReclaims) {
  explore_all(simt::bounded_by::preemptions, 1,
              [](const simt::explore_options& o) { reclaim_by_two(o, 40'000); });
}

__global__ void malloc_and_tell(device_heap heap, std::size_t size, void** out,
                                std::uint32_t* done) {
  *out = heap.malloc(size);
  atomic::store<order::relaxed>(done, 1u);
}

/// Always has something in hand, and always something else.
__global__ void juggle(device_heap heap, const std::uint32_t* done, std::uint32_t* changes) {
  const heap_view& h = *heap.view.self;
  core::take_in_hand(h);
  while (*changes < 200'000 && atomic::load<order::relaxed>(done) == 0) {
    core::take_in_hand(h);
    core::let_go(h);
    ++*changes;
    __nanosleep(32);
  }
  core::let_go(h);
}

/// What a full heap is asked for while somebody always has something in hand. A malloc that waited
/// for that to end would wait for its limit, which is far away.
void ask_beside_a_juggler(const simt::explore_options& o, std::size_t size) {
  small_heap h(1, 3'600'000'000'000);
  alone([&] {
    if (core::malloc_pages(h.view(), page_size) == nullptr) throw std::runtime_error("no page");
  });
  void* out = nullptr;
  std::uint32_t done = 0, changes = 0;
  run_schedule(o, {simt::explored(1, 1, malloc_and_tell, h.device(), size, &out, &done),
                   simt::explored(1, 1, juggle, h.device(), &done, &changes)});
  if (out != nullptr) throw std::runtime_error("a second page of one");
  if (changes == 200'000) throw std::runtime_error("nullptr after everything had been let go");
}

TEST(Explore, NullptrComesThoughSomebodyAlwaysHasSomethingInHand) {
  for (const std::size_t size : {std::size_t{40'000}, std::size_t{64}})
    explore_seeds(50, [&](const simt::explore_options& o) { ask_beside_a_juggler(o, size); });
}

TEST(Bounded, NobodyFailsBeforeAPageIsMarked) {
  // One warp has given the first page of a word, and has not told the levels above; another gives
  // the second, and needs one.
  explore_all(simt::bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(2, 20'000, 100);
    void *first = nullptr, *second = nullptr, *taken = nullptr;
    alone([&] {
      const auto page = [&] { return core::malloc_pages(h.view(), page_size); };
      first = page();
      second = page();
      if (page() != nullptr) throw std::runtime_error("a third page of two");
    });
    run_schedule(
        o, {simt::explored(1, 1, free_then_malloc, h.device(), second, std::size_t{128}, &taken),
            simt::explored(1, 1, free_pointer, h.device(), first)});
    if (taken == nullptr) throw std::runtime_error("nullptr with both pages free");
  });
}

TEST(Bounded, NobodyFailsWhileAPageComesBehindHisLook) {
  // One warp passes the first page, which is in use, and goes for the last ones, which were free
  // all the time. Before he has them another frees the first and then takes these. A third has not
  // told the levels above of them: they are seen by the very last look alone.
  explore_all(simt::bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(5, 20'000, 100);
    const heap_view& v = h.view();
    void *first = nullptr, *next = nullptr, *last = nullptr, *taken = nullptr;
    alone([&] {
      first = core::malloc_pages(v, 2 * page_size);
      next = core::malloc_pages(v, 2 * page_size);
      last = core::malloc_pages(v, page_size);
      if (core::malloc_pages(v, page_size) != nullptr) throw std::runtime_error("a sixth of five");
    });
    const auto behind_first = static_cast<page_index>((static_cast<std::byte*>(next) - v.base)
                                                      / static_cast<std::ptrdiff_t>(page_size));
    const auto free_and_take = [&] {
      h.device().free(first);
      if (core::claim_run(v, behind_first, 3)) core::keep_in_hand(v);
    };
    const auto free_and_malloc = [&] {
      h.device().free(last);
      taken = core::malloc_pages(v, page_size);
    };
    run_schedule(o, {freeing(h, next),
                     {{1, 1, 0}, free_and_malloc, "free and malloc"},
                     {{1, 1, 0}, free_and_take, "free and take"}});
    if (taken == nullptr) throw std::runtime_error("nullptr while a page was free at any time");
  });
}

TEST(Bounded, NobodyFailsForARunThatWasInHandDuringHisLook) {
  // The two pages are in another's hand when all words are read for them: that is no scan to go by
  // when they are back. A free of the last page has not told the levels above, so no other look
  // finds them.
  explore_all(simt::bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(5, 20'000, 100);
    const heap_view& v = h.view();
    const auto page_of = [&](const void* p) {
      return static_cast<page_index>((static_cast<const std::byte*>(p) - v.base)
                                     / static_cast<std::ptrdiff_t>(page_size));
    };
    void *two = nullptr, *last = nullptr, *taken = nullptr;
    alone([&] {
      two = core::malloc_pages(v, 2 * page_size);
      static_cast<void>(core::malloc_pages(v, 2 * page_size));
      last = core::malloc_pages(v, page_size);
      if (core::malloc_pages(v, page_size) != nullptr) throw std::runtime_error("a sixth of five");
      const page_index p = page_of(last);
      atomic::fetch_add<order::relaxed>(&v.state->stock_pages.value, std::uint64_t{1});
      atomic::fetch_or<order::release>(core::stock_of(v).word_address(p / 64),
                                       std::uint64_t{1} << (p % 64));
    });
    const page_index first = page_of(two);
    const auto free_and_malloc = [&] {
      h.device().free(two);
      taken = core::malloc_pages(v, 2 * page_size);
    };
    const auto put_back = [&] {
      if (core::claim_run(v, first, 3)) throw std::runtime_error("three pages of two");
    };
    run_schedule(
        o, {{{1, 1, 0}, free_and_malloc, "free and malloc"}, {{1, 1, 0}, put_back, "put back"}});
    if (taken == nullptr) throw std::runtime_error("nullptr for two pages that are free");
  });
}

TEST(Explore, NobodyFailsForARunThatIsPutBack) {
  // Who wants all of ten pages takes some before he finds that one has gone. If he fails for that,
  // there is room for five.
  explore_seeds(7'000, [](const simt::explore_options& o) {
    small_heap h(10, 20'000, 58);
    void *ten = nullptr, *five = nullptr, *one = nullptr;
    run_schedule(o, {allocating(h, 10 * page_size, &ten), allocating(h, 128, &one),
                     allocating(h, 5 * page_size, &five)});
    if (ten == nullptr && five == nullptr) throw std::runtime_error("nullptr for both of two runs");
  });
}

TEST(Bounded, NobodyFailsForAPageThatIsPutBack) {
  // Who wants both pages has one in hand when he finds the other gone.
  explore_all(simt::bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(2);
    void *two = nullptr, *one = nullptr;
    const auto take_one = [&] {
      if (core::take_pages(h.view(), 1) != 0) core::keep_in_hand(h.view());
    };
    run_schedule(
        o,
        {taking_pages(h, 2, &two), taking_pages(h, 1, &one), {{1, 1, 0}, take_one, "the third"}});
    if (two == nullptr && one == nullptr) throw std::runtime_error("nullptr for both of two");
  });
}

TEST(Bounded, NobodyFailsForAPageThatWasInHandForAMoment) {
  // An object that wants to grow in place takes the page behind it, and has put it back before the
  // other is through with his looks.
  explore_all(simt::bounded_by::preemptions, 3, [](const simt::explore_options& o) {
    small_heap h(1);
    void* one = nullptr;
    const auto put_back = [&] {
      if (core::claim_run(h.view(), 1, 2)) throw std::runtime_error("two pages of one");
    };
    run_schedule(o, {taking_pages(h, 1, &one), {{1, 1, 0}, put_back, "put back"}});
    if (one == nullptr) throw std::runtime_error("nullptr for the only page");
  });
}

TEST(Bounded, NobodyFailsForTheEndOfAnAlignedRun) {
  // The aligned object takes both pages and gives one back.
  explore_all(simt::bounded_by::preemptions, 1, [](const simt::explore_options& o) {
    small_heap h(2);
    void *aligned = nullptr, *one = nullptr;
    run_schedule(o, {{{1, 1, 0},
                      [&] { aligned = h.device().aligned_alloc(2 * page_size, page_size); },
                      "aligned"},
                     taking_pages(h, 1, &one)});
    if (one == nullptr) throw std::runtime_error("nullptr for a page of two");
  });
}

TEST(Bounded, NobodyFailsWhileASpanIsRetired) {
  // One object of a span of four slots is live. Whatever its free does with the span, two others
  // find room.
  explore_all(simt::bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(1);
    void *live = nullptr, *one = nullptr, *other = nullptr;
    alone([&] { live = h.device().malloc(64); });
    h.press();
    run_schedule(o, {freeing(h, live), allocating(h, 64, &one), allocating(h, 64, &other)});
    if (one == nullptr || other == nullptr)
      throw std::runtime_error("nullptr while more than one slot is free");
  });
}

TEST(Bounded, NobodyFailsWhileARetirementIsUndone) {
  // The same, while another takes a whole word before the retirement comes to it.
  explore_all(simt::bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(1);
    void *live = nullptr, *one = nullptr;
    alone([&] { live = h.device().malloc(64); });
    h.press();
    const auto take_two = [&] { core::claim_slots(h.view(), size_to_class(64), 2); };
    run_schedule(o,
                 {freeing(h, live), allocating(h, 64, &one), {{1, 1, 0}, take_two, "two slots"}});
    if (one == nullptr) throw std::runtime_error("nullptr while another slot is free");
  });
}

TEST(Bounded, NobodyFailsWhileAPageBecomesASpan) {
  // The last page is the class's second span: all have room in it.
  explore_all(simt::bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(2);
    void *one = nullptr, *other = nullptr;
    alone([&] {
      for (unsigned i = 0; i < 4; ++i) h.device().malloc(64);
    });
    run_schedule(o, {allocating(h, 64, &one), allocating(h, 64, &other)});
    if (one == nullptr || other == nullptr)
      throw std::runtime_error("nullptr while a page is free for both");
  });
}

TEST(Explore, ALongRunGetsWhatGoesHome) {
  // The surplus of the stock goes home while somebody asks the host for more than either has.
  explore_seeds(4'000, [](const simt::explore_options& o) {
    small_heap h(700, 50'000'000);
    h.serve();
    h.keep_in_stock(8);
    void *seven = nullptr, *most = nullptr;
    alone([&] { seven = h.device().malloc(7 * page_size); });
    run_schedule(o, {freeing(h, seven), taking_pages(h, 600, &most)},
                 {{[&] { return h.service().poll_once(); }}});
    if (most == nullptr) throw std::runtime_error("nullptr for 600 pages of 1,000");
  });
}

TEST(Explore, ALongRunIsHadThoughAnObjectMoves) {
  // An object moves from page 120 to page 690. Behind it or before it are 680 free pages at any
  // time, of which the host has the first or the last ones.
  explore_seeds(1'500, [](const simt::explore_options& o) {
    small_heap h(700, 50'000'000, 20);
    h.serve();
    const heap_view& v = h.view();
    const auto take_at = [&](page_index p) {
      if (!core::take_run(v, p, 1)) return;  // the run is there
      core::make_large(v, p, 1);
      core::keep_in_hand(v);
    };
    alone([&] { take_at(120); });
    void* run = nullptr;
    const auto move = [&] {
      __nanosleep(10 * static_cast<unsigned>(o.seed / 2 % 500));  // at any step of the other's look
      h.device().free(v.base + 120 * page_size);
      take_at(690);
    };
    run_schedule(o, {taking_pages(h, 680, &run), {{1, 1, 0}, move, "move"}},
                 {{[&] { return h.service().poll_once(); }}});
    if (run == nullptr) throw std::runtime_error("nullptr with 680 free pages at any time");
  });
}

TEST(Explore, ALongRunIsOfStockAndHost) {
  // Neither the stock nor the host has so many pages, both together have.
  explore_seeds(1'000, [](const simt::explore_options& o) {
    small_heap h(300, 50'000'000);
    h.serve();
    h.keep_in_stock(300);
    void* all = nullptr;
    run_schedule(o, {taking_pages(h, h.view().pages - 1, &all)},
                 {{[&] { return h.service().poll_once(); }}});
    if (all == nullptr) throw std::runtime_error("nullptr for all pages of an empty heap");
  });
}

}  // namespace
}  // namespace warpheap
