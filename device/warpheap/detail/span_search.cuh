// Finds a word with free slots of a class, and makes new spans when there is none.
#pragma once

#include <warpheap/detail/refill.cuh>
#include <warpheap/detail/span.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// A word of span p that has free slots, 0 if none. Marks of words that turn out to be zero are
/// cleared, and the word is then looked at again (release on set, acquire on clear: see
/// summary.cuh). `turn`: where to start among the 16 words.
WARPHEAP_OUTLINED word_index find_in_span(const heap_view& h, page_index p, span_record r,
                                          unsigned turn) {
  word_index found = 0;
  std::uint64_t scanned = 0;
  WARPHEAP_ROLLED
  for (unsigned i = 0; i < words_per_page; ++i) {
    const unsigned w = (i + turn) % words_per_page;
    if ((r.nonempty() >> w & 1) == 0) continue;
    const word_index at = index_of_word(p, w);
    ++scanned;
    found = at;
    if (atomic::load<order::relaxed>(h.word + at) != 0) break;
    atomic::fetch_and<order::acquire>(h.rec + p, ~(std::uint64_t{1} << w));
    if (atomic::load<order::relaxed>(h.word + at) != 0) {
      mark_nonempty(h, at);
      break;
    }
    found = 0;
  }
  count(h.state->classes[r.cls()].words_scanned, scanned);
  return found;
}

/// Examines one span of the class's list; clears the list's bit when the span has no free slot.
WARPHEAP_SLOW_PATH word_index find_at(const heap_view& h, unsigned cls, page_index p) {
  span_record r = load_record(h, p);
  if (r.is_live() && r.cls() == cls) {
    if (r.is_retiring()) return 0;  // the undo will publish it again
    const word_index found = find_in_span(h, p, r, spread(h) >> 28);
    if (found != 0) return found;
  }
  has_free_of(h, cls).clear(p);
  r = load_record(h, p);
  if (r.is_live() && r.cls() == cls && r.nonempty() != 0) has_free_of(h, cls).set(p);
  return 0;
}

/// A word with free slots of the class, 0 if the lists show none. Each warp starts at another
/// place, so that warps spread over the existing spans; every span in the list is examined once.
WARPHEAP_SLOW_PATH word_index find_word(const heap_view& h, unsigned cls) {
  const summary list = has_free_of(h, cls);
  const auto high =
      static_cast<page_index>(atomic::load<order::relaxed>(&h.state->high_page.value));
  if (high == 0) return 0;
  const page_index start = spread(h) % high;
  for (page_index p = list.next(start); p != 0; p = list.next(p + 1))
    if (const word_index found = find_at(h, cls, p)) return found;
  for (page_index p = list.next(1); p != 0 && p < start; p = list.next(p + 1))
    if (const word_index found = find_at(h, cls, p)) return found;
  return 0;
}

/// The same without relying on marks and lists, by reading the words of all spans of the class:
/// free bits are invisible to find_word while a thread is between a change and its mark. The last
/// step before a malloc answers nullptr.
WARPHEAP_SLOW_PATH word_index scan_words(const heap_view& h, unsigned cls) {
  const auto high =
      static_cast<page_index>(atomic::load<order::relaxed>(&h.state->high_page.value));
  word_index found = 0;
  std::uint64_t scanned = 0;
  for (page_index p = 1; p < high && found == 0; ++p) {
    const span_record r = load_record(h, p);
    if (!r.is_live() || r.cls() != cls) continue;
    for (unsigned w = 0; w < span_words(cls) && found == 0; ++w, ++scanned)
      if (atomic::load<order::relaxed>(h.word + index_of_word(p, w)) != 0)
        found = index_of_word(p, w);
  }
  count(h.state->classes[cls].words_scanned, scanned);
  return found;
}

enum class grow_result { grown, crowded, exhausted };

/// Makes one more span of the class. At most one warp more than the class has spans does so at a
/// time, so that growth doubles: enough for a burst of warps, and a single span for a class that is
/// used once. The caller leaves up to `patience` rounds to others; at 0 it grows anyway, so that a
/// grower that never comes back (its kernel was aborted) blocks nobody.
WARPHEAP_SLOW_PATH grow_result grow_class(const heap_view& h, unsigned cls, unsigned patience) {
  std::uint32_t* growers = h.state->growers + cls;
  const std::uint32_t others = atomic::fetch_add<order::relaxed>(growers, 1u);
  grow_result result = grow_result::crowded;
  if (patience == 0 || others <= atomic::load<order::relaxed>(h.state->spans + cls)) {
    const page_index p = get_pages(h, span_pages(cls));
    if (p != 0) {
      publish_span(h, cls, p);
      let_go(h);
    }
    result = p != 0 ? grow_result::grown : grow_result::exhausted;
  }
  atomic::fetch_add<order::relaxed>(growers, ~0u);
  return result;
}

/// Retires every span of the class that has no object. Returns the number of pages that came back.
WARPHEAP_OUTLINED std::uint32_t reclaim_class(const heap_view& h, unsigned cls) {
  std::uint32_t pages = 0;
  for (page_index p = 0; (p = has_free_of(h, cls).next(p + 1)) != 0;) pages += retire_span(h, p);
  return pages;
}

