// Explorations of the refill: the service is an actor that is slow, stops, and comes back.
#define WARPHEAP_SLOTS_PER_WORD 2

#include "explore.cuh"

namespace warpheap {
namespace {

TEST(Explore, TheServiceGrantsPagesToWarpsThatGiveUp) {
  explore_seeds(5'000, [](const simt::explore_options& o) {
    // The limit is a few steps: requests are answered before, at and after it.
    small_heap h(1, 200 + o.seed % 16 * 150);
    h.serve();
    const std::vector<simt::actor> actors = {
        {[&] { return h.service().poll_once(); }, o.seed % 4 == 0}};
    run_schedule(o,
                 {churning(h, 2, 128, 2, 2), churning(h, 2, std::size_t{5} << 20, 2, 1),
                  churning(h, 1, std::size_t{6} << 20, 3, 1), churning(h, 1, 50'000, 2, 2)},
                 actors);
    settle(h);
    h.check_at_rest();
  });
}

TEST(Explore, TheServiceClosesAMailboxBeforeItsNextRound) {
  explore_seeds(4'500, [](const simt::explore_options& o) {
    small_heap h(0, 100 + o.seed % 16 * 40);
    h.serve();
    // One mailbox for both warps: rounds that were given up are at once in the way of the next.
    h.view().state->free_mailboxes.value = 2;
    const std::vector<simt::actor> actors = {
        {[&] { return h.service().poll_once(); }, o.seed % 4 == 0}};
    run_schedule(
        o, {churning(h, 1, std::size_t{5} << 20, 4, 1), churning(h, 1, std::size_t{6} << 20, 4, 1)},
        actors);
    settle(h);
    h.view().state->free_mailboxes.value |= ~std::uint64_t{1};
    h.check_at_rest();
  });
}

TEST(Explore, NumbersOfRoundsWrapAround) {
  explore_seeds(3'000, [](const simt::explore_options& o) {
    small_heap h(24, 1'000, 100);
    h.serve();
    h.keep_in_stock(2);
    // As after four billion rounds.
    const std::uint32_t last = ~std::uint32_t{0} - static_cast<std::uint32_t>(o.seed % 3);
    device_state& s = *h.view().state;
    refill_queue& q = *h.view().queue;
    for (unsigned box = 0; box < mailboxes; ++box) {
      s.mailbox_seq[box] = q.request[box].seq = q.reply[box].seq = q.closed[box] = last;
      q.ack[box].bits = refill_ack::make(last, false);
    }
    q.home.seq = q.home_closed = q.host_epoch = last;
    s.stock_request.value = core::request_state(stock_phase::idle, last);
    s.home_request.value = core::request_state(stock_phase::idle, last);
    run_schedule(o,
                 {churning(h, 2, 50'000, 3, 2), churning(h, 2, std::size_t{5} << 20, 3, 1),
                  churning(h, 1, std::size_t{5} << 20, 3, 1), churning(h, 2, 128, 2, 2)},
                 {{[&] { return h.service().poll_once(); }, o.seed % 4 == 0}});
    settle(h);
    h.check_at_rest();
  });
}

TEST(Explore, TheServiceDiesAtAnyMoment) {
  explore_seeds(4'500, [](const simt::explore_options& o) {
    small_heap h(1, 3'000);
    h.serve();
    unsigned polls = 1 + static_cast<unsigned>(o.seed % 7);
    const std::vector<simt::actor> actors = {
        {[&] { return polls > 0 && (--polls, h.service().poll_once()); }, o.seed % 4 == 0}};
    const std::vector<simt::explored_kernel> kernels = {churning(h, 2, 128, 2, 2),
                                                        churning(h, 2, std::size_t{5} << 20, 2, 1)};
    run_schedule(o, kernels, actors);
    settle(h);
    h.check_at_rest();
    // A new service finds a heap that works.
    polls = 1'000'000;
    run_schedule(o, kernels, actors);
    settle(h);
    h.check_at_rest();
  });
}

TEST(Bounded, WarpsThatWaitTogetherAskOnce) {
  explore_all(simt::bounded_by::preemptions, 1, [](const simt::explore_options& o) {
    small_heap h(0, 50'000'000);
    h.serve();
    // A short grant: each of its pages is a step.
    const std::uint32_t all = h.view().pages - 1;
    static_cast<void>(h.host().take_device_pages(all - 4, all - 4));
    const std::uint64_t before = core::stock_request_seen(h.view());
    unsigned served = 0;
    const auto wait = [&] {
      if (core::await_pages(h.view(), 1, before) == 0) return;
      core::keep_in_hand(h.view());
      ++served;
    };
    run_schedule(o, {{{1, 1, 0}, wait, "one"}, {{1, 1, 0}, wait, "the other"}},
                 {{[&] { return h.service().poll_once(); }}});
    require(served == 2, "no page though the host had four");
    require(h.view().state->host_requests.value == 1, "asked more than once");
  });
}

/// Takes the one page of the stock and gives it back, until the other has what he asks for.
__global__ void take_and_give_a_page(device_heap heap, const std::uint32_t* done,
                                     std::uint32_t* rounds) {
  const heap_view& h = *heap.view.self;
  while (*rounds < 5'000 && atomic::load<order::relaxed>(done) == 0) {
    if (const page_index p = core::take_pages(h, 1)) {
      core::keep_in_hand(h);
      core::give_pages(h, {p, 1});
    }
    ++*rounds;
    __nanosleep(32);
  }
}

TEST(Explore, ARunIsAskedForWhileSinglePagesComeAndGo) {
  explore_seeds(200, [](const simt::explore_options& o) {
    small_heap h(1, 50'000'000);
    h.serve();
    page_index two = 0;
    std::uint32_t done = 0, rounds = 0;
    const auto wait = [&] {
      // Somebody had asked when he came, and has had his answer.
      two = core::await_pages(h.view(), 2, core::request_state(stock_phase::posted, 0));
      if (two != 0) core::keep_in_hand(h.view());
      atomic::store<order::relaxed>(&done, 1u);
    };
    run_schedule(o,
                 {{{1, 1, 0}, wait, "wait"},
                  simt::explored(1, 1, take_and_give_a_page, h.device(), &done, &rounds)},
                 {{[&] { return h.service().poll_once(); }}});
    require(two != 0, "no two pages with a heap of them on the host");
    require(rounds < 5'000, "two pages came only after all was quiet");
  });
}

/// Takes five pages and gives them back, until the other has what he asks for.
__global__ void take_and_give_five_pages(device_heap heap, const std::uint32_t* done,
                                         std::uint32_t* rounds) {
  while (*rounds < 5'000 && atomic::load<order::relaxed>(done) == 0) {
    heap.free(heap.malloc(5 * page_size));
    ++*rounds;
    __nanosleep(32);
  }
}

TEST(Explore, WhatAWarpWaitsForDoesNotGoHome) {
  explore_seeds(100, [](const simt::explore_options& o) {
    // The last page is in use: what comes from the host makes no run with what is in the stock, and
    // is the highest of more than that keeps.
    small_heap h(420, 1'000'000);
    h.serve();
    h.keep_in_stock(512);
    alone([&] {
      if (!core::take_run(h.view(), 420, 1)) return;
      core::make_large(h.view(), 420, 1);
      core::keep_in_hand(h.view());
    });
    void* run = nullptr;
    std::uint32_t done = 0, rounds[2] = {};
    const auto wait = [&] {
      run = core::malloc_pages(h.view(), 500 * page_size);
      atomic::store<order::relaxed>(&done, 1u);
    };
    run_schedule(o,
                 {{{1, 1, 0}, wait, "wait"},
                  simt::explored(1, 1, take_and_give_five_pages, h.device(), &done, rounds),
                  simt::explored(1, 1, take_and_give_five_pages, h.device(), &done, rounds + 1)},
                 {{[&] { return h.service().poll_once(); }}});
    require(run != nullptr, "nullptr for a run that the host has");
    require(h.view().state->host_requests.value == 1, "asked again for what had come");
    require(h.view().state->home_pages.value == 0, "what came went home");
    alone([&] {
      h.device().free(run);
      h.device().free(h.view().base + 420 * page_size);
    });
    require(h.view().state->home_pages.value != 0, "the surplus stays when nobody waits");
    settle(h);
    h.check_at_rest();
  });
}

TEST(Explore, AWaitIsUnansweredIfNoAnswerCame) {
  explore_seeds(200, [](const simt::explore_options& o) {
    constexpr std::uint64_t limit_ns = 300'000;
    small_heap h(0, limit_ns);
    h.serve();
    const heap_view& v = h.view();
    // Somebody has asked for a page, and the service may answer him while a warp waits for more;
    // not what that asks for, before its time is up.
    const bool answers = o.seed / 2 % 2 == 0;
    core::write_request(v.queue->request[stock_mailbox], 1, 1, 1);
    v.state->stock_request.value = core::request_state(stock_phase::posted, 1);
    bool late = false;
    const auto serves = [&] {
      return late
             || (answers && v.state->waiting.value != 0
                 && v.queue->request[stock_mailbox].seq == 1);
    };
    page_index one = 0, other = 0;
    std::uint64_t took = 0;
    const auto ask_twice = [&] {
      one = core::get_pages(v, 500);
      late = answers;
      const std::uint64_t begin = core::now_ns();
      other = core::get_pages(v, 500);
      took = core::now_ns() - begin;
    };
    run_schedule(o, {{{1, 1, 0}, ask_twice, "ask twice"}},
                 {{[&] { return serves() && h.service().poll_once(); }}});
    require(one == 0, "who was not answered has a run");
    if (answers)
      require(other != 0, "nullptr though the service answers");
    else
      require(other == 0 && took < limit_ns / 2, "waits again for a service that does not answer");
  });
}

TEST(Explore, SurplusPagesGoHomeOnce) {
  explore_seeds(6'000, [](const simt::explore_options& o) {
    small_heap h(24, 3'000, 100);
    h.serve();
    h.keep_in_stock(1 + static_cast<std::uint32_t>(o.seed % 5));
    // The service is as slow as the schedule makes it, and sometimes dies.
    unsigned polls = o.seed % 4 == 0 ? 3 : 1'000'000;
    const std::vector<simt::actor> actors = {
        {[&] { return polls > 0 && (--polls, h.service().poll_once()); }}};
    run_schedule(
        o, {churning(h, 2, 50'000, 2, 1), churning(h, 1, 40'000, 3, 2), churning(h, 2, 128, 2, 2)},
        actors);
    settle(h);
    h.check_at_rest();
  });
}

/// Goes as far as to become the sender of a message home, and is aborted there.
__global__ void die_as_sender(device_heap heap) {
  std::uint64_t* state = &heap.view.state->home_request.value;
  atomic::store<order::relaxed>(state, core::busy_now(0));
}

struct attempt {
  std::uint64_t began, took;
  bool failed;
};
__global__ void keep_asking(device_heap heap, std::vector<attempt>* attempts, unsigned n) {
  for (unsigned i = 0; i < n; ++i) {
    const std::uint64_t began = core::now_ns();
    const bool failed = heap.malloc(128) == nullptr;
    attempts->push_back({began, core::now_ns() - began, failed});
    // Past the pause after an answer that did not come.
    for (int j = 0; j < 25; ++j) __nanosleep(100'000);
  }
}

TEST(Explore, ASenderThatDiesHoldsMallocsUpForALittleWhileOnly) {
  explore_seeds(30, [](const simt::explore_options& o) {
    constexpr std::uint64_t limit_ns = 3'000'000;
    small_heap h(0, limit_ns);
    h.serve();
    const std::uint32_t all = h.view().pages - 1;
    const page_run taken = h.host().take_device_pages(all, all);
    simt::explore({}, {simt::explored(1, 1, die_as_sender, h.device())});
    std::vector<attempt> attempts;
    run_schedule(o, {simt::explored(1, 1, keep_asking, h.device(), &attempts, 12u)},
                 {{[&] { return h.service().poll_once(); }, false}});
    h.host().give_back_device_pages(taken);
    unsigned long_waits = 0;
    for (const attempt& a : attempts) {
      if (!a.failed) throw std::runtime_error("an object out of nothing");
      const bool waited = a.took > limit_ns / 2;
      long_waits += waited;
      if (waited && a.began > (core::aborted_after + 1) * limit_ns)
        throw std::runtime_error("a malloc still waits for a sender that is dead");
    }
    if (long_waits == 0) throw std::runtime_error("no malloc waited for the sender at all");
  });
}

TEST(Explore, ADenialIsAnAnswerThoughTheEpochHasMoved) {
  explore_seeds(2'000, [](const simt::explore_options& o) {
    small_heap h(0, 1'000'000);
    h.serve();
    const std::uint32_t all = h.view().pages - 1;
    const page_run taken = h.host().take_device_pages(all, all);
    const simt::actor service{[&] {
                                const bool served = h.service().poll_once();
                                h.service().pages_came_free();  // as far as anybody knows
                                return served;
                              },
                              false};
    void *a = nullptr, *b = nullptr;
    const std::vector<simt::explored_kernel> kernels = {
        simt::explored(1, 1, malloc_one, h.device(), std::size_t{128}, &a),
        simt::explored(1, 1, malloc_one, h.device(), std::size_t{50'000}, &b)};
    const simt::exploration run = simt::explore(o, kernels, {service});
    tally::get().add(run);
    h.host().give_back_device_pages(taken);
    if (a != nullptr || b != nullptr) throw std::runtime_error("an object out of nothing");
    if (run.virtual_ns > 200'000)
      throw std::runtime_error("nullptr after " + std::to_string(run.virtual_ns)
                               + " ns, as if nobody had answered");
    settle(h);
    h.check_at_rest();
  });
}

TEST(Explore, ADenialOfHalfTheEpochsAgoIsNoAnswer) {
  explore_seeds(1'000, [](const simt::explore_options& o) {
    constexpr std::uint32_t ago[] = {1, 1000, 0x7fffffff, 0x80000001, 0x80001000, 0xf0000000};
    small_heap h(0, 1'000'000);
    h.serve();
    const std::uint32_t then = 5;
    h.view().state->denied.value = std::uint64_t{then} << 32 | 1;
    h.view().queue->host_epoch = then + ago[o.seed % 6];
    void* a = nullptr;
    const simt::actor service{[&] { return h.service().poll_once(); }, false};
    run_schedule(o, {simt::explored(1, 1, malloc_one, h.device(), std::size_t{128}, &a)},
                 {service});
    if (a == nullptr)
      throw std::runtime_error("all pages free, denied " + std::to_string(ago[o.seed % 6])
                               + " epochs ago");
  });
}

TEST(Explore, WhatNobodyTookIsNotDenied) {
  explore_seeds(2'000, [](const simt::explore_options& o) {
    small_heap h(0, 1'000'000);
    h.serve();
    // A warp asked for all pages and gave up just before they were granted. It has said so.
    const std::uint32_t all = h.view().pages - 1;
    refill_queue& q = *h.view().queue;
    device_state& s = *h.view().state;
    s.mailbox_seq[7] = 1;
    core::write_request(q.request[7], all, all, 1);
    h.service().poll_once();
    require(q.reply[7].seq == 1 && q.reply[7].count == all, "not granted");
    q.ack[7].bits = refill_ack::make(1, false);
    // Nobody has a page. One is asked for.
    void* a = nullptr;
    const simt::actor service{[&] { return h.service().poll_once(); }, false};
    run_schedule(o, {simt::explored(1, 1, malloc_one, h.device(), std::size_t{128}, &a)},
                 {service});
    if (a == nullptr) throw std::runtime_error("nullptr with all pages free");
  });
}

TEST(Explore, ADenialEndsWhenADeclinedGrantComesBack) {
  explore_seeds(7'000, [](simt::explore_options o) {
    o.how = simt::strategy::random;
    small_heap h(0, 3'000);
    h.serve();
    unsigned calls = 0;
    const unsigned patience = static_cast<unsigned>(o.seed % 200);
    const simt::actor slow_service{[&] { return calls++ < patience || h.service().poll_once(); },
                                   false};
    void *a = nullptr, *b = nullptr, *c = nullptr;
    run_schedule(o,
                 {simt::explored(1, 1, malloc_one, h.device(), 700 * page_size, &a),
                  simt::explored(1, 1, malloc_one, h.device(), 400 * page_size, &b)},
                 {slow_service});
    settle(h);
    if (a != nullptr || b != nullptr) return;
    // Nothing is live. Past every pause, memory can be had.
    alone([] {
      for (int i = 0; i < 30; ++i) __nanosleep(100'000);
    });
    simt::explore({}, {simt::explored(1, 1, malloc_one, h.device(), 400 * page_size, &c)},
                  {slow_service});
    if (c == nullptr) throw std::runtime_error("denied with the whole heap free");
  });
}

/// Asks for n pages, as the holder of a mailbox does.
void ask_for(small_heap& h, unsigned box, std::uint32_t n) {
  refill_queue& q = *h.view().queue;
  core::write_request(q.request[box], n, n, q.reply[box].seq + 1);
}
/// What was granted; {0, 0} if nothing was. The box can be used again.
page_run take_answer(small_heap& h, unsigned box) {
  refill_queue& q = *h.view().queue;
  require(q.reply[box].seq == q.request[box].seq, "nobody has answered");
  const page_run run{q.reply[box].first, q.reply[box].count};
  q.ack[box].bits = refill_ack::make(q.reply[box].seq, run.count != 0);
  return run.count != 0 ? run : page_run{};
}

TEST(Service, TheStockComesBeforeEachLargeRequest) {
  small_heap h(0);
  const std::uint32_t large = 2 * chunk_pages / 5;
  for (const unsigned box : {7u, 9u}) ask_for(h, box, large);
  // While the first of them is served the stock runs dry.
  bool asked = false;
  const std::function<bool()> meanwhile = [&] {
    if (!std::exchange(asked, true)) ask_for(h, stock_mailbox, 3);
    return false;
  };
  h.refuse_memory_when(meanwhile);
  EXPECT_TRUE(h.service().poll_once());
  ASSERT_TRUE(asked);
  // Pages are granted from the lowest on: their addresses say in which order.
  const page_run first = take_answer(h, 7), stock = take_answer(h, stock_mailbox),
                 second = take_answer(h, 9);
  EXPECT_LT(first.first, stock.first);
  EXPECT_LT(stock.first, second.first);
  h.service().poll_once();
  for (const page_run run : {first, stock, second}) h.host().give_back_device_pages(run);
}

TEST(Service, PagesOnTheirWayHomeComeBeforeADenial) {
  small_heap h(0);
  const page_run lent = h.host().take_device_pages(900, 900);
  ASSERT_EQ(lent.count, 900u);
  ask_for(h, 7, 10);
  ask_for(h, 9, 600);
  // While the first of them is served, and after this pass has looked for messages, a kernel sends
  // its pages home.
  bool sent = false;
  const std::function<bool()> meanwhile = [&] {
    if (!std::exchange(sent, true)) {
      home_message& home = h.view().queue->home;
      home.runs[0] = lent;
      home.count = 1;
      ++home.seq;
    }
    return false;
  };
  h.refuse_memory_when(meanwhile);
  EXPECT_TRUE(h.service().poll_once());
  ASSERT_TRUE(sent);
  const page_run first = take_answer(h, 7), second = take_answer(h, 9);
  EXPECT_EQ(first.count, 10u);
  EXPECT_EQ(second.count, 600u);
  h.service().poll_once();
  for (const page_run run : {first, second})
    if (run.count != 0) h.host().give_back_device_pages(run);
}

TEST(Service, LargeRequestsTakeTurns) {
  small_heap h(0);
  const unsigned boxes[] = {1, 2, 3};
  unsigned denied[mailboxes] = {};
  for (int pass = 0; pass < 6; ++pass) {
    for (const unsigned box : boxes) ask_for(h, box, 400);  // there is room for two
    h.service().poll_once();
    std::vector<page_run> runs;
    for (const unsigned box : boxes) {
      runs.push_back(take_answer(h, box));
      denied[box] += runs.back().count == 0;
    }
    h.service().poll_once();
    for (const page_run run : runs)
      if (run.count != 0) h.host().give_back_device_pages(run);
  }
  for (const unsigned box : boxes) {
    EXPECT_GT(denied[box], 0u) << box;
    EXPECT_LT(denied[box], 6u) << box;
  }
}

}  // namespace
}  // namespace warpheap
