// The stock: free pages that the device owns, a bit for each in a summary bitmap.
//
// Runs of pages are taken lowest first, word by word with fetch_and; a run of which another thread
// took a part meanwhile is put back. The bits are the ownership: only fetch_and takes, only
// fetch_or gives, as with objects. Where pages come from and go to:
//   refill service -> stock -> spans, large objects -> stock -> (home, trim) host
//
// When there are none. A malloc answers nullptr only when its last look at the stock found nothing
// and `gives`, the count of times that pages came in, is the same before and after that look (or
// after max_reclaims tries). So no malloc fails because a page moves from hand to hand:
// - Pages counted before the look are seen by it: a giver sets the bits before it counts (release),
//   the looker reads the count before the bits (acquire).
// - Pages given later are in the count that is read after the look, if the look failed because of
//   them: a thread that gave one run and then took another counted its give first. Its taking
//   releases, and the last look acquires.
// - Pages that are taken only to be put back, or to reappear as a span, are in hand meanwhile
//   (in_hand.cuh).
// - The last look (scan_stock) relies on the words alone. A mark above them may be missing while
//   another warp is between its change of a word and the mark.
#pragma once

#include <warpheap/detail/in_hand.cuh>
#include <warpheap/detail/report.cuh>
#include <warpheap/detail/summary.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

__device__ __forceinline__ summary stock_of(const heap_view& h) {
  return summary(h.stock, h.pages);
}

/// Counts that pages have come into the stock; called after their bits are set.
__device__ __forceinline__ void note_given(const heap_view& h) {
  atomic::fetch_add<order::release>(&h.state->gives.value, std::uint64_t{1});
}
/// The count of gives; to be read before a look at the stock.
__device__ __forceinline__ std::uint64_t gives_so_far(const heap_view& h) {
  return atomic::load<order::acquire>(&h.state->gives.value);
}

/// The part of the run [p, p + n) that lies in word w of a bitmap.
__device__ __forceinline__ std::uint64_t run_part(page_index p, std::uint32_t n, std::uint32_t w) {
  const std::uint32_t begin = p > w * 64 ? p - w * 64 : 0;
  const std::uint32_t end = p + n < (w + 1) * 64 ? p + n - w * 64 : 64;
  return bits::low_mask(end) & ~bits::low_mask(begin);
}

/// Number of contiguous free pages from p on, up to n.
WARPHEAP_OUTLINED std::uint32_t run_length(summary s, page_index p, std::uint32_t n) {
  std::uint32_t length = 0;
  for (page_index at = p; length < n && at < s.pages(); at = p + length) {
    const unsigned shift = at & 63;
    const auto ones = static_cast<std::uint32_t>(bits::countr_zero(~(s.word(at / 64) >> shift)));
    length += ones < 64 - shift ? ones : 64 - shift;
    if (ones < 64 - shift) break;
  }
  return length < n ? length : n;
}

/// Sets bits of a word of the stock. Release: the next taker of the pages sees their entries and
/// words as written before.
WARPHEAP_OUTLINED void put_word(summary s, std::uint32_t w, std::uint64_t part) {
  if (atomic::fetch_or<order::release>(s.word_address(w), part) == 0) s.raise(w);
}

/// Sets the bits of a run of pages that the caller owns.
WARPHEAP_OUTLINED void put_run(summary s, page_index p, std::uint32_t n) {
  WARPHEAP_ROLLED
  for (std::uint32_t w = p / 64; w * 64 < p + n; ++w) put_word(s, w, run_part(p, n, w));
}

enum class word_claim { all, put_back, nothing };

/// Takes the part of a run that lies in word w, or nothing: if only some of it was there, puts it
/// back.
WARPHEAP_OUTLINED word_claim claim_word(const heap_view& h, page_run run, std::uint32_t w) {
  const summary s = stock_of(h);
  const std::uint64_t part = run_part(run.first, run.count, w);
  // Acquire: the pages' entries and words are as their last owner left them. Release: a thread that
  // finds the pages gone also sees the gives that the caller counted before.
  const std::uint64_t got = atomic::fetch_and<order::acq_rel>(s.word_address(w), ~part) & part;
  if (got == part) return word_claim::all;
  if (got == 0) return word_claim::nothing;
  // Relaxed: the caller did nothing in these pages, and what others released in the word is handed
  // on by read-modify-writes (release sequence).
  if (atomic::fetch_or<order::relaxed>(s.word_address(w), got) == 0) s.raise(w);
  return word_claim::put_back;
}

/// Ends a claim of a run from p on that failed at word w: puts back what it has.
WARPHEAP_OUTLINED void abandon_claim(const heap_view& h, page_index p, std::uint32_t w,
                                     word_claim last) {
  if (w * 64 > p) put_run(stock_of(h), p, w * 64 - p);
  if (last == word_claim::put_back || w * 64 > p)
    let_go(h);
  else
    keep_in_hand(h);
}

