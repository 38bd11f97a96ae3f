// Whether a long run could be there at all, if everything free came together: the stock, the host's
// pages, spans without an object. A malloc that brings pages together makes others pay for it and
// has to know that it can be of use.
//
// Pages are looked at from the far end of each place for the run: one in use there rules out all
// places that have it, so a crowded heap takes few looks (as in Boyer and Moore's search for a
// string). What an object of the host has is for the host to say.
//
// A page that moves. While one place for the run is there at any time, a look must not find that
// there is none: whoever made room in one place before he took it in another has counted a give
// between the two. His taking releases what he did before, with the entry of a large object, and
// the look acquires it: the caller sees another count after the look than before it, and does not
// believe it. Of a new span it sees that something was in hand. Not seen is who takes a slot of a
// span that had no object: that tells nobody of what he gave before.
#pragma once

#include <warpheap/detail/span_search.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// True when a slot of the span is in use. Relaxed: who made the span had its pages in hand and let
/// go of them (grow_class), so a look that sees the span is believed only by who sees that as well.
/// For if the second reading of the hands came before the maker's taking in hand, that acquires it
/// (in_hand.cuh): the look would come before the span that it sees. Large objects are kept in hand
/// and leave no trace there; hence the acquire below.
WARPHEAP_OUTLINED bool has_objects(const heap_view& h, page_index p, unsigned cls) {
  WARPHEAP_ROLLED
  for (unsigned w = 0; w < span_words(cls); ++w)
    if (atomic::load<order::relaxed>(h.word + index_of_word(p, w)) != full_word) return true;
  return false;
}

/// 0 when no object of a kernel needs page p; else the first page behind what needs it. Inner pages
/// of a large object are not told from free ones, its first one is.
WARPHEAP_OUTLINED page_index used_until(const heap_view& h, page_index p) {
  const page_entry e{atomic::load<order::acquire>(h.entry + p)};
  if (e.cls() == large_class) return p + e.value();
  if (e.cls() == no_class || e.cls() >= span_classes) return 0;
  return has_objects(h, p - e.value(), e.cls()) ? p + 1 : 0;
}

/// A word of the stock all of whose pages are free.
inline constexpr std::uint64_t full_stock_word = ~std::uint64_t{0};

/// A search for room. In memory, as the others' (search_state).
struct room_search {
  std::uint32_t n;
  page_index high;       ///< from here on no page is the device's
  page_index first = 1;  ///< where the run is to begin
  page_index known = 1;  ///< pages from `first` up to this one are not in use
  page_window found{0, 0};
};

/// Goes down from page `end` as long as pages are not in use, to `known` at most. True when it came
/// there; else `used` is what used_until says of the page that stopped it.
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

/// There is room at `first`: notes it, up to the next page in use, and goes on behind that.
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

/// Looks at the first place that is left.
WARPHEAP_OUTLINED void look_for_room(const heap_view& h, room_search& s) {
  const page_index end = s.first + s.n;
  page_index used = 0;
  if (is_free_down_to(h, s.known, end < s.high ? end : s.high, used)) return note_room(h, s);
  s.known = used > end ? used : end;
  s.first = used;
}

/// From the first to the last page where n pages in a row are free of kernels' objects; {0, 0} when
/// there is no such place.
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
