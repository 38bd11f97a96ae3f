#pragma once

// A span: a run of pages cut into slots of one size, with bits for its free slots. (Go: mspan.)
//
// Where the bit of a free slot is, and which thread moves it:
//
//   a malloc <-- ready <-- advance (owner) -- free <-- collect (owner) -- remote
//                                              |                             |
//                                     a free by the owner        a free by another thread
//
// The owner, the thread whose cache has the span, writes `ready` and `free` with plain loads and
// stores: no atomic read-modify-write, and a malloc does not wait for the store of the preceding
// free. Another thread sets the bit in `remote`, with one atomic, and the mark `pending` in the
// status. The owner collects when it meets the mark, or when the span has run out of slots.
//
// The status word holds the owner, which changes by compare-exchange on that word alone (release,
// acquire): all that the old owner did with the span happens before the new owner uses it.
//
// No remote free is lost. A free sets its bit, and then `pending`, unless that is set. A collector
// clears `pending`, and then reads the bits. All four are sequentially consistent, so it sees the
// bit of each free that found `pending` set. A free that sets `pending` learns from the old status,
// in the same step, who has the span:
//  - a thread: it will find the mark;
//  - mcentral: the thread that takes the span from there collects;
//  - nobody, as it is full: its last owner takes it at its own next free there (mcache::adopt).
//    Other threads count the bits after each of their frees, and the one that counts a quarter of
//    the slots takes it (mcache::take_left): the last of these frees sees all bits. Spans with
//    fewer are found before a malloc fails (mcentral::take_marked).
// An owner lets go of a full span by an exchange that fails if `pending` is set.
//
// In another cycle. A bulk free makes all spans unswept by a change of the heap's sweepgen, and
// changes nothing else: bits, status and sets are those of the cycle before. A thread that takes up
// a span looks at the sweepgen first. A free that finds the span unswept is of an object that the
// bulk free has freed, and goes no further; so only the sweeper touches such a span, and a free
// that finds it swept sees the sweeper's bits (release, acquire). An owner need not look: a bulk
// free replaces the caches, and a new cache owns spans of its own cycle only.
//
// What tells a double free. A bit is set in the next set before it is cleared in the one before
// (release). A remote free looks at `remote`, `free` and `ready`, in this order (acquire), before
// it sets its bit: so it finds the bit of an earlier free, wherever that has got to. The owner
// looks at `free` and `ready` alone: an earlier remote free has left `pending`, and the owner
// collects first. So a second free is reported at once if the first happened before it and the slot
// has no new owner. Of two concurrent frees of one object, one by the owner, both may be answered
// "ok", as the owner's has no fence; the collector then finds the slot free, and reports it.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <warpheap/bits.hpp>
#include <warpheap/size_classes.hpp>

#include "host/free_cursor.hpp"
#include "host/one_instruction.hpp"
#include "host/ready_window.hpp"
#include "host/slot_division.hpp"
#include "host/span_classes.hpp"
#include "host/span_marks.hpp"
#include "host/span_state.hpp"
#include "host/span_status.hpp"
#include "host/span_sync.hpp"
#include "host/sweep_phase.hpp"
#include "host/tiny_mask.hpp"

namespace warpheap {

class span_set;

/// Record of a span. Type-stable: a free of a stale pointer may access it at any time.
class alignas(64) mspan {
  using word = span_atomic<std::uint64_t>;

 public:
  static constexpr unsigned max_words = max_objects_per_span / 64;

 private:
  word free_[max_words]{};  // first in the record, which spares a free an addition

 public:
  /// Takes over npages pages for span_class, as many as spans of the class have, or fewer; class 0:
  /// one object. All slots are free (class 0: taken).
  void init(std::byte* base, std::size_t npages, unsigned span_class) {
    const unsigned c = host_span_size_class(span_class);
    size_class_ = static_cast<std::uint8_t>(c);
    span_class_ = static_cast<std::uint8_t>(span_class);
    set_slots(base + host_span_color(c), npages, c == 0 ? npages * page_size : class_to_size(c),
              c == 0 ? 1 : host_span_objects(c, npages));
    division_ = c == 0 ? slot_division() : slot_division(class_to_size(c));
    set_marks(nullptr);
    free_all();
    if (c == 0) free_[0].store(~std::uint64_t{1}, std::memory_order_relaxed);
  }

