// The life of a device span: published by grow, claimed from and freed to, retired when empty.
//
//   dead --publish: entries, words, then the record--> live --retire: takes every word--> dead
//                                                        ^---- undo: a word was not full ----'
// A free bit that is set belongs to nobody; a clear one belongs to exactly one holder. Only
// fetch_and takes, only fetch_or gives. The holder of a bit pins the span: retire needs every word
// to be full, so class and extent cannot change under the holder. A span's incarnation is described
// by one word, its record, and every read-modify-write of the record returns the incarnation that
// it changed: no thread acts on what it remembers of an earlier one.
#pragma once

#include <warpheap/detail/home.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// Index of a free word: page * 16 + word of the span. 0 = none, as page 0 never belongs to a span.
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

/// Makes word i findable: to be called by a thread that made the word non-zero, or that cleared its
/// mark and then saw it non-zero. The class comes from the record that this very operation changed.
/// If that is dead, a growth publishes later and finds the bit; if it is retiring, the undo
/// publishes. Release: a thread that clears the mark afterwards sees the word as it is now.
WARPHEAP_SLOW_PATH void mark_nonempty(const heap_view& h, word_index i) {
  const page_index p = page_of(i);
  const span_record r{
      atomic::fetch_or<order::release>(h.rec + p, std::uint64_t{1} << (i % words_per_page))};
  if (r.nonempty() == 0 && r.is_live() && !r.is_retiring()) has_free_of(h, r.cls()).set(p);
}

/// The address to report for a slot of word i; that of its page if the class has no slots any more.
WARPHEAP_OUTLINED std::uint64_t address_told(const heap_view& h, word_index i, unsigned cls,
                                             unsigned bit) {
  const bool has_slots = cls != no_class && cls < span_classes;
  return reinterpret_cast<std::uint64_t>(
      has_slots ? slot_address(h, page_of(i), cls, i % words_per_page * 64 + bit)
                : h.base + (std::uint64_t{page_of(i)} << page_shift));
}

/// Reports second frees of slots of word i, one for each bit. `cls` is the page's class.
WARPHEAP_SLOW_PATH void report_twice(const heap_view& h, error_kind kind, word_index i,
                                     unsigned cls, std::uint64_t twice) {
  for (; twice != 0; twice &= twice - 1)
    report(h, kind, address_told(h, i, cls, static_cast<unsigned>(bits::countr_zero(twice))));
}

/// Puts claimed bits back. Release, as in free: the bits must not become visible before the
/// holder's look at the page's entry that made it give them back.
WARPHEAP_SLOW_PATH void give_back(const heap_view& h, word_index i, std::uint64_t bits,
                                  unsigned cls) {
  [[maybe_unused]] const unbroken step;
  const std::uint64_t old = atomic::fetch_or<order::release>(h.word + i, bits);
  // Only a second free can have set a bit that was held.
  if ((old & bits) != 0) report_twice(h, error_kind::late_double_free, i, cls, old & bits);
  if (old == 0) mark_nonempty(h, i);
}

/// A class with at most this many spans keeps them all.
inline constexpr std::uint32_t spare_spans = 4;
/// Weight of a span that a class gave up and wanted again: before it gives up another, this many
/// more spans must become empty. A load that goes up and down gives up half of its spans once, and
/// then makes about a tenth of them anew in each cycle; half of them without this.
inline constexpr std::uint32_t regret = 8;

/// A span was made: charges `regret` if one had been given up, else resets the count of idle spans.
/// The counters are hints; two concurrent growths may lose one update.
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

/// Kernels' frees of dead objects may have left bits in the mask words of page p while it was not
/// the device's. These words become masks of tiny objects, so the bits are reported and cleared
/// before an object can be there. Relaxed: the page's publication follows.
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

/// Publishes one word of free slots.
WARPHEAP_OUTLINED void publish_word(const heap_view& h, unsigned cls, word_index at) {
  // Release: a thread that claims a slot sees the entries. A bit that is already set comes from a
  // second free that hit the dead span.
  const std::uint64_t old = atomic::exchange<order::release>(h.word + at, full_word);
  if (old != 0) report_twice(h, error_kind::late_double_free, at, cls, old);
}

/// Makes span_pages(cls) pages that the caller owns into a span with every slot free.
WARPHEAP_SLOW_PATH void publish_span(const heap_view& h, unsigned cls, page_index p) {
  if (cls == tiny_blocks) drop_stale_marks(h, p);
  publish_entries(h, cls, p);
  WARPHEAP_ROLLED
  for (unsigned w = 0; w < span_words(cls); ++w) publish_word(h, cls, index_of_word(p, w));
  // A read-modify-write, not a store: late threads' marks stay in the record's chain. Acquire and
  // release: a thread that clears a mark later must see the words that those threads saw.
  atomic::exchange<order::acq_rel>(h.rec + p, span_record::make_live(cls).bits);
  has_free_of(h, cls).set(p);
  atomic::fetch_add<order::relaxed>(h.state->spans + cls, 1u);
  note_growth(h, cls);
  count(h.state->classes[cls].grows);
}

