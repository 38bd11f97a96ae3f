// The queue between kernels and the refill service under a weak memory model: the device's side of
// detail/refill.cuh in two or three threads, the host's side of mailbox_server.hpp in the last.
//
// What is checked beside what is checked of the spans: words that the rounds hand over (numbers of
// a request, run of a reply, a mailbox's last seq) are never used by two threads without an order,
// nor are the bytes of pages that change sides; a granted run has the length that was asked for;
// and at the end each page has one owner and each mailbox is free.
#define WARPHEAP_SLOTS_PER_WORD 2

#include "relacy/scenario.hpp"
#include "relacy/weak_host.hpp"

namespace warpheap::weak {
namespace {

/// Asks for runs of its own, of these lengths, and keeps what it gets.
struct waiter {
  weak_heap& heap;
  weak_host& host;
  std::uint32_t lengths[2];
  page_run got[2] = {};

  void run() {
    for (unsigned i = 0; i < 2; ++i) {
      got[i] = core::request_run(heap.view(), lengths[i], {1, heap.view().pages});
      if (got[i].count == 0) continue;
      if (got[i].count != lengths[i]) fail("a run of another length than was asked for");
      host.use(got[i]);
    }
    host.device_is_done();
  }
};

/// Two waiters at one mailbox, and a service that dies after so many looks.
void explore_waiters(std::uint64_t executions, std::uint64_t timeout_ns, unsigned looks = ~0u) {
  weak_heap h({.pages = 0, .warp_slots = 3, .host_pages = 8, .timeout_ns = timeout_ns}, {});
  h.view().state->free_mailboxes.value = weak_host::free_at_rest;
  weak_host host(h, 8);
  waiter a{h, host, {2, 3}}, b{h, host, {1, 2}};
  explore(executions, {h,
                       {[&] { a.run(); }, [&] { b.run(); }, [&] { host.serve(looks); }},
                       [&] {
                         const page_run held[] = {a.got[0], a.got[1], b.got[0], b.got[1]};
                         host.check_at_rest(held);
                       },
                       [&] {
                         host.begin_execution(2);
                         for (waiter* w : {&a, &b}) w->got[0] = w->got[1] = {};
                       }});
}

TEST(Queue, WaitersTakeTurnsAtOneMailbox) {
  for (const std::uint64_t timeout_ns : {100u, 400u, 2000u}) explore_waiters(20'000, timeout_ns);
}

TEST(Queue, TheServiceDiesAtAnyLook) {
  for (unsigned looks = 0; looks < 8; ++looks) explore_waiters(5'000, 200, looks);
}

TEST(Queue, WarpsRefillTheStock) {
  for (const std::uint64_t timeout_ns : {100u, 2000u}) {
    weak_heap h({.pages = 0, .warp_slots = 3, .host_pages = 6, .timeout_ns = timeout_ns},
                {size_to_class(128)});
    h.view().state->free_mailboxes.value = weak_host::free_at_rest;
    weak_host host(h, 2);
    const auto churn = [&](unsigned rounds, unsigned keep) {
      return [&h, &host, rounds, keep] {
        void* mine[4] = {};
        for (unsigned r = 0; r < rounds; ++r) {
          for (unsigned k = 0; k < keep; ++k) mine[k] = h.take(128);
          for (unsigned k = 0; k < keep; ++k) h.give(mine[k], 128);
        }
        host.device_is_done();
      };
    };
    explore(10'000, {h,
                     {churn(1, 4), churn(2, 2), [&] { host.serve(); }},
                     [&] {
                       host.check_at_rest();
                       h.check_at_rest();
                     },
                     [&] { host.begin_execution(2); }});
  }
}

TEST(Queue, PagesGoStraightFromAReplyIntoTheStock) {
  // Three holders of the stock's mailbox in turn, with nothing around them: posts and looks.
  weak_heap h({.pages = 0, .warp_slots = 3, .host_pages = 4}, {});
  h.view().state->free_mailboxes.value = weak_host::free_at_rest;
  weak_host host(h, 2);
  const auto holder = [&](std::uint32_t least) {
    return [&h, &host, least] {
      for (unsigned i = 0; i < 3; ++i) {
        core::post_stock_request(h.view(), least, core::stock_request_seen(h.view()));
        core::poll_stock_reply(h.view());
        if (const page_index p = core::take_pages(h.view(), 1)) {
          core::keep_in_hand(h.view());
          host.use({p, 1});
          core::give_pages(h.view(), {p, 1});
        }
        yield();
      }
      host.device_is_done();
    };
  };
  for (const unsigned pause_within : {0u, 32u})
    explore(20'000, {h,
                     {holder(1), holder(2), holder(3), [&] { host.serve(); }},
                     [&] {
                       host.check_at_rest();
                       h.check_at_rest();
                     },
                     [&] { host.begin_execution(3); },
                     pause_within});
}

}  // namespace
}  // namespace warpheap::weak