  /// Sets up the slots only, from `first` in the first page on; the free words stay.
  void set_slots(std::byte* first, std::size_t npages, std::size_t elemsize, unsigned nelems) {
    first_ = first;
    set_pages(npages, elemsize);
    nelems_ = static_cast<std::uint16_t>(nelems);
    words_ = static_cast<std::uint8_t>((nelems + 63) / 64);
    past_last_ = ~bits::low_mask(nelems - (words_ - 1) * 64u);
    window_.init(elemsize);
    point_at(0);
    leave();
  }

  /// Start of its pages.
  std::byte* base() const { return first_ - reinterpret_cast<std::uintptr_t>(first_) % page_size; }
  std::size_t npages() const { return npages_.load(std::memory_order_relaxed); }
  /// Its first slot: the base, or a little after it (host_span_color).
  std::byte* first() const { return first_; }
  std::byte* limit() const { return first_ + std::size_t{nelems_} * elemsize_; }
  unsigned nelems() const { return nelems_; }
  std::size_t elemsize() const { return elemsize_; }
  unsigned size_class() const { return size_class_; }
  unsigned span_class() const { return span_class_; }
  bool is_tiny() const { return span_class_ == tiny_span_class; }
  unsigned words() const { return words_; }

  /// The slot of a small-object span that contains a byte, by the byte's offset from the first
  /// slot; may be nelems, in the tail.
  unsigned slot_of(std::size_t offset) const { return division_.slot_of(offset); }
  /// The slot that begins at p, which lies in the pages of a small-object span; nelems or more if
  /// none does.
  unsigned slot_at(const void* p) const {
    const slot_division::place at = place_of(p);
    return at.is_slot() ? static_cast<unsigned>(at.word * 64 + at.bit % 64) : ~0u;
  }
  std::byte* slot_address(unsigned i) const { return first_ + std::size_t{i} * elemsize_; }
  /// Slot i begins at p. A free of a stale pointer checks this again before it frees, as the span
  /// may have been cut into other slots since it found i.
  bool is_slot(unsigned i, const void* p) const { return i < nelems_ && slot_address(i) == p; }

  // --- the owner's side ------------------------------------------------------------------------

  // Bits past nelems are always set in `free` and never in `ready`: a pointer into the tail shows
  // as free, and a word whose slots are all free is all ones.

  /// Takes the lowest slot of the current word of `ready`; null when there is none.
  std::byte* take() {
    const std::uint64_t ready = current_->load(std::memory_order_relaxed);
    if (ready == 0) [[unlikely]]
      return nullptr;
    return take_of(ready);
  }
  /// The same when the current word is known not to be 0.
  std::byte* take_of(std::uint64_t ready) {
    // Relaxed: only the owner writes the word; the status word orders a later owner after it.
    current_->store(ready & (ready - 1), std::memory_order_relaxed);
    std::byte* p = current_base_ + bits::lowest_bit(ready) * current_size_;
    if (p == nullptr) __builtin_unreachable();  // spares the caller's test
    return p;
  }

  /// Moves on to a word with free slots, the current one again if possible, and makes some of them
  /// ready. Returns that word of `ready`; 0 when no slot is free.
  std::uint64_t advance() {
    const unsigned last = words_ - 1u, begin = std::min<unsigned>(current_word_, last);
    unsigned w = begin;
    do {
      if (const std::uint64_t all = owner_slots(w) & ~past_end(w); all != 0) {
        if (w != begin) point_at(w);
        return make_ready(w, window_.choose(w, all));
      }
      w = w != last ? w + 1 : 0;
    } while (w != begin);
    return 0;
  }

