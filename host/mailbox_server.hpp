// The host's part of the rounds in a mailbox (mailbox.hpp). A template over the owner of the pages:
// the refill service, and the checks of the protocol, which have pages of their own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <warpheap/atomic.hpp>
#include <warpheap/mailbox.hpp>

namespace warpheap {

/// Ends the round of a mailbox if its holder has acknowledged the answer; true then. The last step
/// of serve_mailbox.
template <class Pages>
bool close_round(refill_queue& queue, unsigned box, page_run& granted, Pages& pages) {
  constexpr scope all = scope::system;
  const auto closed = atomic::load<order::relaxed, all>(&queue.closed[box]);
  const auto answered = atomic::load<order::relaxed, all>(&queue.reply[box].seq);
  const std::uint64_t ack = atomic::load<order::relaxed, all>(&queue.ack[box].bits);
  if (closed == answered || refill_ack::seq_of(ack) != answered) return false;
  if (!refill_ack::took(ack) && granted.count != 0) pages.take_back(granted);
  granted = {};
  // Release: the next request is written only after the host has read this one.
  atomic::store<order::release, all>(&queue.closed[box], answered);
  return true;
}

/// Looks at a mailbox once and carries its round on; true when something was done. One thread at a
/// time; `granted` belongs to the box, {0, 0} at first. `pages` has take(least, want), which
/// returns {0, 0} when there is no run of `least`; has_room(n, first, end), which tells whether n
/// consecutive pages in [first, end) are not the host's own; and take_back(run), for pages that
/// were not taken.
///
/// Orders: request.seq, reply.seq and closed hand the words of the round from one side to the
/// other; the writer releases them, and the reader acquires them before it acts on those words. The
/// ack needs neither: all it says is in its own word, and what the host writes next into the reply
/// comes after the next request, which is released by a later holder.
template <class Pages>
bool serve_mailbox(refill_queue& queue, unsigned box, page_run& granted, Pages& pages) {
  constexpr scope all = scope::system;
  bool served = false;
  const refill_request& request = queue.request[box];
  refill_reply& reply = queue.reply[box];
  // Acquire: the request's numbers were written before its seq.
  const auto asked = atomic::load<order::acquire, all>(&request.seq);
  const auto closed = atomic::load<order::relaxed, all>(&queue.closed[box]);
  auto answered = atomic::load<order::relaxed, all>(&reply.seq);
  if (asked != answered && answered == closed) {
    const auto least = atomic::load<order::relaxed, all>(&request.min_pages);
    const auto want = atomic::load<order::relaxed, all>(&request.want_pages);
    // Read before the search: pages that come free too late for the search move the epoch past this
    // one.
    atomic::store<order::relaxed, all>(&reply.epoch,
                                       atomic::load<order::relaxed, all>(&queue.host_epoch));
    granted = least == 0 ? page_run{} : pages.take(least, std::max(least, want));
    page_index first = granted.first;
    if (const auto end = atomic::load<order::relaxed, all>(&request.end);
        granted.count == 0 && end != 0)
      first = pages.has_room(least, atomic::load<order::relaxed, all>(&request.first), end);
    atomic::store<order::relaxed, all>(&reply.first, first);
    atomic::store<order::relaxed, all>(&reply.count, granted.count);
    // Release: a thread that sees seq sees the run, and what the host did in its pages before.
    atomic::store<order::release, all>(&reply.seq, asked);
    answered = asked;
    served = true;
  }
  return close_round(queue, box, granted, pages) || served;
}

/// Takes home the pages of a message, if there is one; true then. `pages` has take_home(run),
/// called for each run, and came_home(), which ends denials.
template <class Pages>
bool read_home_message(refill_queue& queue, Pages& pages) {
  constexpr scope all = scope::system;
  // Acquire: the runs were written before seq.
  const auto sent = atomic::load<order::acquire, all>(&queue.home.seq);
  if (sent == atomic::load<order::relaxed, all>(&queue.home_closed)) return false;
  const auto runs = atomic::load<order::relaxed, all>(&queue.home.count);
  for (std::uint32_t i = 0; i < runs; ++i)
    pages.take_home({atomic::load<order::relaxed, all>(&queue.home.runs[i].first),
                     atomic::load<order::relaxed, all>(&queue.home.runs[i].count)});
  pages.came_home();
  // Release: the device rewrites the box only after it has been read, and a thread that sees that
  // no pages are on their way any longer does not believe an earlier denial.
  atomic::store<order::release, all>(&queue.home_closed, sent);
  return true;
}

}  // namespace warpheap
