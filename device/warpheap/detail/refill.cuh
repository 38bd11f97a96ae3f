// The kernels' end of the refill queue (mailbox.hpp): one shared mailbox refills the stock, the
// others carry requests of warps that wait for a large run of their own.
//
// The stock's mailbox has no fixed holder. `stock_request` in device memory holds {phase, seq}: a
// warp that moves it from idle or posted to busy by compare-and-swap is the holder for a few
// instructions, posts a request or checks once for the reply, and moves on. However many warps run
// dry at once, one request is on its way. No warp waits while the phase is busy; every wait for
// pages ends (host_wait), and none is started when no service is alive.
//
// Orders of the stock's mailbox: a poster acquires what the last holder released when it made the
// mailbox idle. A warp that checks for the reply acquires the reply and with it, through the host,
// all that the poster did before its request: moves to and from "posted" need no order of their
// own.
#pragma once

#include <warpheap/detail/stock.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

__device__ __forceinline__ std::uint64_t request_state(stock_phase phase, std::uint32_t seq) {
  return std::uint64_t{static_cast<std::uint32_t>(phase)} << 32 | seq;
}

/// After a wait that the host did not answer, no warp asks again for this long.
inline constexpr std::uint64_t unanswered_pause_ns = 1'000'000;

/// A request for the stock asks for half of what the device has already, at least a chunk and at
/// most an eighth of the heap: the device's share grows in proportion to demand, so requests are
/// few and the unused part stays a fraction of it.
__device__ inline std::uint32_t next_demand(const heap_view& h) {
  const std::uint64_t half = atomic::load<order::relaxed>(&h.state->device_pages.value) / 2;
  const std::uint64_t most = h.pages / 8;
  return static_cast<std::uint32_t>(half < chunk_pages ? chunk_pages : half < most ? half : most);
}

__device__ inline void write_request(refill_request& box, std::uint32_t min_pages,
                                     std::uint32_t want_pages, std::uint32_t seq) {
  atomic::store<order::relaxed, scope::system>(&box.min_pages, min_pages);
  atomic::store<order::relaxed, scope::system>(&box.want_pages, want_pages);
  // Release: a host that sees seq sees the two numbers.
  atomic::store<order::release, scope::system>(&box.seq, seq);
}

/// The busy phase of a message home holds its start time, in the 30 bits above the phase, in units
/// of 1024 ns; that of the stock's mailbox holds none, as nobody waits for its end. A holder is
/// done within microseconds. If it is not after this many times the limit of a wait, it was aborted
/// with its kernel, and nobody waits for it; trim() and reset() make the phase idle.
inline constexpr unsigned aborted_after = 4;
inline constexpr unsigned busy_time_shift = 34;

__device__ __forceinline__ std::uint64_t busy_now(std::uint32_t seq) {
  return request_state(stock_phase::busy, seq) | now_ns() >> 10 << busy_time_shift;
}
/// In the same units: far more than one multiprocessor's clock may be behind another's.
inline constexpr std::uint64_t clock_slack = 1000;
/// True when `state` has been busy for so long that its holder must be dead.
__device__ inline bool aborted(const heap_view& h, std::uint64_t state) {
  if ((state >> 32 & 3) != static_cast<std::uint32_t>(stock_phase::busy)) return false;
  // The slack: a phase that by this clock has not begun yet must not wrap to the largest age.
  const std::uint64_t age =
      ((now_ns() >> 10) + clock_slack - (state >> busy_time_shift)) & bits::low_mask(30);
  return age > (aborted_after * h.refill_timeout_ns >> 10) + 1 + clock_slack;
}

/// seq of the last message that took pages home (home.cuh), and whether one is being written.
__device__ inline std::uint64_t pages_sent(const heap_view& h) {
  return atomic::load<order::relaxed>(&h.state->home_request.value);
}
/// True while pages are on their way home: out of the stock, but not yet the host's. Pages of an
/// aborted message are lost until the next reset. Acquire: a thread that sees that the last ones
/// have arrived also sees that the host has moved its epoch.
__device__ inline bool pages_on_their_way(const heap_view& h) {
  const std::uint64_t sent = pages_sent(h);
  return sent
             != request_state(stock_phase::idle,
                              atomic::load<order::acquire, scope::system>(&h.queue->home_closed))
         && !aborted(h, sent);
}