  /// The same, but only in the current word or a later one, and only for slots that were ready
  /// before. Otherwise returns 0 and does nothing.
  std::uint64_t advance_behind() {
    unsigned w = current_word_;
    std::uint64_t all = 0;
    while (w < words_ && (all = owner_slots(w) & ~past_end(w)) == 0) ++w;
    const std::uint64_t some = all != 0 ? window_.choose_again(w, all) : 0;
    if (some == 0) return 0;
    if (w != current_word_) point_at(w);
    return make_ready(w, some);
  }

  /// The ready slots of the current word were never taken before, and their memory reads as zero.
  bool takes_fresh() const { return window_.is_fresh() && !needzero; }

  /// Makes this the span from which its owner takes slots: take and advance then find them, and
  /// free_own no longer stops at a word that becomes all free. False when there is no free slot.
  bool enter() {
    empty_word_ = 0;
    window_.restart();
    point_at(0);
    return advance() != 0;
  }
  /// Undoes enter.
  void leave() { empty_word_ = ~std::uint64_t{0}; }

  /// Frees the object at p, which lies in the pages of this small-object span. False, with nothing
  /// done, when no object starts there, when it is free, or when a word of a span that is not
  /// entered becomes all free: these cases need a slower look.
  bool free_own(const void* p) {
    const slot_division::place at = place_of(p);
    if (!at.is_slot()) return false;
    return set_if_clear(free_[at.word], ready_[at.word], at.bit, empty_word_);
  }
  /// An object begins at p, as in free_own, and is live.
  bool is_own_object(const void* p) const {
    const slot_division::place at = place_of(p);
    return at.is_slot() && (owner_slots(static_cast<unsigned>(at.word)) >> at.bit % 64 & 1) == 0;
  }
  /// Frees slot i, whatever its word becomes; false if the slot is already free.
  bool free_own_slot(unsigned i) {
    const std::uint64_t bit = std::uint64_t{1} << (i % 64);
    if ((owner_slots(i / 64) & bit) != 0) return false;
    const std::uint64_t old = free_[i / 64].load(std::memory_order_relaxed);
    free_[i / 64].store(old | bit, std::memory_order_relaxed);
    return true;
  }

  /// Takes over what others have freed; f(slot) for each that was already free. Tiny blocks:
  /// on_block(slot) for each in which others may have freed objects; false: some still live.
  template <class Twice, class Block>
  void collect(Twice&& f, Block&& on_block) {
    status_.fetch_and(~span_status::pending, std::memory_order_seq_cst);
    for (unsigned w = 0; w < words(); ++w) {
      std::uint64_t freed = remote_[w].load(std::memory_order_seq_cst);
      if (freed == 0) continue;
      std::uint64_t twice = 0;
      if (!is_tiny()) {
        const std::uint64_t old = free_[w].load(std::memory_order_relaxed);
        const std::uint64_t ready = ready_[w].load(std::memory_order_relaxed);
        twice = (old | ready) & freed;
        // A slot in both `free` and `ready` would be handed out twice.
        free_[w].store(old | (freed & ~ready), std::memory_order_relaxed);
      } else {
        for_each_bit(w, freed, [&](unsigned i) {
          if (!on_block(i)) freed &= ~(std::uint64_t{1} << (i % 64));
        });
      }
      // Acquire: what others did with the slots happens before they are taken again. Release: a
      // thread that finds the bits gone from here finds them above.
      remote_[w].fetch_and(~freed, std::memory_order_seq_cst);
      for_each_bit(w, twice, f);
    }
  }

  /// For the owner: all slots are free, without a collect.
  bool has_all_free() const {
    for (unsigned w = 0; w < words(); ++w) {
      if (owner_slots(w) != ~std::uint64_t{0}) return false;
    }
    return true;
  }
  /// For the owner: there are slots that it could take without a collect.
  bool has_free() const {
    for (unsigned w = 0; w < words(); ++w) {
      if (owner_slots(w) != past_end(w)) return true;
    }
    return false;
  }

  // --- the others' side ------------------------------------------------------------------------

