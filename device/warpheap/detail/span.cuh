// The life of a device span: published by grow, claimed from and freed to, retired when empty.
//
//   dead --publish: entries, words, then the record--> live --retire: takes every word--> dead
//                                                        ^---- undo: a word was not full ----'
// A free bit that is set belongs to nobody; one that is clear belongs to exactly one holder. Only
// fetch_and takes, only fetch_or gives. Whoever holds a bit pins the span: retire needs every word
// to be full, so class and extent cannot change under the holder. Everything about a span's
// incarnation is in one word, its record, and every read-modify-write of the record returns the
// incarnation that it hit: nobody acts on what he remembers of an earlier one.
#pragma once

#include <warpheap/detail/home.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// Index of a free word: page * 16 + word of the span. 0 = none, as page 0 is never a span's.
using word_index = std::uint32_t;

__device__ __forceinline__ word_index index_of_word(page_index p, unsigned w) {
  return p * words_per_page + w;
}
__device__ __forceinline__ page_index page_of(word_index i) { return i / words_per_page; }

__device__ __forceinline__ summary has_free_of(const heap_view& h, unsigned cls) {
  return summary(h.has_free_of(cls), h.pages);
}

__device__ __forceinline__ span_record load_record(const heap_view& h, page_index p) {
  return {atomic::load<order::relaxed>(h.rec + p)};
}

/// Duty of whoever made word i non-zero, or saw it so after clearing its bit: make it findable.
/// The class comes from the record that this very operation hit. A dead record: grow publishes
/// later and finds the bit. A retiring one: the undo publishes.
/// Release: who clears the bit afterwards sees the word as it is now.
WARPHEAP_SLOW_PATH void mark_nonempty(const heap_view& h, word_index i) {
  const page_index p = page_of(i);
  const span_record r{
      atomic::fetch_or<order::release>(h.rec + p, std::uint64_t{1} << (i % words_per_page))};
  if (r.nonempty() == 0 && r.is_live() && !r.is_retiring()) has_free_of(h, r.cls()).set(p);
}

/// The address reported for a slot of word i; the page's where its class has no slots any more.
WARPHEAP_OUTLINED std::uint64_t address_told(const heap_view& h, word_index i, unsigned cls,
                                             unsigned bit) {
  const bool has_slots = cls != no_class && cls < span_classes;
  return reinterpret_cast<std::uint64_t>(
      has_slots ? slot_address(h, page_of(i), cls, i % words_per_page * 64 + bit)
                : h.base + (std::uint64_t{page_of(i)} << page_shift));
}

/// Reports second frees of slots of word i, one for each bit. `cls` is the class of the page.
WARPHEAP_SLOW_PATH void report_twice(const heap_view& h, error_kind kind, word_index i,
                                     unsigned cls, std::uint64_t twice) {
  for (; twice != 0; twice &= twice - 1)
    report(h, kind, address_told(h, i, cls, static_cast<unsigned>(bits::countr_zero(twice))));
}

/// Puts claimed bits back. Release, as with a free: the bits must not become visible before the
/// look at the page's entry that made the holder give them back.
WARPHEAP_SLOW_PATH void give_back(const heap_view& h, word_index i, std::uint64_t bits,
                                  unsigned cls) {
  [[maybe_unused]] const unbroken step;
  const std::uint64_t old = atomic::fetch_or<order::release>(h.word + i, bits);
  // Only a second free can have set a bit that was held.
  if ((old & bits) != 0) report_twice(h, error_kind::late_double_free, i, cls, old & bits);
  if (old == 0) mark_nonempty(h, i);
}

/// Classes with no more spans than this keep them all.
inline constexpr std::uint32_t spare_spans = 4;
/// For each span that a class gave up and wanted again, so many have to become empty in vain. A
/// load that goes up and down gives up half of its spans once, and then makes about a tenth of them
/// anew each time; half of them without this.
inline constexpr std::uint32_t regret = 8;

/// A span was made: what was counted towards giving some up counts no more. The counters are hints;
/// two growths that cross may miss one.
WARPHEAP_OUTLINED void note_growth(const heap_view& h, unsigned cls) {
  std::uint32_t* given_up = h.state->given_up + cls;
  const std::uint32_t n = atomic::load<order::relaxed>(given_up);
  if (n != 0) {
    atomic::store<order::relaxed>(given_up, n - 1);
    atomic::fetch_add<order::relaxed>(h.state->idle_spans + cls, 0u - regret);
  } else if (static_cast<std::int32_t>(atomic::load<order::relaxed>(h.state->idle_spans + cls))
             > 0) {
    atomic::store<order::relaxed>(h.state->idle_spans + cls, 0u);
  }
}