/// High bit of the pages in `run_denied`.
inline constexpr std::uint32_t no_room_bit = 1u << 31;

/// True while the host is known to have no run of n pages. A denial holds until the host moves its
/// epoch, when pages come free and about once a millisecond in any case: at out-of-memory a malloc
/// costs no round trip, and none fails long after memory came back. Length and epoch are one word;
/// if two denials are noted concurrently, the one that remains is true.
__device__ inline bool holds(const heap_view& h, std::uint64_t denial, std::uint32_t n) {
  const auto pages = static_cast<std::uint32_t>(denial) & ~no_room_bit;
  // The epoch is read last: see pages_on_their_way.
  return pages != 0 && n >= pages && !pages_on_their_way(h)
         && denial >> 32 == atomic::load<order::relaxed, scope::system>(&h.queue->host_epoch);
}
/// True for a while after the host failed to answer.
WARPHEAP_OUTLINED bool unanswered(const heap_view& h) {
  const std::uint64_t until = atomic::load<order::relaxed>(&h.state->denied_until_ns.value);
  return until != 0 && now_ns() < until;
}
WARPHEAP_OUTLINED bool denied(const heap_view& h, std::uint32_t n) {
  return holds(h, atomic::load<order::relaxed>(&h.state->denied.value), n) || unanswered(h);
}
__device__ inline void note_denied(const heap_view& h, std::uint64_t n, std::uint32_t epoch) {
  atomic::store<order::relaxed>(&h.state->denied.value, std::uint64_t{epoch} << 32 | n);
}
/// True when the host, in `epoch` or later, has denied a run of n pages. For a warp that has waited
/// since that epoch this is an answer, whatever the epoch is by now: otherwise it would ask a slow
/// host, which moves its epoch meanwhile, until its time is up. A denial of an earlier epoch,
/// however late it is noted, may have missed pages that were there before the wait began.
WARPHEAP_OUTLINED bool denied_since(const heap_view& h, std::uint32_t n, std::uint32_t epoch) {
  const std::uint64_t denial = atomic::load<order::relaxed>(&h.state->denied.value);
  const auto pages = static_cast<std::uint32_t>(denial);
  if (pages == 0 || n < pages || pages_on_their_way(h)) return false;
  // Epochs wrap: a denial is from an epoch between the wait's and the present one, or long
  // outdated.
  const auto now = atomic::load<order::relaxed, scope::system>(&h.queue->host_epoch);
  return static_cast<std::uint32_t>(denial >> 32) - epoch <= now - epoch;
}
__device__ inline void note_unanswered(const heap_view& h) {
  atomic::store<order::relaxed>(&h.state->denied_until_ns.value, now_ns() + unanswered_pause_ns);
}
__device__ inline bool service_alive(const heap_view& h) {
  return atomic::load<order::relaxed, scope::system>(&h.queue->service_alive) != 0;
}

/// seq of the last stock request that the host has answered. Relaxed: only compared.
__device__ inline std::uint32_t stock_answered(const heap_view& h) {
  return atomic::load<order::relaxed, scope::system>(&h.queue->reply[stock_mailbox].seq);
}

/// The state of the stock's mailbox, to be read before a look at the stock. Relaxed: a look that
/// misses pages from the answer to that request only leads to asking for more than is needed.
__device__ __forceinline__ std::uint64_t stock_request_seen(const heap_view& h) {
  return atomic::load<order::relaxed>(&h.state->stock_request.value);
}