  /// Frees slot i. Afterwards the span may be gone and its record another span's.
  remote_free free_remote(unsigned i) {
    const std::uint64_t bit = std::uint64_t{1} << (i % 64);
    if ((slots_free(i / 64) & bit) != 0) return remote_free::was_free;
    if ((remote_[i / 64].fetch_or(bit, std::memory_order_seq_cst) & bit) != 0) {
      return remote_free::was_free;
    }
    return mark_pending();
  }

  /// Frees the tiny object at an offset of block i, which is live in the owner's mask
  /// (tiny_mask.hpp).
  remote_free free_remote_tiny(tiny_mask_block& masks, unsigned i, unsigned offset) {
    const auto bit = static_cast<std::uint16_t>(tiny_mask::live(offset));
    remote_[i / 64].fetch_or(std::uint64_t{1} << (i % 64), std::memory_order_seq_cst);
    // The free itself: seq_cst, as is setting a slot's bit in `remote` in other spans. It also
    // publishes the bit above. From here on the span may be gone.
    const std::uint16_t old = masks.freed[i].fetch_or(bit, std::memory_order_seq_cst);
    if ((old & bit) != 0) return remote_free::was_free;
    return mark_pending();
  }

  /// How many of nelems slots others have freed that are uncollected.
  unsigned count_remote(unsigned nelems) const {
    unsigned n = 0;
    for (unsigned w = 0; w * 64 < nelems; ++w)
      n += static_cast<unsigned>(bits::popcount(remote_[w].load(std::memory_order_seq_cst)));
    return n;
  }

  // --- all slots --------------------------------------------------------------------------------

  bool is_free(unsigned i) const { return (free_word(i / 64) >> (i % 64) & 1) != 0; }
  /// Bits of the slots that are free, whichever thread freed them; those past nelems are set.
  std::uint64_t free_word(unsigned w) const { return is_tiny() ? owner_free(w) : slots_free(w); }
  /// For tests: any pattern, also in bits past nelems.
  void set_free_word(unsigned w, std::uint64_t x) { free_[w].store(x, std::memory_order_relaxed); }
  void set_ready_word(unsigned w, std::uint64_t x) {
    ready_[w].store(x, std::memory_order_relaxed);
  }
  void set_current_word(unsigned w) { current_word_ = static_cast<std::uint8_t>(w); }
  /// The sets as they are, for checks and dumps (span_check.hpp): the owner's; below, the others'.
  struct word_sets {
    std::uint64_t ready, free;
  };
  word_sets sets(unsigned w) const {
    return {ready_[w].load(std::memory_order_relaxed), free_[w].load(std::memory_order_relaxed)};
  }
  std::uint64_t remote_set(unsigned w) const { return remote_[w].load(std::memory_order_relaxed); }
  unsigned current_word() const { return current_word_; }
  /// Bits of the last word that stand for no slot.
  std::uint64_t past_last() const { return past_last_; }
  const void* ready_words() const { return ready_; }
  std::uint32_t sweepgen() const { return sweepgen_.get(); }

  /// Nothing lives in the span, as far as its nelems slots tell; in a span of tiny blocks, whose
  /// masks this does not read, something may. Reads only atomics.
  bool may_be_empty(unsigned nelems) const {
    for (unsigned w = 0; w * 64 < nelems; ++w) {
      if (slots_free(w) != ~std::uint64_t{0}) return false;
    }
    return true;
  }
  /// Nothing lives in the span, which no other thread takes slots from meanwhile.
  bool is_empty() const {
    if (!may_be_empty(nelems_)) return false;
    if (!is_tiny()) return true;
    const auto* masks = tiny_masks.load(std::memory_order_relaxed);
    bool empty = true;
    for_each_taken([&](unsigned i) { empty &= tiny_mask::holds_nothing(masks->current(i)); });
    return empty;
  }
  unsigned count_free() const {
    unsigned n = 0;
    for (unsigned w = 0; w < words(); ++w) {
      n += static_cast<unsigned>(bits::popcount(free_word(w) & ~past_end(w)));
    }
    return n;
  }
  /// Makes all slots free; no other thread uses the span.
  void free_all() {
    for (unsigned w = 0; w < max_words; ++w) {
      free_[w].store(~std::uint64_t{0}, std::memory_order_release);
      ready_[w].store(0, std::memory_order_relaxed);
      remote_[w].store(0, std::memory_order_relaxed);
    }
  }
  /// Changes the length of a live large object.
  void resize_large(std::size_t npages) { set_pages(npages, npages * page_size); }
  /// Its slot: taken by its new owner, freed by any thread. free_large: whether it was free.
  void take_large() { free_[0].store(~std::uint64_t{1}, std::memory_order_relaxed); }
  bool free_large() { return (free_[0].fetch_or(1, std::memory_order_acq_rel) & 1) != 0; }

