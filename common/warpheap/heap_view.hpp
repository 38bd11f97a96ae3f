// Where all parts of a heap are: the plain record that the host fills in and kernels get by value.
//
// Pages are managed memory. The arrays are device memory of fixed size, indexed by page, and stay
// valid as long as the heap: a late thread may still touch the words of a page that has long gone
// elsewhere (which is why none of them is in the pages themselves). The queue is pinned host
// memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <warpheap/error.hpp>
#include <warpheap/layout.hpp>
#include <warpheap/mailbox.hpp>
#include <warpheap/observation.hpp>

namespace warpheap {

inline constexpr unsigned error_ring_slots = 256;
inline constexpr unsigned dangling_slots = 256;

/// Phases of a refill of the stock: who may post a request or look at the reply (refill.cuh).
enum class stock_phase : std::uint32_t { idle, busy, posted };

/// Counters and small state in device memory, all zero at the start.
struct device_state {
  // Hot words, each on its own cache line.
  padded_counter stock_pages;    ///< pages in the stock, exact at rest
  padded_counter stock_request;  ///< stock_phase in the high half, the request's seq in the low
  padded_counter home_request;   ///< the same for the message that takes pages home
  padded_counter device_pages;   ///< pages that the host has given and not received back
  padded_counter stock_min;      ///< the fewest pages of use to the pending request
  padded_counter denied;         ///< {host_epoch, pages}: the host could not give runs of this
                                 ///< length and has freed none since; 0 pages = not denied
  padded_counter run_denied;     ///< the same for runs too long for the stock's requests. The high
                                 ///< bit of pages: the host's own pages leave no room for them
  padded_counter denied_until_ns;  ///< the host did not answer: ask again only after this time
  padded_counter reclaiming;       ///< 1 while a warp retires empty spans of all classes
  padded_counter pressure;         ///< 1 after the stock ran dry: frees retire empty spans at once
  padded_counter waiting;          ///< warps that wait for pages from the host: none go home
  padded_counter host_served;      ///< answers of the host, and chunks of pages that came with them
  padded_counter free_mailboxes;   ///< bit s set: mailbox s is free to be claimed
  padded_counter high_page;        ///< all device pages so far are below this one
  padded_counter gives;            ///< times that pages came into the stock
  padded_counter in_hand;          ///< {times that a warp let go of what it had in hand, warps that
                                   ///< have something} (in_hand.cuh)
  padded_counter stock_scanned;    ///< {gives, pages}: no run that long was in the stock then; 0
                                   ///< pages = it was not scanned (stock.cuh)

  // Statistics, changed on slow paths only.
  padded_counter home_pages;       ///< pages sent home by kernels
  padded_counter host_requests;    ///< requests posted to the refill service
  padded_counter host_waits;       ///< times that a warp waited for the service
  padded_counter longest_wait_ns;  ///< the longest of these waits
  padded_counter large_pages;      ///< pages in live large objects of kernels
  padded_counter large_objects;    ///< live large objects of kernels

  std::uint32_t mailbox_seq[mailboxes];    ///< last seq used in a mailbox
  std::uint32_t growers[span_classes];     ///< warps that are now making a span of the class
  std::uint32_t spans[span_classes];       ///< live spans of the class, exact at rest
  std::uint32_t idle_spans[span_classes];  ///< spans seen to become empty, signed (span.cuh)
  std::uint32_t given_up[span_classes];    ///< spans that the class gave up and may want again
  std::uint64_t scanned_at[span_classes];  ///< 1 + `gives` at the last full scan that found none

  class_counters classes[counted_classes];
  device_observation observed;

  std::uint64_t errors[error_kinds];  ///< detected errors by kind; memory that ran out is counted
                                      ///< by class, above
  std::uint64_t ring_next;            ///< errors recorded so far; slot = number % slots
  std::uint64_t ring_kind[error_ring_slots];
  std::uint64_t ring_address[error_ring_slots];

  std::uint32_t* marks;     ///< for sweeps: a bit for each byte of the heap; null: none
  padded_counter dangling;  ///< marks of addresses without a live object
  std::uint64_t dangling_at[dangling_slots];  ///< the first of these addresses
};

/// Trivially copyable; all pointers are valid in kernels. Thread-safe: never changes after the
/// heap's construction.
struct heap_view {
  /// A copy of this record in device memory. Slow paths are separate functions and read the record
  /// there; to pass them the caller's would force kernel parameters onto a stack.
  const heap_view* self = nullptr;

  std::byte* base = nullptr;  ///< first byte; page 0, never handed out; address of 0-byte objects
  std::uint64_t bytes = 0;    ///< size of the reservation
  std::uint32_t pages = 0;    ///< bytes / page_size
  std::uint32_t summary_stride = 0;  ///< words of one summary bitmap

  std::uint32_t* entry = nullptr;      ///< [pages] page_entry
  std::uint64_t* word = nullptr;       ///< [pages][16] free bits; 1 = free
  std::uint64_t* rec = nullptr;        ///< [pages] span_record
  std::uint32_t* tiny_mask = nullptr;  ///< [pages][256] a 16-bit mask for each 16-byte block
  std::uint32_t* tiny_last = nullptr;  ///< [pages][16] a bit for each block: byte 15 is an object
  std::uint64_t* has_free = nullptr;   ///< [span_classes] summaries: span may have free slots.
                                       ///< Class 0: host pages with objects that kernels freed
  std::uint64_t* stock = nullptr;      ///< summary: free pages that the device owns

  std::uint32_t* hint = nullptr;  ///< [warp_slots][span_classes] index of a free word
  std::uint64_t* tiny = nullptr;  ///< [warp_slots] the warp's open tiny block
  std::uint32_t warp_slots = 0;

  device_state* state = nullptr;
  refill_queue* queue = nullptr;
  std::uint64_t refill_timeout_ns = 0;
  std::uint32_t stock_floor = 0;  ///< pages that the stock always keeps (home.cuh)

  WARPHEAP_HD std::uint64_t* has_free_of(unsigned cls) const {
    return has_free + std::size_t{cls} * summary_stride;
  }
};

}  // namespace warpheap