/// Asks the host for pages for the stock if no other warp does: if the mailbox is idle, and was so
/// after the same request before the caller's last look at the stock (`seen`). Of many warps that
/// run dry together one asks. The others find the mailbox busy, that request on its way, or an
/// answer that has come since they looked: they look at what it brought first. Pages from other
/// sources do not keep a warp from asking: they come and go all the time. Never waits.
WARPHEAP_SLOW_PATH void post_stock_request(const heap_view& h, std::uint32_t min_pages,
                                           std::uint64_t seen) {
  std::uint64_t* state = &h.state->stock_request.value;
  const auto seq = static_cast<std::uint32_t>(seen);
  if (seen != request_state(stock_phase::idle, seq)) return;
  // Acquire: what the last holder did with the mailbox.
  if (!atomic::compare_exchange<order::acquire>(state, seen, request_state(stock_phase::busy, seq)))
    return;
  // The box may be written again only after the host has closed the last round. Relaxed: the host
  // read that request before it answered, and its reply was acquired before the ack.
  if (atomic::load<order::relaxed, scope::system>(&h.queue->closed[stock_mailbox]) != seq) {
    atomic::store<order::release>(state, request_state(stock_phase::idle, seq));
    return;
  }
  const std::uint32_t demand = next_demand(h);
  atomic::store<order::relaxed>(&h.state->stock_min.value, std::uint64_t{min_pages});
  write_request(h.queue->request[stock_mailbox], min_pages, demand > min_pages ? demand : min_pages,
                seq + 1);
  count(h.state->host_requests);
  atomic::store<order::relaxed>(state, request_state(stock_phase::posted, seq + 1));
}

/// Puts pages from the host into the stock, a chunk at a time: one lane marks page after page, at
/// tens of nanoseconds each on a GPU, and warps that wait for the first pages of a gigabyte would
/// run out of time before the last is marked.
WARPHEAP_OUTLINED void accept_pages(const heap_view& h, page_run run) {
  count(h.state->device_pages, run.count);
  WARPHEAP_ROLLED
  while (run.count != 0) {
    const std::uint32_t n = run.count < chunk_pages ? run.count : chunk_pages;
    give_pages(h, {run.first, n});
    count(h.state->host_served);
    run = {run.first + n, run.count - n};
  }
}

/// Checks once for the host's answer; puts granted pages into the stock. Never waits.
WARPHEAP_SLOW_PATH void poll_stock_reply(const heap_view& h) {
  std::uint64_t* state = &h.state->stock_request.value;
  std::uint64_t now = atomic::load<order::relaxed>(state);
  const auto seq = static_cast<std::uint32_t>(now);
  if (now != request_state(stock_phase::posted, seq)) return;
  if (!atomic::compare_exchange<order::relaxed>(state, now, request_state(stock_phase::busy, seq)))
    return;
  const refill_reply& reply = h.queue->reply[stock_mailbox];
  if (atomic::load<order::acquire, scope::system>(&reply.seq) != seq) {
    atomic::store<order::relaxed>(state, request_state(stock_phase::posted, seq));
    return;
  }
  const page_run run{atomic::load<order::relaxed, scope::system>(&reply.first),
                     atomic::load<order::relaxed, scope::system>(&reply.count)};
  // The ack goes first: if the kernel is aborted right here, the pages are out of use until the
  // next reset, but never given to the stock twice. Relaxed: see mailbox_server.hpp. No warp posts
  // before the phase is idle, and its post comes after this reading of the reply.
  const std::uint32_t epoch = atomic::load<order::relaxed, scope::system>(&reply.epoch);
  atomic::store<order::relaxed, scope::system>(&h.queue->ack[stock_mailbox].bits,
                                               refill_ack::make(seq, run.count != 0));
  if (run.count != 0) {
    accept_pages(h, run);
  } else {
    note_denied(h, atomic::load<order::relaxed>(&h.state->stock_min.value), epoch);
    count(h.state->host_served);
  }
  atomic::store<order::release>(state, request_state(stock_phase::idle, seq));
}

/// A wait for the host. It is late when the host has served nobody for the limit of a refill
/// (h.refill_timeout_ns): in a storm of requests a warp may wait for many answers to others, and
/// for many chunks of pages that others take, while there is memory. Still, it is bounded.
struct host_wait {
  std::uint64_t start;   ///< now_ns() at its start
  std::uint64_t since;   ///< when the host was last seen to have served somebody; at first, start
  std::uint64_t served;  ///< host_served then
};
inline constexpr unsigned most_limits = 64;  ///< that a wait lasts

__device__ inline std::uint64_t served_so_far(const heap_view& h) {
  return atomic::load<order::relaxed>(&h.state->host_served.value);
}
WARPHEAP_OUTLINED host_wait begin_host_wait(const heap_view& h) {
  const std::uint64_t now = now_ns();
  return {now, now, served_so_far(h)};
}