  /// Calls f(i) for each slot that is not free, in order.
  template <class F>
  void for_each_taken(F&& f) const {
    free_cursor cursor(nelems_, [this](unsigned w) { return ~free_word(w); });
    for (unsigned i = cursor.next(); i < nelems_; i = cursor.next()) f(i);
  }

  // --- status and state -------------------------------------------------------------------------

  span_status status() const { return span_status(status_.load(std::memory_order_seq_cst)); }
  /// The owner's quick look: only it makes the status its own, and unmakes it. Acquire: what
  /// preceded the creation of the cache that the status names is visible after this (last_cache).
  std::uintptr_t seen_status() const { return status_.load(std::memory_order_acquire); }
  span_place place() const { return status().place(); }
  /// For when no other thread can change the owner.
  void set_status(span_status s) { status_.store(s.bits(), std::memory_order_seq_cst); }
  void set_place(span_place p) { set_status(span_status::in(p, span_class_)); }
  /// Changes the owner or place; `expected` is updated on failure.
  bool exchange_status(span_status& expected, span_status to) {
    std::uintptr_t bits = expected.bits();
    const bool done = status_.compare_exchange_strong(bits, to.bits(), std::memory_order_seq_cst);
    expected = span_status(bits);
    return done;
  }

  span_state state() const { return state_; }
  /// Dead to in_use or manual and back; aborts on any other change.
  void set_state(span_state to) {
    if ((state_ == span_state::dead) == (to == span_state::dead)) fatal("bad span state change");
    state_ = to;
  }

  // The span's phase in the sweep cycle h of its heap.
  sweep_phase phase(std::uint32_t h) const { return sweepgen_.phase(h); }
  bool is_swept(std::uint32_t h) const { return sweepgen_.is_swept(h); }
  bool begin_sweep(std::uint32_t h, sweep_phase from) { return sweepgen_.begin_sweep(h, from); }
  void set_phase(std::uint32_t h, sweep_phase to) { sweepgen_.set_phase(h, to); }
  void reset_phase(std::uint32_t h) { sweepgen_.reset(h); }

  /// Marks on its objects, or on those of an earlier span with this record; null while there are
  /// none. They belong to the heap. See host_heap_mark.cpp.
  span_marks* marks() const { return marks_.load(std::memory_order_acquire); }
  /// Release, pairs with marks: a thread that finds the marks finds them cleared.
  void set_marks(span_marks* m) { marks_.store(m, std::memory_order_release); }

  /// The cache that last took slots from it; null: unknown. A hint: that cache may be gone.
  const void* last_owner() const { return last_owner_.load(std::memory_order_relaxed); }
  void note_owner(const void* cache) { last_owner_.store(cache, std::memory_order_relaxed); }

  /// The mcentral set that has the span; null: none. For the span's owner, or mcentral's lock.
  const span_set* set() const { return set_; }

 private:
  friend class span_list;
  friend class span_set;

  void set_pages(std::size_t npages, std::size_t elemsize) {
    npages_.store(static_cast<std::uint32_t>(npages), std::memory_order_relaxed);
    elemsize_ = elemsize;
  }