/// Clears mask word i, which stands for 32 addresses, and reports each bit that was set.
WARPHEAP_OUTLINED void drop_stale_word(const heap_view& h, std::size_t i) {
  if (atomic::load<order::relaxed>(h.tiny_mask + i) == 0) return;
  for (std::uint32_t stale = atomic::exchange<order::relaxed>(h.tiny_mask + i, 0u); stale != 0;
       stale &= stale - 1)
    report(h, error_kind::late_double_free,
           reinterpret_cast<std::uint64_t>(h.base) + i * 32
               + static_cast<unsigned>(__ffs(static_cast<int>(stale)) - 1));
}

/// What kernels' frees of dead objects have left in the mask words of page p while it was not the
/// device's, which are to be the masks of tiny objects. Reported, and gone before an object can be
/// where they are. Relaxed: the page's publication follows.
WARPHEAP_SLOW_PATH void drop_stale_marks(const heap_view& h, page_index p) {
  const summary list = has_free_of(h, no_class);
  if ((list.word(p / 64) >> (p % 64) & 1) == 0) return;
  list.clear(p);
  WARPHEAP_ROLLED
  for (unsigned i = 0; i < page_size / 32; ++i)
    drop_stale_word(h, std::size_t{p} * (page_size / 32) + i);
}

/// Names a span's class in the entries of its pages.
WARPHEAP_OUTLINED void publish_entries(const heap_view& h, unsigned cls, page_index p) {
  WARPHEAP_ROLLED
  for (unsigned i = 0; i < span_pages(cls); ++i)
    atomic::store<order::relaxed>(h.entry + p + i, page_entry::make(cls, i).bits);
}

/// Makes one word of free slots.
WARPHEAP_OUTLINED void publish_word(const heap_view& h, unsigned cls, word_index at) {
  // Release: who claims a slot sees the entries. A bit that is set already came from a second
  // free that hit the dead span.
  const std::uint64_t old = atomic::exchange<order::release>(h.word + at, full_word);
  if (old != 0) report_twice(h, error_kind::late_double_free, at, cls, old);
}

/// Makes n = span_pages(cls) pages that the caller owns into a span with every slot free.
WARPHEAP_SLOW_PATH void publish_span(const heap_view& h, unsigned cls, page_index p) {
  if (cls == tiny_blocks) drop_stale_marks(h, p);
  publish_entries(h, cls, p);
  WARPHEAP_ROLLED
  for (unsigned w = 0; w < span_words(cls); ++w) publish_word(h, cls, index_of_word(p, w));
  // A read-modify-write, not a store: late threads' marks stay in the record's chain. Acquire and
  // release: who clears a mark later must see the words that those threads saw.
  atomic::exchange<order::acq_rel>(h.rec + p, span_record::make_live(cls).bits);
  has_free_of(h, cls).set(p);
  atomic::fetch_add<order::relaxed>(h.state->spans + cls, 1u);
  note_growth(h, cls);
  count(h.state->classes[cls].grows);
}

/// True when all words of the span of class cls look full: worth trying to retire it. A hint and no
/// more.
WARPHEAP_OUTLINED bool looks_empty(const heap_view& h, page_index p, unsigned cls) {
  WARPHEAP_ROLLED
  for (unsigned w = 0; w < span_words(cls); ++w)
    if (atomic::load<order::relaxed>(h.word + index_of_word(p, w)) != full_word) return false;
  return true;
}

/// Takes all slots of the span, word by word, until one is not full; returns how many words it
/// took.
WARPHEAP_OUTLINED unsigned take_full_words(const heap_view& h, page_index p, unsigned cls) {
  unsigned taken = 0;
  WARPHEAP_ROLLED
  for (; taken < span_words(cls); ++taken) {
    std::uint64_t full = full_word;
    // Acquire: the last free's writes to the object come before the pages' next use.
    if (!atomic::compare_exchange<order::acquire>(h.word + index_of_word(p, taken), full,
                                                  std::uint64_t{0}))
      break;
  }
  return taken;
}

/// Gives back the words that a retirement took before it came to one that is not full: no pages.
WARPHEAP_OUTLINED std::uint32_t undo_retire(const heap_view& h, page_index p, unsigned cls,
                                            unsigned taken) {
  WARPHEAP_ROLLED
  for (unsigned w = 0; w < taken; ++w) give_back(h, index_of_word(p, w), full_word, cls);
  // Frees that saw "retiring" left the class's bit to the undo. Their marks come before this
  // read-modify-write in the record's order and are in the value that it returns.
  const span_record after{atomic::fetch_and<order::relaxed>(h.rec + p, ~span_record::retiring)};
  if (after.nonempty() != 0) has_free_of(h, cls).set(p);
  return 0;
}

/// The end of a span of which a retirement has every word. Returns the number of its pages.
WARPHEAP_OUTLINED std::uint32_t bury_span(const heap_view& h, page_index p, unsigned cls) {
  // A plain store is right here and only here: the span is dead, nobody's mark is needed.
  atomic::store<order::relaxed>(h.rec + p, std::uint64_t{0});
  atomic::fetch_add<order::relaxed>(h.state->spans + cls, ~0u);
  count(h.state->classes[cls].retires);
  release_pages(h, {p, span_pages(cls)});
  return span_pages(cls);
}