/// True when the time is up. Reads device memory only, as many warps ask all the time.
WARPHEAP_OUTLINED bool is_late(const heap_view& h, host_wait& w) {
  const std::uint64_t now = now_ns();
  if (const std::uint64_t served = served_so_far(h); served != w.served) {
    w.served = served;
    w.since = now;
  }
  return now - w.since > h.refill_timeout_ns || now - w.start > most_limits * h.refill_timeout_ns;
}

/// The same for a wait that counts: records the longest so far, for monitoring the service. A lost
/// update loses one sample.
WARPHEAP_OUTLINED bool note_wait(const heap_view& h, host_wait& w) {
  const std::uint64_t waited = now_ns() - w.start;
  std::uint64_t* longest = &h.state->longest_wait_ns.value;
  if (waited > atomic::load<order::relaxed>(longest))
    atomic::store<order::relaxed>(longest, waited);
  return is_late(h, w);
}

/// Pauses between two looks grow up to 4 us, so that waiting warps leave the bus alone.
__device__ inline void back_off(unsigned& pause) {
  __nanosleep(pause);
  pause = pause < 4096 ? 2 * pause : pause;
}

/// State of a wait for pages.
struct page_wait {
  host_wait host;
  std::uint64_t request;    ///< stock_request_seen before the last look at the stock
  std::uint64_t sent = 0;   ///< pages_sent, and
  std::uint32_t epoch = 0;  ///< the host's epoch, from which on its denials are answers
  std::uint32_t answered;   ///< stock_answered at its start
  page_index found = 0;     ///< what the last look found
  unsigned pause = 64;      ///< nanoseconds until the next look
};

/// A value that pages_sent never takes.
inline constexpr std::uint64_t still_on_their_way = ~std::uint64_t{0};

/// From here on what the host says counts as an answer.
WARPHEAP_OUTLINED void listen(const heap_view& h, page_wait& w) {
  const std::uint64_t sent = pages_sent(h);
  // While pages are on their way, the epoch does not account for them: no answer counts until it
  // has been read again. The epoch is read last: see pages_on_their_way.
  w.sent = pages_on_their_way(h) ? still_on_their_way : sent;
  w.epoch = atomic::load<order::relaxed, scope::system>(&h.queue->host_epoch);
}

WARPHEAP_OUTLINED void ask_for_pages(const heap_view& h, std::uint32_t n, const page_wait& w) {
  // Shorter runs than needed may adjoin pages of the stock: a run fails only when the host has no
  // page left.
  if (!denied(h, 1))
    post_stock_request(h, denied(h, n) || denied_since(h, n, w.epoch) ? 1 : n, w.request);
}

/// True when the wait is over, as the host has no page and the last look is done.
WARPHEAP_OUTLINED bool host_has_none(const heap_view& h, std::uint32_t n, page_wait& w) {
  if (!denied(h, 1) && !denied_since(h, 1, w.epoch)) return false;
  w.found = scan_stock(h, n);
  // Pages that went home meanwhile may have been in the stock when the host was asked, and the
  // host's when the stock was examined: then that was no answer.
  if (w.found != 0 || (pages_sent(h) == w.sent && !pages_on_their_way(h))) return true;
  listen(h, w);
  return false;
}

/// Spares other warps a wait for a host that did not answer at all. If the host answers, and the
/// wait is late because others took what came or the host is busy, other warps may still ask.
__device__ inline void note_late(const heap_view& h, const page_wait& w) {
  if (stock_answered(h) == w.answered) note_unanswered(h);
}

/// Waits for n pages, while the host serves (host_wait); 0 when there are none. `seen`:
/// stock_request_seen before the caller's look at the stock.
///
/// `waiting` counts the wait, for release_pages. Lanes that fail end their waits (`unbroken`), so
/// the count is exact. If a machine disappears, the count that it leaves only keeps pages from
/// going home until trim() or reset(), which take all of the stock home and clear the count. A time
/// limit, as messages home have, would keep pages here after each wait to no purpose.
WARPHEAP_OUTLINED page_index await_pages(const heap_view& h, std::uint32_t n, std::uint64_t seen) {
  page_wait w{.host = begin_host_wait(h), .request = seen, .answered = stock_answered(h)};
  listen(h, w);
  count(h.state->host_waits);
  count(h.state->waiting);
  for (;;) {
    // Before the looks: what came while the warp slept, or was not scheduled, is seen however late.
    const bool late = note_wait(h, w.host);
    ask_for_pages(h, n, w);
    poll_stock_reply(h);
    w.request = stock_request_seen(h);
    w.found = take_pages(h, n);
    if (w.found != 0 || host_has_none(h, n, w)) break;
    if (late) {
      note_late(h, w);
      w.found = scan_stock(h, n);
      break;
    }
    back_off(w.pause);
  }
  count(h.state->waiting, ~std::uint64_t{0});
  return w.found;
}