  slot_division::place place_of(const void* p) const {
    return division_.place_of(static_cast<std::size_t>(static_cast<const std::byte*>(p) - first_));
  }
  // slots_free: free_word without tiny blocks. owner_free: without what others have freed, in any
  // span. For the order of the loads, see "What tells a double free".
  std::uint64_t slots_free(unsigned w) const {
    const std::uint64_t freed = remote_[w].load(std::memory_order_seq_cst);
    return freed | owner_free(w);
  }
  std::uint64_t owner_free(unsigned w) const {
    const std::uint64_t free = free_[w].load(std::memory_order_seq_cst);
    return free | ready_[w].load(std::memory_order_seq_cst);
  }
  // The same for the owner.
  std::uint64_t owner_slots(unsigned w) const {
    return free_[w].load(std::memory_order_relaxed) | ready_[w].load(std::memory_order_relaxed);
  }
  // Moves free slots of word w to `ready`, in addition to those there. Returns the new `ready`.
  std::uint64_t make_ready(unsigned w, std::uint64_t some) {
    const std::uint64_t ready = ready_[w].load(std::memory_order_relaxed) | some;
    const std::uint64_t free = free_[w].load(std::memory_order_relaxed) & ~some;
    ready_[w].store(ready, std::memory_order_relaxed);
    // Release: a thread that finds the bits gone from `free` finds them in `ready`.
    free_[w].store(free, std::memory_order_release);
    return ready;
  }
  std::uint64_t past_end(unsigned w) const { return w + 1 == words_ ? past_last_ : 0; }
  void point_at(unsigned w) {
    current_ = &ready_[w];
    current_word_ = static_cast<std::uint8_t>(w);
    current_base_ = first_ + std::size_t{w} * 64 * elemsize_;
    current_size_ = static_cast<std::uint32_t>(elemsize_);
  }
  template <class F>
  static void for_each_bit(unsigned w, std::uint64_t word, F&& f) {
    for (; word != 0; word &= word - 1) f(w * 64 + bits::lowest_bit(word));
  }
  remote_free mark_pending() {
    if (status().is_pending()) return remote_free::done;
    const span_status old(status_.fetch_or(span_status::pending, std::memory_order_seq_cst));
    const bool left_full = !old.is_pending() && old.place() == span_place::full;
    return left_full ? remote_free::left_full : remote_free::done;
  }

  // Read by all frees, written when the span changes hands: not in a line of the owner's.
  alignas(64) span_atomic<std::uintptr_t> status_{span_status::in(span_place::none, 0).bits()};
  std::byte* first_ = nullptr;
  std::uint64_t empty_word_ = ~std::uint64_t{0};  // free_own refuses to make a word this; 0: never
  slot_division division_;
  std::size_t elemsize_ = 0;
  span_sweepgen sweepgen_;
  std::atomic<std::uint32_t> npages_{0};  // atomic: others read it while a large object is resized
  std::uint16_t nelems_ = 0;
  std::uint8_t size_class_ = 0;
  std::uint8_t span_class_ = 0;
  std::uint32_t set_index_ = 0;
  span_set* set_ = nullptr;

  // The owner's fields. A malloc from one of the first 256 slots needs no other line.
  alignas(64) word* current_ = &ready_[0];
  std::byte* current_base_ = nullptr;
  std::uint32_t current_size_ = 0;
  std::uint8_t current_word_ = 0;
  std::uint8_t words_ = 1;
  ready_window window_;
  word ready_[max_words]{};
  std::uint64_t past_last_ = 0;  // bits of the last word past nelems
  mspan* next_ = nullptr;
  mspan* prev_ = nullptr;

  span_atomic<span_marks*> marks_{nullptr};
  span_atomic<const void*> last_owner_{nullptr};

 public:
  /// In a span of tiny_span_class; null elsewhere. Atomic, as frees of stale pointers read it.
  span_atomic<tiny_mask_block*> tiny_masks{nullptr};
  /// The pages may hold old contents.
  bool needzero = true;

 private:
  span_state state_ = span_state::dead;
  alignas(64) word remote_[max_words]{};
};

}  // namespace warpheap