/// True when all words of the span of class cls look full: worth trying to retire it. Only a hint.
WARPHEAP_OUTLINED bool looks_empty(const heap_view& h, page_index p, unsigned cls) {
  WARPHEAP_ROLLED
  for (unsigned w = 0; w < span_words(cls); ++w)
    if (atomic::load<order::relaxed>(h.word + index_of_word(p, w)) != full_word) return false;
  return true;
}

/// Takes all slots of the span, word by word, up to the first word that is not full; returns the
/// number of words taken.
WARPHEAP_OUTLINED unsigned take_full_words(const heap_view& h, page_index p, unsigned cls) {
  unsigned taken = 0;
  WARPHEAP_ROLLED
  for (; taken < span_words(cls); ++taken) {
    std::uint64_t full = full_word;
    // Acquire: the owner's last writes to each object happen before the pages' next use.
    if (!atomic::compare_exchange<order::acquire>(h.word + index_of_word(p, taken), full,
                                                  std::uint64_t{0}))
      break;
  }
  return taken;
}

/// Undoes a retirement that met a word that is not full: gives its words back. Returns 0: no pages.
WARPHEAP_OUTLINED std::uint32_t undo_retire(const heap_view& h, page_index p, unsigned cls,
                                            unsigned taken) {
  WARPHEAP_ROLLED
  for (unsigned w = 0; w < taken; ++w) give_back(h, index_of_word(p, w), full_word, cls);
  // Frees that saw "retiring" left the bit in the class's list to this undo. Their marks precede
  // this read-modify-write in the record's modification order and are in the value that it returns.
  const span_record after{atomic::fetch_and<order::relaxed>(h.rec + p, ~span_record::retiring)};
  if (after.nonempty() != 0) has_free_of(h, cls).set(p);
  return 0;
}

/// Ends a span all of whose words a retirement has taken. Returns the number of its pages.
WARPHEAP_OUTLINED std::uint32_t bury_span(const heap_view& h, page_index p, unsigned cls) {
  // Only here is a plain store correct: the span is dead, nobody's mark is needed.
  atomic::store<order::relaxed>(h.rec + p, std::uint64_t{0});
  atomic::fetch_add<order::relaxed>(h.state->spans + cls, ~0u);
  count(h.state->classes[cls].retires);
  release_pages(h, {p, span_pages(cls)});
  return span_pages(cls);
}

/// Sets "retiring" in the record of p if it looks like an empty span, which is then in hand;
/// returns its class, else no_class.
WARPHEAP_OUTLINED unsigned begin_retiring(const heap_view& h, page_index p) {
  const span_record r = load_record(h, p);
  if (!r.is_live() || r.is_retiring() || !looks_empty(h, p, r.cls())) return no_class;
  take_in_hand(h);
  // There is one winner; class and geometry are from here on those of the record that it replaced.
  std::uint64_t expected = r.bits;
  if (atomic::compare_exchange<order::relaxed>(h.rec + p, expected, r.bits | span_record::retiring))
    return r.cls();
  keep_in_hand(h);
  return no_class;
}

/// Gives the span's pages to the stock if no slot of it is in use. Any thread may call it for any
/// page at any time. Returns the number of pages given: 0 when the span is in use, gone, or being
/// retired by another warp. Never waits. The span is in hand meanwhile: searches cannot find its
/// slots.
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

/// Most spans that a class examines for one to give up.
inline constexpr unsigned surplus_looks = 16;

/// looks_empty for a page that may not hold such a span.
WARPHEAP_OUTLINED bool looks_idle(const heap_view& h, page_index p, unsigned cls) {
  const span_record r = load_record(h, p);
  return r.is_live() && !r.is_retiring() && r.cls() == cls && looks_empty(h, p, cls);
}

/// A search for a span of a class to give up. In memory, like other searches (search_state).
struct surplus_search {
  unsigned cls;
  page_index found;  ///< the best so far
  unsigned looks = 0;
};

/// Examines the spans in the highest word of the class's list below w, from the highest down to the
/// best one so far. Returns that word's index.
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

/// The span of class cls to give up when span p has become empty: the highest that looks empty, or
/// p. So the class gives up the top of its pages, whatever the order of the frees, and the next
/// class finds a long run there instead of one hole for each span.
WARPHEAP_OUTLINED page_index span_to_give_up(const heap_view& h, unsigned cls, page_index p) {
  const std::uint64_t high = atomic::load<order::relaxed>(&h.state->high_page.value);
  auto w = static_cast<std::uint32_t>(level_words(high, 0));
  surplus_search s{cls, p};
  while (s.found == p && s.looks < surplus_looks && w > p / 64) w = look_for_surplus(h, w, s);
  return s.found;
}

/// A free may have emptied span p: retires a span if the class has more empty ones than it needs,
/// that is, if as many as half of its spans have become empty since it last grew. The count is not
/// exact (a span that is used again and emptied counts twice).
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