/// n pages from the stock, else from the host by way of the stock; 0 when there are none. Asks
/// ahead when the stock runs low, so that in the steady state no warp waits.
WARPHEAP_SLOW_PATH page_index get_pages(const heap_view& h, std::uint32_t n) {
  poll_stock_reply(h);
  const std::uint64_t seen = stock_request_seen(h);
  const page_index p = take_pages(h, n);
  if (p != 0) {
    // Below a quarter of the next request, it is time to ask.
    if (atomic::load<order::relaxed>(&h.state->stock_pages.value) < next_demand(h) / 4
        && !denied(h, 1))
      post_stock_request(h, 1, seen);
    return p;
  }
  if (atomic::load<order::relaxed>(&h.state->pressure.value) == 0)
    atomic::store<order::relaxed>(&h.state->pressure.value, std::uint64_t{1});
  return service_alive(h) ? await_pages(h, n, seen) : scan_stock(h, n);
}

/// True when the host has answered request seq: the reply is acquired.
WARPHEAP_OUTLINED bool has_answered(const heap_view& h, unsigned box, std::uint32_t seq) {
  return atomic::load<order::acquire, scope::system>(&h.queue->reply[box].seq) == seq;
}

/// Waits for the answer to request seq, while the host serves. True when it has come.
WARPHEAP_OUTLINED bool await_reply(const heap_view& h, unsigned box, std::uint32_t seq) {
  host_wait wait = begin_host_wait(h);
  unsigned pause = 64;
  for (;;) {
    const bool late = note_wait(h, wait);  // before the look, as in await_pages
    if (has_answered(h, box, seq)) return true;
    if (late) return false;
    back_off(pause);
  }
}

/// What is known about a run of n pages in the host's present epoch.
enum class run_denial { unknown, denied, no_room };

/// `denied` for runs too long for the stock's requests.
WARPHEAP_OUTLINED run_denial known_denial(const heap_view& h, std::uint32_t n) {
  const std::uint64_t denial = atomic::load<order::relaxed>(&h.state->run_denied.value);
  if (!holds(h, denial, n))
    return holds(h, atomic::load<order::relaxed>(&h.state->denied.value), n) ? run_denial::denied
                                                                             : run_denial::unknown;
  return (denial & no_room_bit) != 0 ? run_denial::no_room : run_denial::denied;
}
__device__ inline void note_run_denied(const heap_view& h, std::uint32_t n, bool room,
                                       std::uint32_t epoch) {
  atomic::store<order::relaxed>(&h.state->run_denied.value,
                                std::uint64_t{epoch} << 32 | n | (room ? 0 : no_room_bit));
}

/// Where a run could be: pages [first, end). end 0: nowhere.
struct page_window {
  page_index first;
  page_index end;
};

/// A request for a run by a mailbox of the caller's own. In memory, like the state of searches.
struct run_request {
  std::uint32_t n;
  page_window window;  ///< where there could be one
  host_wait wait;      ///< for a mailbox
  unsigned turn;       ///< the mailbox to try first
  unsigned box = mailboxes;
  std::uint32_t seq = 0;
  page_run run{1, 0};  ///< unknown whether there could be one
};

/// One try to claim a mailbox for the caller alone. False when all are taken, another warp was
/// faster, or the host has not closed a round that its holder gave up. Claimed like an object: the
/// bit says who owns it. Acquire: the box's last seq.
WARPHEAP_OUTLINED bool claim_mailbox(const heap_view& h, run_request& r) {
  device_state& s = *h.state;
  const std::uint64_t free = atomic::load<order::relaxed>(&s.free_mailboxes.value);
  if (free == 0) return false;
  const unsigned shift = r.turn++ % mailboxes;
  const std::uint64_t rotated = free >> shift | free << ((mailboxes - shift) % mailboxes);
  r.box = (static_cast<unsigned>(bits::countr_zero(rotated)) + shift) % mailboxes;
  const std::uint64_t bit = std::uint64_t{1} << r.box;
  if ((atomic::fetch_and<order::acquire>(&s.free_mailboxes.value, ~bit) & bit) == 0) return false;
  // Acquire: the host has read the last request before this one is written.
  if (atomic::load<order::acquire, scope::system>(&h.queue->closed[r.box])
      == atomic::load<order::relaxed>(&s.mailbox_seq[r.box]))
    return true;
  atomic::fetch_or<order::release>(&s.free_mailboxes.value, bit);
  return false;
}