/// Retires every span of every class that has no object. Returns the number of pages that came
/// back. One warp does this at a time; others get 0 at once.
WARPHEAP_SLOW_PATH std::uint32_t reclaim(const heap_view& h) {
  std::uint64_t expected = 0;
  if (!atomic::compare_exchange<order::acquire>(&h.state->reclaiming.value, expected,
                                                std::uint64_t{1}))
    return 0;
  std::uint32_t pages = 0;
  for (unsigned cls = 1; cls < span_classes; ++cls) pages += reclaim_class(h, cls);
  atomic::store<order::release>(&h.state->reclaiming.value, std::uint64_t{0});
  return pages;
}

/// Bound of the search below: an iteration fails only when another thread was faster.
inline constexpr unsigned max_search_rounds = 1u << 14;

/// State of a searching malloc between looks. It is in memory: kept in registers across the calls,
/// it would count for every kernel that may get here.
struct search_state {
  host_wait host;       ///< from its start on
  std::uint64_t seen;   ///< the count of gives before its last look at the stock
  std::uint64_t hands;  ///< hands_before its last looks
  std::uint64_t gives;  ///< the count of gives before its scan of all words
  word_index found = 0;
  unsigned reclaims = 0;    ///< how often it has asked for other classes' pages
  unsigned hand_looks = 0;  ///< how often it has looked again for what was in hand
  unsigned patience = 64;   ///< growths that it still leaves to others
  unsigned pause = 32;      ///< nanoseconds of the next such pause
};

/// Pauses while other warps make spans of the class.
WARPHEAP_OUTLINED void leave_to_others(search_state& s) {
  --s.patience;
  __nanosleep(s.pause);
  s.pause = s.pause < 1024 ? 2 * s.pause : s.pause;
}

/// Brings the pages of empty spans of all classes into the stock, or waits for the warp that does,
/// within the limit of a refill. True when pages have come since `seen`, the count of gives before
/// the caller's last look at the stock: another look is worthwhile. The count must be older than
/// the look, or pages that came between the two would be missed (see stock.cuh).
WARPHEAP_OUTLINED bool reclaim_or_await(const heap_view& h, std::uint64_t& seen) {
  if (reclaim(h) == 0) {
    const std::uint64_t start = now_ns();
    unsigned pause = 128;
    // Acquire: a thread that sees that the other warp is done sees what it gave.
    while (atomic::load<order::acquire>(&h.state->reclaiming.value) != 0
           && now_ns() - start <= h.refill_timeout_ns)
      back_off(pause);
  }
  const std::uint64_t before = seen;
  seen = gives_so_far(h);
  return seen != before;
}

/// How often a malloc tries with reclaimed pages, which others may take first.
inline constexpr unsigned max_reclaims = 8;

/// How often a malloc looks again because something was in hand while it found nothing. If
/// something is always in hand, it then answers nullptr without waiting for the time limit.
inline constexpr unsigned max_hand_looks = 16;
/// Before each of these looks it waits until nothing is in hand, or it has seen this many changes.
inline constexpr unsigned max_hand_changes = 64;

/// Waits for what others had in hand during a failed look. True when another look is worthwhile;
/// false when there were enough, or the limit of a refill is over. If nothing is in hand at that
/// moment, one more is worthwhile: it may have been let go while the warp slept.
WARPHEAP_OUTLINED bool await_hands(const heap_view& h, search_state& s) {
  if (s.hand_looks++ == max_hand_looks) return false;
  unsigned pause = 64;
  for (unsigned changes = 0; changes < max_hand_changes;) {
    const bool late = is_late(h, s.host);
    if (late) s.hand_looks = max_hand_looks;
    const std::uint64_t now = hands_before(h);
    if (!any_hand(now)) return true;
    if (late) return false;
    changes += now != s.hands;
    s.hands = now;
    back_off(pause);
  }
  return true;
}

/// Reads all words of the class. False when an earlier reading found nothing and no pages have been
/// given since: frees of this class would be in its lists by now.
WARPHEAP_OUTLINED bool scan_for_news(const heap_view& h, unsigned cls, search_state& s) {
  s.gives = atomic::load<order::relaxed>(&h.state->gives.value);
  if (atomic::load<order::relaxed>(h.state->scanned_at + cls) == s.gives + 1) return false;
  s.found = scan_words(h, cls);
  return true;
}

/// Continues a search when lists and stock show nothing for the class: true when it is over, with a
/// word or 0 in `s.found`.
WARPHEAP_OUTLINED bool search_is_over(const heap_view& h, unsigned cls, search_state& s) {
  if (s.reclaims++ < max_reclaims && reclaim_or_await(h, s.seen)) return false;
  const bool known = !scan_for_news(h, cls, s);
  if (s.found != 0) return true;
  if (!nothing_was_in_hand(h, s.hands)) return !await_hands(h, s);
  if (!known) atomic::store<order::relaxed>(h.state->scanned_at + cls, s.gives + 1);
  return true;
}

/// A word that had free slots of the class a moment ago. Tries all means in order of cost: lists, a
/// new span, pages of other classes' empty spans, a scan of all words. 0 = out of memory, with
/// nothing in hand anywhere (in_hand.cuh) unless a bound above was reached.
WARPHEAP_SLOW_PATH word_index search_word(const heap_view& h, unsigned cls) {
  search_state s{begin_host_wait(h), gives_so_far(h), 0, 0};
  WARPHEAP_ROLLED
  for (unsigned round = 0; round < max_search_rounds; ++round) {
    s.hands = hands_before(h);
    if (const word_index listed = find_word(h, cls)) return listed;
    const grow_result grown = grow_class(h, cls, s.patience);
    if (grown == grow_result::crowded) {
      leave_to_others(s);
    } else if (grown == grow_result::exhausted && search_is_over(h, cls, s)) {
      return s.found;
    }
  }
  return 0;
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
