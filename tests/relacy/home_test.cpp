// Pages on their way home under a weak memory model: kernels send surplus pages (detail/home.cuh),
// the host takes them in (mailbox_server.hpp) and grants them anew.
//
// What is checked beside what is checked of the queue: the runs of a message are never written
// while the host reads them, no page comes home twice, and what the host has it may write to, with
// entries that say so.
#define WARPHEAP_SLOTS_PER_WORD 2

#include "relacy/scenario.hpp"
#include "relacy/weak_host.hpp"

namespace warpheap::weak {
namespace {

/// Pages of the host, some of which the device has in its stock when an execution begins. They lie
/// in two words of the bitmap.
struct pages_out {
  explicit pages_out(std::uint32_t lent)
      : heap({.first_page = 126, .pages = 0, .warp_slots = 3, .host_pages = 6, .timeout_ns = 2'000},
             {}),
        host(heap, 3),
        lent(lent) {
    heap.view().state->free_mailboxes.value = weak_host::free_at_rest;
    core::accept_pages(heap.view(), {heap.first_host_page(), lent});
  }

  /// Asks for pages when there are none, uses one, and gives it back.
  void use_a_page() {
    const heap_view& h = heap.view();
    core::post_stock_request(h, 1, core::stock_request_seen(h));
    core::poll_stock_reply(h);
    if (const page_index p = core::take_pages(h, 1)) {
      core::keep_in_hand(h);
      host.use({p, 1});
      core::release_pages(h, {p, 1});
    }
    yield();
  }

  /// Uses a page that is in hand, gives it back, and is done.
  void use_and_end(page_index page) {
    core::keep_in_hand(heap.view());
    host.use({page, 1});
    core::give_pages(heap.view(), {page, 1});
    host.device_is_done();
  }

  void check_at_rest() {
    host.check_at_rest();
    heap.check_at_rest();
  }

  weak_heap heap;
  weak_host host;
  std::uint32_t lent;
};

TEST(Home, SurplusIsGrantedAnew) {
  for (const std::uint32_t lent : {4u, 2u}) {
    pages_out p(lent);
    const auto device = [&](unsigned rounds) {
      return [&p, rounds] {
        for (unsigned r = 0; r < rounds; ++r) p.use_a_page();
        p.host.device_is_done();
      };
    };
    explore(20'000, {p.heap,
                     {device(3), device(2), [&] { p.host.serve(); }},
                     [&] { p.check_at_rest(); },
                     [&] { p.host.begin_execution(2, lent); }});
  }
}

TEST(Home, OneSenderAtATime) {
  // Nothing but senders, who find the box open, busy or closed.
  pages_out p(6);
  const auto sender = [&](page_index first) {
    return [&p, first] {
      for (unsigned r = 0; r < 3; ++r) {
        core::send_home(p.heap.view(), core::stock_to_keep(p.heap.view()));
        // A page that stays: the next message has two runs.
        if (core::claim_run(p.heap.view(), first, 1)) {
          p.host.use({first, 1});
          core::put_run(core::stock_of(p.heap.view()), first, 1);
          core::let_go(p.heap.view());
        }
        yield();
      }
      p.host.device_is_done();
    };
  };
  explore(20'000, {p.heap,
                   {sender(127), sender(130), sender(128), [&] { p.host.serve(); }},
                   [&] { p.check_at_rest(); },
                   [&] { p.host.begin_execution(3, 6); }});
}

TEST(Home, NobodyFailsWhilePagesAreOnTheirWay) {
  // The host had none when it was asked last; all pages are in the stock since. One thread sends
  // them home while another needs one, and a third looks at the stock.
  pages_out p(4);
  const_cast<heap_view*>(p.heap.view().self)->refill_timeout_ns = 1'000'000;
  p.heap.view().state->denied.value = 1;
  const auto sender = [&p] {
    for (unsigned r = 0; r < 2; ++r)
      core::send_home(p.heap.view(), core::stock_to_keep(p.heap.view()));
    p.host.device_is_done();
  };
  const auto taker = [&p] {
    const page_index first = core::get_pages(p.heap.view(), 1);
    if (first == 0) fail("no page while pages are on their way home");
    p.use_and_end(first);
  };
  const auto looker = [&p] {
    if (const page_index first = core::scan_stock(p.heap.view(), 1)) {
      core::give_pages(p.heap.view(), {first, 1});
      core::let_go(p.heap.view());
    }
    p.host.device_is_done();
  };
  explore(30'000, {p.heap,
                   {sender, taker, looker, [&] { p.host.serve(); }},
                   [&] { p.check_at_rest(); },
                   [&] { p.host.begin_execution(3, 4); }});
}

TEST(Home, ADenialOfAnEarlierEpochIsNoAnswer) {
  // A warp reads that the host has no page. Before it tells the others, one of them sends pages
  // home and then needs one.
  pages_out p(6);
  const_cast<heap_view*>(p.heap.view().self)->refill_timeout_ns = 1'000'000;
  const auto reader = [&p] {
    core::post_stock_request(p.heap.view(), 1, core::stock_request_seen(p.heap.view()));
    for (unsigned look = 0; look < 3; ++look) {
      core::poll_stock_reply(p.heap.view());
      yield();
    }
    p.host.device_is_done();
  };
  const auto sender = [&p] {
    core::send_home(p.heap.view(), core::stock_to_keep(p.heap.view()));
    const page_index first = core::get_pages(p.heap.view(), 1);
    if (first == 0) fail("no page though all went home before");
    p.use_and_end(first);
  };
  explore(30'000, {p.heap,
                   {reader, sender, [&] { p.host.serve(); }},
                   [&] { p.check_at_rest(); },
                   [&] { p.host.begin_execution(2, 6); }});
}

TEST(Home, WhoGoesByTheScanOfAnotherSeesWhatItSaw) {
  // The same with two looks at the stock and nothing around them: when pages have gone from it, the
  // host's denial is none.
  pages_out p(2);
  p.heap.view().state->denied.value = 1;
  const auto looker = [&p] {
    const heap_view& h = p.heap.view();
    const std::uint64_t seen = core::gives_so_far(h);
    if (const page_index first = core::scan_stock(h, 1)) {
      core::give_pages(h, {first, 1});
      core::let_go(h);
    } else if (core::denied(h, 1) && core::gives_so_far(h) == seen) {
      fail("denied while pages are on their way home");
    }
    p.host.device_is_done();
  };
  const auto sender = [&p] {
    core::send_home(p.heap.view(), core::stock_to_keep(p.heap.view()));
    p.host.device_is_done();
  };
  explore(20'000, {p.heap,
                   {sender, looker, looker, [&] { p.host.serve(); }},
                   [&] { p.check_at_rest(); },
                   [&] { p.host.begin_execution(3, 2); }});
}

}  // namespace
}  // namespace warpheap::weak
