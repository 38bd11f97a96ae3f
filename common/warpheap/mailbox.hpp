// The queue between kernels and the refill service: mailboxes in pinned memory, each word with one
// writer.
//
// A mailbox carries one request at a time, numbered by `seq`:
//   holder:  claim the box; wait until closed.seq == its last seq; write the request, then
//            request.seq = seq (release)
//   host:    sees request.seq != reply.seq; takes pages, or says whether there is room for them
//            where the device has no objects; writes the reply, then reply.seq = seq
//   holder:  sees reply.seq == seq, or gives up at its bound; writes ack = {seq, took or declined}
//   host:    sees ack.seq == reply.seq; declined pages go back to the heap; closed.seq = seq
// The holder's ack alone decides who owns the granted pages. It is written once, after the holder
// has stopped looking; before it, the host neither takes pages back nor lets the box be used again.
// Two sides that decided by looking at each other's flags would hand pages out twice. No word has
// read-modify-writes from both sides: over PCIe these are not atomic.
//
// Pages go home by a message of its own, which needs no answer. It has one mailbox; {phase, seq} in
// device memory says who may write it (`home_request`):
//   holder:  checks that home_closed == seq, else leaves; moves the phase from idle to busy; takes
//            pages out of the stock, clears their entries, writes the runs; home.seq = seq + 1
//            (release); phase idle with seq + 1
//   host:    sees home.seq != home_closed (acquire); takes the pages back; moves its epoch if it
//            has denied any; home_closed = home.seq (release)
// From busy to closed the pages are on their way, and no denial counts: a thread that finds them
// gone from the stock sees busy (release of the taking), and one that sees closed sees the epoch
// (acquire). The store of home.seq makes the pages the host's. Before the host denies a request, it
// looks once more for a message and for acks of grants: a message sent, or an ack that declined,
// before the request is acquired with it. Giving up is neither possible nor needed, as the holder
// never waits. A service that dies leaves the message for the next one.
#pragma once

#include <cstdint>
#include <warpheap/layout.hpp>

namespace warpheap {

inline constexpr unsigned mailboxes = 64;     ///< one bit each in a claim word
inline constexpr unsigned stock_mailbox = 0;  ///< refills of the stock; never claimed by a waiter

/// Written by the device. `seq` is written last.
struct alignas(32) refill_request {
  std::uint32_t min_pages;   ///< fewer are of no use
  std::uint32_t want_pages;  ///< more are not wanted
  /// The range [first, end) where min_pages could be if the device gave back all pages that it does
  /// not use. end 0: no such question.
  page_index first;
  page_index end;
  std::uint32_t seq;
};

/// Written by the host. `count` 0 = denied; `first` is then 1 if the pages of [first, end) that are
/// not the host's own have room for the run. `seq` is written last.
struct alignas(32) refill_reply {
  page_index first;
  std::uint32_t count;
  std::uint32_t epoch;  ///< `host_epoch` before the host looked for pages
  std::uint32_t seq;
};

/// Written by the device in one 64-bit store: seq in the high half, 1 = took in the low half.
struct refill_ack {
  std::uint64_t bits;
  WARPHEAP_HD static constexpr std::uint64_t make(std::uint32_t seq, bool took) {
    return std::uint64_t{seq} << 32 | (took ? 1u : 0u);
  }
  WARPHEAP_HD static constexpr std::uint32_t seq_of(std::uint64_t bits) {
    return static_cast<std::uint32_t>(bits >> 32);
  }
  WARPHEAP_HD static constexpr bool took(std::uint64_t bits) { return (bits & 1) != 0; }
};

/// Pages on their way home. Written by the device; `seq` is written last.
struct alignas(128) home_message {
  static constexpr unsigned most_runs = 15;
  page_run runs[most_runs];
  std::uint32_t count;  ///< number of runs
  std::uint32_t seq;
};

/// The whole queue. Lines that the host polls and lines that kernels poll are kept apart.
struct refill_queue {
  alignas(128) refill_request request[mailboxes];
  alignas(128) refill_ack ack[mailboxes];
  alignas(128) refill_reply reply[mailboxes];
  alignas(128) std::uint32_t closed[mailboxes];
  /// 1 while a service thread is running, 0 when none is: kernels then do not wait at all.
  alignas(128) std::uint32_t service_alive;
  /// Moves when pages come free on the host after a denial, and about once a millisecond: a denial
  /// holds only while it stands still.
  alignas(128) std::uint32_t host_epoch;
  /// Set by kernels when they have freed objects of the host; cleared by the host.
  alignas(128) std::uint32_t host_frees_pending;
  home_message home;
  /// seq of the last message home that the host has taken in. Written by the host.
  alignas(128) std::uint32_t home_closed;
};

}  // namespace warpheap
