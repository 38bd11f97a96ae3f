// Explorations of how waits end: at their limit, with a last look after it; and of lanes that wait
// for each other where a loop ends, as those of a warp do on a GPU.
#define WARPHEAP_SLOTS_PER_WORD 2

#include "explore.cuh"

namespace warpheap {
namespace {

constexpr std::uint64_t limit_ns = 3'000;

/// Somewhere in the sleep of a waiter during which its limit passes.
std::uint64_t late_moment(const simt::explore_options& o) { return 2'000 + o.seed % 20 * 50; }

/// A warp that waits by `wait`, and a service that answers so late; whether it answered in time.
bool answered_late(const simt::explore_options& o, small_heap& h,
                   const std::function<void()>& wait) {
  h.serve();
  std::uint64_t begin = 0, answered = 0;
  const auto waiting = [&] {
    begin = core::now_ns();
    wait();
  };
  const auto serve = [&] {
    if (begin == 0 || answered != 0 || core::now_ns() - begin < late_moment(o)) return false;
    answered = core::now_ns();
    return h.service().poll_once();
  };
  run_schedule(o, {{{1, 1, 0}, waiting, "wait"}}, {{serve}});
  return answered != 0 && answered - begin <= limit_ns;
}

TEST(Explore, AReplyThatCameInTimeIsTaken) {
  unsigned in_time = 0;
  explore_seeds(300, [&](const simt::explore_options& o) {
    small_heap h(0, limit_ns);
    page_run run{};
    if (!answered_late(o, h, [&] { run = core::request_run(h.view(), 2, {1, h.view().pages}); }))
      return;
    ++in_time;
    require(run.count == 2, "a run that was granted in time is declined");
  });
  EXPECT_GT(in_time, 0u);
}

TEST(Explore, PagesThatCameInTimeAreFound) {
  unsigned in_time = 0;
  explore_seeds(300, [&](const simt::explore_options& o) {
    small_heap h(0, limit_ns);
    page_index page = 0;
    if (!answered_late(o, h, [&] {
          page = core::await_pages(h.view(), 1, core::stock_request_seen(h.view()));
        }))
      return;
    ++in_time;
    require(page != 0, "nullptr for pages that were granted in time");
  });
  EXPECT_GT(in_time, 0u);
}

TEST(Explore, WhatWasLetGoInTimeIsFound) {
  unsigned in_time = 0;
  explore_seeds(300, [&](const simt::explore_options& o) {
    small_heap h(1, limit_ns);
    const heap_view& v = h.view();
    page_index held = 0;
    alone([&] { held = core::take_pages(v, 1); });
    std::uint64_t begin = 0, let_go = 0;
    void* page = nullptr;
    const auto wait = [&] {
      begin = core::now_ns();
      page = core::malloc_pages(v, page_size);
    };
    const auto put_back = [&] {
      while (begin == 0 || core::now_ns() - begin < late_moment(o)) __nanosleep(50);
      core::put_back(v, {held, 1});
      let_go = core::now_ns();
    };
    run_schedule(o, {{{1, 1, 0}, wait, "wait"}, {{1, 1, 0}, put_back, "put back"}});
    if (let_go - begin > limit_ns) return;
    ++in_time;
    require(page != nullptr, "nullptr for a page that was let go in time");
  });
  EXPECT_GT(in_time, 0u);
}

/// A service that answers one request at a time, each after most of a wait's limit.
struct slow_service {
  static constexpr std::uint64_t limit_ns = 40'000;  // many looks long

  small_heap& h;
  std::uint64_t delay_ns;
  std::uint64_t last = 0;
  bool punctual = true;  ///< never as late as a schedule can make it

  bool operator()() {
    const refill_queue& q = *h.view().queue;
    const auto waits = [&](unsigned box) { return q.request[box].seq != q.reply[box].seq; };
    // Else it may have to close a round.
    const bool is_asked = waits(stock_mailbox) || waits(1);
    const std::uint64_t now = core::now_ns();
    if (is_asked && now - last < delay_ns) return false;
    if (!h.service().poll_once()) return false;
    if (is_asked) {
      punctual = punctual && now - last < limit_ns - 9'000;  // two looks before it
      last = now;
    }
    return true;
  }
};

TEST(Explore, AWaitForAMailboxLastsWhileTheHostServesOthers) {
  unsigned punctual = 0;
  explore_seeds(300, [&](const simt::explore_options& o) {
    small_heap h(0, slow_service::limit_ns);
    h.serve();
    h.view().state->free_mailboxes.value = 0b10;
    slow_service service{h, 25'000 + o.seed % 5 * 1'000};
    std::vector<page_run> runs;
    const auto ask = [&] { runs.push_back(core::request_run(h.view(), 2, {1, h.view().pages})); };
    const simt::explored_kernel warp{{1, 1, 0}, ask, "ask"};
    run_schedule(o, {warp, warp, warp, warp}, {{[&] { return service(); }}});
    require(runs.size() == 4, "a warp is missing");
    if (!service.punctual) return;
    ++punctual;
    for (const page_run& run : runs) require(run.count == 2, "no run though the host serves");
  });
  EXPECT_GT(punctual, 0u);
}

TEST(Explore, AWaitForPagesLastsWhileTheHostServesOthers) {
  unsigned punctual = 0;
  explore_seeds(300, [&](const simt::explore_options& o) {
    small_heap h(0, slow_service::limit_ns);
    h.serve();
    slow_service service{h, 25'000 + o.seed % 5 * 1'000};
    page_index found[2] = {};
    const auto wait = [&](page_index& mine) {
      mine = core::await_pages(h.view(), 400, core::stock_request_seen(h.view()));
      if (mine != 0) core::keep_in_hand(h.view());
    };
    run_schedule(o,
                 {{{1, 1, 0}, [&] { wait(found[0]); }, "one"},
                  {{1, 1, 0}, [&] { wait(found[1]); }, "the other"}},
                 {{[&] { return service(); }}});
    if (!service.punctual) return;
    ++punctual;
    require(found[0] != 0 && found[1] != 0, "no pages though the host serves");
  });
  EXPECT_GT(punctual, 0u);
}

TEST(Explore, AWaitEndsThoughTheHostServesOthersForGood) {
  explore_seeds(30, [](const simt::explore_options& o) {
    small_heap h(0, limit_ns);
    h.serve();
    const heap_view& v = h.view();
    v.state->free_mailboxes.value = 0;
    page_run run{1, 1};
    std::uint64_t took = 0;
    const auto ask = [&] {
      const std::uint64_t begin = core::now_ns();
      run = core::request_run(v, 2, {1, v.pages});
      took = core::now_ns() - begin;
    };
    run_schedule(o, {{{1, 1, 0}, ask, "ask"}}, {{[&] {
                   core::count(v.state->host_served);
                   return true;
                 }}});
    require(run.count == 0, "a run without a mailbox");
    require(took > core::most_limits * limit_ns, "it ended early");
    require(took < (core::most_limits + 4) * limit_ns, "it ended late");
  });
}

/// Does `step` until it answers true. After each one the two lanes of the warp wait for each other.
template <class Step>
__device__ void meet_after_each(Step&& step) {
  for (bool over = false; __any_sync(3, !over) != 0;) {
    over = over || step();
    if (!over) __nanosleep(64);
  }
}

TEST(Explore, LanesThatMeetHoldNoMailbox) {
  // As many mailboxes as warps. If each lane of a warp that has one kept it until its sibling has
  // one too, nobody would ask.
  explore_seeds(1'500, [](const simt::explore_options& o) {
    small_heap h(0, 50'000'000);
    h.serve();
    h.view().state->free_mailboxes.value = 0b1110;
    std::vector<page_run> runs;
    const auto ask = [&] {
      core::run_request r{2, {1, h.view().pages}, core::begin_host_wait(h.view()), lane_id()};
      meet_after_each([&] { return core::try_request(h.view(), r); });
      runs.push_back(r.run);
    };
    const simt::explored_kernel warp{{1, 2, 0}, ask, "ask"};
    const simt::exploration run =
        simt::explore(o, {warp, warp, warp}, {{[&] { return h.service().poll_once(); }}});
    tally::get().add(run);
    for (const page_run& had : runs) require(had.count == 2, "no run though the host has many");
    require(runs.size() == 6, "lanes are missing");
    require(run.virtual_ns < 1'000'000, "a request waited for its limit");
  });
}

TEST(Explore, LanesThatMeetHaveNothingInHand) {
  // One lane's run has both pages. Its end is the other's page, whichever comes first.
  explore_seeds(1'500, [](const simt::explore_options& o) {
    small_heap h(2, 50'000'000);
    void* objects[2] = {};
    const auto look = [&] {
      const std::uint32_t n = lane_id() + 1;
      core::run_search s{
          {core::begin_host_wait(h.view()), core::gives_so_far(h.view()), 0, 0}, n, 1, page_size};
      meet_after_each([&] { return core::look_once(h.view(), s); });
      objects[lane_id()] = s.object;
    };
    const simt::exploration run = simt::explore(o, {{{1, 2, 0}, look, "look"}});
    tally::get().add(run);
    require(run.virtual_ns < 1'000'000, "a lane waited for its limit");
    require(objects[0] != nullptr, "nullptr for a page of two");
  });
}

}  // namespace
}  // namespace warpheap
