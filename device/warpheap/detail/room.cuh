// Whether a long run would be possible if everything free came together: the stock, the host's
// pages, spans without an object. A malloc that gathers pages makes others pay for it, so it must
// know first that this can help.
//
// Each place for the run is examined from its far end: a page in use there rules out all places
// that contain it, so a crowded heap takes few looks (as in Boyer and Moore's string search). Only
// the host can say which pages its own objects occupy.
//
// Moving room. As long as at each moment there is some place for the run, a look must not conclude
// that there is none. A thread that makes room in one place before it takes it in another counts a
// give between the two. If it takes pages for a large object, it releases the give with the
// object's entry, and the look acquires the entry: the caller finds the count changed since before
// the look, and does not trust it. If it makes a span, the caller sees that something was in hand.
// A thread that takes a slot of a span without objects goes unnoticed: that releases nothing of
// earlier gives.
#pragma once

#include <warpheap/detail/span_search.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// True when a slot of the span is in use. Relaxed: the maker of a span had its pages in hand and
/// let go of them afterwards (grow_class). A caller whose look sees the span also sees that, and
/// does not trust the look: otherwise its second reading of the hands would precede the maker's
/// take_in_hand, which acquires it (in_hand.cuh), and the look would happen before the making of
/// the span that it sees. Takers of large objects keep_in_hand, which leaves no trace; hence the
/// acquire below.
WARPHEAP_OUTLINED bool has_objects(const heap_view& h, page_index p, unsigned cls) {
  WARPHEAP_ROLLED
  for (unsigned w = 0; w < span_words(cls); ++w)
    if (atomic::load<order::relaxed>(h.word + index_of_word(p, w)) != full_word) return true;
  return false;
}

/// 0 when no object of a kernel needs page p; else the first page after what needs it. Inner pages
/// of a large object look like free ones; only its first page tells.
WARPHEAP_OUTLINED page_index used_until(const heap_view& h, page_index p) {
  const page_entry e{atomic::load<order::acquire>(h.entry + p)};
  if (e.cls() == large_class) return p + e.value();
  if (e.cls() == no_class || e.cls() >= span_classes) return 0;
  return has_objects(h, p - e.value(), e.cls()) ? p + 1 : 0;
}

/// A word of the stock whose pages are all free.
inline constexpr std::uint64_t full_stock_word = ~std::uint64_t{0};

/// A search for room. In memory, like other searches (search_state).
struct room_search {
  std::uint32_t n;
  page_index high;       ///< no page from here on is the device's
  page_index first = 1;  ///< candidate start of the run
  page_index known = 1;  ///< pages from `first` up to this one are not in use
  page_window found{0, 0};
};

/// Walks down from page `end` to `known` while pages are not in use. True when it reached `known`;
/// else `used` is what used_until says of the page that stopped it.
WARPHEAP_OUTLINED bool is_free_down_to(const heap_view& h, page_index known, page_index end,
                                       page_index& used) {
  WARPHEAP_ROLLED
  while (end > known) {
    if (end % 64 == 0 && end - known >= 64 && stock_of(h).word(end / 64 - 1) == full_stock_word) {
      end -= 64;
      continue;
    }
    used = used_until(h, end - 1);
    if (used != 0) return false;
    --end;
  }
  return true;
}

/// There is room at `first`: notes it, up to the next page in use, and continues after that.
WARPHEAP_OUTLINED void note_room(const heap_view& h, room_search& s) {
  if (s.found.end == 0) s.found.first = s.first;
  s.found.end = s.first + s.n;
  s.first = s.known = h.pages;
  WARPHEAP_ROLLED
  for (; s.found.end < s.high; ++s.found.end)
    if (const page_index used = used_until(h, s.found.end)) {
      s.first = s.known = used;
      return;
    }
  s.found.end = h.pages;
}

/// Examines the first remaining place.
WARPHEAP_OUTLINED void look_for_room(const heap_view& h, room_search& s) {
  const page_index end = s.first + s.n;
  page_index used = 0;
  if (is_free_down_to(h, s.known, end < s.high ? end : s.high, used)) return note_room(h, s);
  s.known = used > end ? used : end;
  s.first = used;
}

/// The pages from the first to the last place where n contiguous pages are free of kernels'
/// objects; {0, 0} when there is no such place.
WARPHEAP_SLOW_PATH page_window room_for(const heap_view& h, std::uint32_t n) {
  room_search s{n,
                static_cast<page_index>(atomic::load<order::relaxed>(&h.state->high_page.value))};
  WARPHEAP_ROLLED
  while (s.first < h.pages && h.pages - s.first >= n) look_for_room(h, s);
  return s.found;
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