/// Takes exactly [p, p + n), or nothing. On success the caller has the run in hand and must call
/// keep_in_hand or let_go.
WARPHEAP_OUTLINED bool claim_run(const heap_view& h, page_index p, std::uint32_t n) {
  take_in_hand(h);
  for (std::uint32_t w = p / 64; w * 64 < p + n; ++w) {
    const word_claim got = claim_word(h, {p, n}, w);
    if (got == word_claim::all) continue;
    abandon_claim(h, p, w, got);
    return false;
  }
  return true;
}

/// Marks pages as the device's, without an object. Relaxed: the thread that publishes them
/// releases.
WARPHEAP_OUTLINED void mark_device_pages(const heap_view& h, page_run run) {
  for (std::uint32_t i = 0; i < run.count; ++i)
    atomic::store<order::relaxed>(h.entry + run.first + i, page_entry::make(stock_class, 0).bits);
  std::uint64_t* high = &h.state->high_page.value;
  const std::uint64_t end = run.first + run.count;
  for (std::uint64_t seen = atomic::load<order::relaxed>(high);
       seen < end && !atomic::compare_exchange<order::relaxed>(high, seen, end);) {
  }
}

/// Gives a run of pages to the stock, after marking them as free pages of the device.
WARPHEAP_SLOW_PATH void give_pages(const heap_view& h, page_run run) {
  mark_device_pages(h, run);
  // Before the pages can be taken: a taker subtracts them, so that the count never drops below
  // zero.
  const std::uint64_t before =
      atomic::fetch_add<order::relaxed>(&h.state->stock_pages.value, std::uint64_t{run.count});
  const bool enough = before + run.count >= chunk_pages;
  put_run(stock_of(h), run.first, run.count);
  note_given(h);
  if (enough && atomic::load<order::relaxed>(&h.state->pressure.value) != 0)
    atomic::store<order::relaxed>(&h.state->pressure.value, std::uint64_t{0});
}

/// Single pages are taken starting within a window of this many pages from the lowest free one:
/// narrow enough to keep the heap compact, wide enough that warps that grow at once seldom meet.
inline constexpr std::uint32_t spread_window_pages = 128;

/// claim_run for a run that leaves the stock.
WARPHEAP_OUTLINED bool take_run(const heap_view& h, page_index p, std::uint32_t n) {
  if (!claim_run(h, p, n)) return false;
  atomic::fetch_add<order::relaxed>(&h.state->stock_pages.value, 0 - std::uint64_t{n});
  return true;
}

/// Takes n adjacent pages of which the first lies in [from, end); 0 when there are none. The pages
/// are in hand, as are those of the functions below.
WARPHEAP_OUTLINED page_index take_between(const heap_view& h, page_index from, page_index end,
                                          std::uint32_t n) {
  while ((from = stock_of(h).next(from)) != 0 && from < end) {
    const std::uint32_t length = run_length(stock_of(h), from, n);
    if (length >= n && take_run(h, from, n)) return from;
    from += length != 0 ? length : 1;
  }
  return 0;
}

/// Takes n adjacent pages; 0 when the search finds none. It passes the stock once and never waits;
/// pages that others hold for a moment look taken.
WARPHEAP_SLOW_PATH page_index take_pages(const heap_view& h, std::uint32_t n) {
  const page_index lowest = stock_of(h).next(1);
  if (lowest == 0) return 0;
  const page_index start = n == 1 ? lowest + spread(h) % spread_window_pages : lowest;
  const page_index p = take_between(h, start, h.pages, n);
  return p != 0 || start == lowest ? p : take_between(h, 1, start, n);
}

/// The same by reading all words, without relying on the marks above them.
WARPHEAP_OUTLINED page_index scan_stock_words(const heap_view& h, std::uint32_t n) {
  const auto high =
      static_cast<page_index>(atomic::load<order::relaxed>(&h.state->high_page.value));
  for (std::uint32_t w = 0; w * 64 < high; ++w) {
    if (stock_of(h).word(w) != 0)
      if (const page_index p = take_between(h, w * 64, (w + 1) * 64, n)) return p;
    // Acquire, after the look: a caller that sees pages gone also sees what their taker released.
    static_cast<void>(atomic::load<order::acquire>(stock_of(h).word_address(w)));
  }
  return 0;
}

/// The last look before a malloc fails. At out-of-memory it reads the stock's words only once each
/// time that pages come in.
WARPHEAP_SLOW_PATH page_index scan_stock(const heap_view& h, std::uint32_t n) {
  constexpr unsigned pages_bits = 24;
  static_assert(page_entry::max_value < 1u << pages_bits);
  const std::uint64_t gives = gives_so_far(h), hands = hands_before(h);
  // Acquire: the scan counts as the caller's own, with all that it saw.
  const std::uint64_t last = atomic::load<order::acquire>(&h.state->stock_scanned.value);
  const std::uint64_t pages = last & bits::low_mask(pages_bits);
  if (pages != 0 && pages <= n && last >> pages_bits == gives << pages_bits >> pages_bits) return 0;
  if (const page_index p = scan_stock_words(h, n)) return p;
  if (gives_so_far(h) == gives && nothing_was_in_hand(h, hands))
    atomic::store<order::release>(&h.state->stock_scanned.value, gives << pages_bits | n);
  return 0;
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