WARPHEAP_OUTLINED void post_run_request(const heap_view& h, run_request& r) {
  // mailbox_seq passes from holder to holder by the claim of the mailbox.
  r.seq = atomic::load<order::relaxed>(&h.state->mailbox_seq[r.box]) + 1;
  atomic::store<order::relaxed>(&h.state->mailbox_seq[r.box], r.seq);
  refill_request& request = h.queue->request[r.box];
  atomic::store<order::relaxed, scope::system>(&request.first, r.window.first);
  atomic::store<order::relaxed, scope::system>(&request.end, r.window.end);
  write_request(request, r.n, r.n, r.seq);
  count(h.state->host_requests);
  count(h.state->host_waits);
}

/// Reads the host's answer; notes a denial.
WARPHEAP_OUTLINED void read_run_reply(const heap_view& h, run_request& r) {
  const refill_reply& reply = h.queue->reply[r.box];
  r.run = {atomic::load<order::relaxed, scope::system>(&reply.first),
           atomic::load<order::relaxed, scope::system>(&reply.count)};
  count(h.state->host_served);
  if (r.run.count != 0) return;
  // A window that is only part of the heap says nothing about room elsewhere.
  const bool room = r.run.first != 0 || r.window.first != 1 || r.window.end != h.pages;
  note_run_denied(h, r.n, room, atomic::load<order::relaxed, scope::system>(&reply.epoch));
}

/// Ends a request: from here on this warp no longer looks at the reply, and others may have the
/// mailbox. The ack decides, once. Relaxed: the reply's words are written again only after the next
/// request, whose holder comes after the release of the mailbox.
WARPHEAP_OUTLINED void end_run_request(const heap_view& h, const run_request& r) {
  atomic::store<order::relaxed, scope::system>(&h.queue->ack[r.box].bits,
                                               refill_ack::make(r.seq, r.run.count != 0));
  atomic::fetch_or<order::release>(&h.state->free_mailboxes.value, std::uint64_t{1} << r.box);
}

/// One try for a mailbox, and all that is to be done with it. True when the request is over.
///
/// A lane that has a mailbox waits only for the host until the mailbox is free again. Lanes
/// reconverge where a loop ends (warp.cuh): a lane that left the loop with its mailbox, to post
/// after it, would wait there for siblings that wait for a mailbox. Three warps of 32 such lanes
/// once held all of them and asked for nothing.
WARPHEAP_OUTLINED bool try_request(const heap_view& h, run_request& r) {
  // Before the try: a lane that was delayed, by a sibling or unscheduled, still has one more try.
  const bool late = is_late(h, r.wait);
  if (!claim_mailbox(h, r)) return late;
  post_run_request(h, r);
  if (await_reply(h, r.box, r.seq)) read_run_reply(h, r);
  end_run_request(h, r);
  return true;
}

/// A run of n pages straight from the host, for one large object. The pages never pass through the
/// stock, where others could take them. When denied, or without a mailbox or a timely answer: no
/// run; its `first` is 0 if the host's own pages leave no room for it in the window, however many
/// pages the device gives back.
///
/// Lanes of a warp that call together wait together. When the service has died, for three limits at
/// most: one for a mailbox, one for siblings that got theirs at its very end and no answer, and one
/// for the answer to a mailbox that was free only then; it is mostly one.
WARPHEAP_SLOW_PATH page_run request_run(const heap_view& h, std::uint32_t n, page_window window) {
  // Lanes start at different mailboxes.
  run_request r{n, window, begin_host_wait(h), (spread(h) >> 26) + lane_id()};
  unsigned pause = 64;
  while (!try_request(h, r)) back_off(pause);
  return r.run;
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
