// The queue between kernels and the refill service: mailboxes in pinned memory, one writer a word.
//
// A mailbox carries one request at a time, numbered by `seq`:
//   holder:  claim the box; wait until closed.seq == its last seq; write the request, then
//            request.seq = seq (release)
//   host:    sees request.seq != reply.seq; takes pages; writes the reply, then reply.seq = seq
//   holder:  sees reply.seq == seq, or gives up at its bound; writes ack = {seq, took or declined}
//   host:    sees ack.seq == reply.seq; declined pages go back to the heap; closed.seq = seq
// The holder's ack alone decides who owns the granted pages. It is written once, after the holder
// has stopped looking, and the host neither takes pages back nor lets the box be used again before
// it. Two sides that decide by looking at each other's flags would hand pages out twice.
// No word is read-modified-written by both sides: over PCIe that is not atomic.
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
  std::uint32_t seq;
};

/// Written by the host. `count` 0 = denied. `seq` is written last.
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

/// The whole queue. Lines that the host polls and lines that kernels poll are kept apart.
struct refill_queue {
  alignas(128) refill_request request[mailboxes];
  alignas(128) refill_ack ack[mailboxes];
  alignas(128) refill_reply reply[mailboxes];
  alignas(128) std::uint32_t closed[mailboxes];
  /// 1 while a service thread serves, 0 when none does: kernels then do not wait at all.
  alignas(128) std::uint32_t service_alive;
  /// Goes up each time that pages come free on the host: a denial holds as long as it stands still.
  alignas(128) std::uint32_t host_epoch;
  /// Set by kernels when they freed objects of the host; cleared by the host.
  alignas(128) std::uint32_t host_frees_pending;
};

}  // namespace warpheap