/// Makes p a retiring span and takes it in hand, if it looks like an empty one; returns its class,
/// no_class otherwise.
WARPHEAP_OUTLINED unsigned begin_retiring(const heap_view& h, page_index p) {
  const span_record r = load_record(h, p);
  if (!r.is_live() || r.is_retiring() || !looks_empty(h, p, r.cls())) return no_class;
  take_in_hand(h);
  // One winner; from here on class and geometry are those of the record that was replaced.
  std::uint64_t expected = r.bits;
  if (atomic::compare_exchange<order::relaxed>(h.rec + p, expected, r.bits | span_record::retiring))
    return r.cls();
  keep_in_hand(h);
  return no_class;
}

/// Gives the span's pages to the stock if no slot of it is in use. May be called by anyone at any
/// time with any page; returns the number of pages given, 0 when the span is in use, gone, or
/// being retired by another. Never waits. Meanwhile the span is in hand: no search finds its slots.
WARPHEAP_SLOW_PATH std::uint32_t retire_span(const heap_view& h, page_index p) {
  const unsigned cls = begin_retiring(h, p);
  if (cls == no_class) return 0;
  has_free_of(h, cls).clear(p);  // before the pages go: later it could be the next owner's bit
  const unsigned taken = take_full_words(h, p, cls);
  const std::uint32_t pages =
      taken == span_words(cls) ? bury_span(h, p, cls) : undo_retire(h, p, cls, taken);
  let_go(h);
  return pages;
}

/// Spans that a class looks at for one to give up.
inline constexpr unsigned surplus_looks = 16;

/// The same for a page that may not be such a span.
WARPHEAP_OUTLINED bool looks_idle(const heap_view& h, page_index p, unsigned cls) {
  const span_record r = load_record(h, p);
  return r.is_live() && !r.is_retiring() && r.cls() == cls && looks_empty(h, p, cls);
}

/// A search for a span of a class to give up. In memory, as the others' (search_state).
struct surplus_search {
  unsigned cls;
  page_index found;  ///< the best one so far
  unsigned looks = 0;
};

/// Looks at the spans in the highest word of the class's list below w, as far as they lie behind
/// the best one, the highest first. Returns that word.
WARPHEAP_OUTLINED std::uint32_t look_for_surplus(const heap_view& h, std::uint32_t w,
                                                 surplus_search& s) {
  w = has_free_of(h, s.cls).word_below(w);
  for (std::uint64_t here = has_free_of(h, s.cls).word(w); here != 0 && s.looks < surplus_looks;
       ++s.looks) {
    const auto above = 63 - static_cast<unsigned>(bits::countl_zero(here));
    const page_index q = w * 64 + above;
    if (q <= s.found) break;
    here &= bits::low_mask(above);
    if (!looks_idle(h, q, s.cls)) continue;
    s.found = q;
    break;
  }
  return w;
}

/// The span of class cls to give up when span p has become empty: the highest that looks empty, p
/// at the least. So the class gives up the top of its pages, whatever the order of the frees, and
/// the next class finds a long run there and not one hole for each span.
WARPHEAP_OUTLINED page_index span_to_give_up(const heap_view& h, unsigned cls, page_index p) {
  const std::uint64_t high = atomic::load<order::relaxed>(&h.state->high_page.value);
  auto w = static_cast<std::uint32_t>(level_words(high, 0));
  surplus_search s{cls, p};
  while (s.found == p && s.looks < surplus_looks && w > p / 64) w = look_for_surplus(h, w, s);
  return s.found;
}

/// A free may have made span p empty: retires one when the class has more of them than it needs,
/// which is when as many as half of its spans have become empty since it last grew. The count is
/// not exact (a span that is taken from again and emptied counts twice).
WARPHEAP_SLOW_PATH void retire_surplus(const heap_view& h, page_index p) {
  const span_record r = load_record(h, p);
  if (!r.is_live() || r.is_retiring()) return;
  const unsigned cls = r.cls();
  const std::uint32_t spans = atomic::load<order::relaxed>(h.state->spans + cls);
  if (spans <= spare_spans || !looks_empty(h, p, cls)) return;
  const std::uint32_t idle = 1 + atomic::fetch_add<order::relaxed>(h.state->idle_spans + cls, 1u);
  if (static_cast<std::int32_t>(idle) <= static_cast<std::int32_t>(spans / 2)
      || retire_span(h, span_to_give_up(h, cls, p)) == 0)
    return;
  atomic::fetch_add<order::relaxed>(h.state->idle_spans + cls, ~0u);
  atomic::fetch_add<order::relaxed>(h.state->given_up + cls, 1u);
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
