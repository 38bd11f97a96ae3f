#pragma once

// A span: a run of pages cut into slots of one size, with a bit for each free slot. (Go: mspan.)

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <warpheap/bits.hpp>
#include <warpheap/size_classes.hpp>

#include "host/persistentalloc.hpp"

namespace warpheap {

// Span classes of the host heap: those of the size classes, with and without pointers, and one more
// for the 16-byte blocks of tiny objects, whose spans carry a mask for each block.
inline constexpr unsigned tiny_span_class = num_span_classes;
inline constexpr unsigned host_span_classes = num_span_classes + 1;

constexpr unsigned host_span_size_class(unsigned span_class) {
  return span_class == tiny_span_class ? tiny_class : span_class_size_class(span_class);
}

/// What a span's pages are used for.
enum class span_state : std::uint8_t {
  dead,    ///< no pages: the record is in the pool
  in_use,  ///< objects
  manual,  ///< pages managed by someone else
};

/// Who may take slots from a span.
enum class span_place : std::uint8_t {
  none,     ///< dead, or in nobody's hands during a transition
  cached,   ///< a thread's cache: that thread only
  partial,  ///< mcentral, with free slots
  full,     ///< mcentral, without
  empty,    ///< mcentral, all slots free, kept for reuse
  large,    ///< one large object: nobody
};

/// How far a span is in the sweep cycle of its heap, see sweep_phase.
enum class sweep_phase : std::uint8_t { unswept, sweeping, swept, stale_cached, cached };

/// The mask of a tiny block, 32 bits: the low half says which offsets hold live objects, the high
/// half at which offsets objects ever started. An offset that is "live" without having started is
/// the frontier: the block is open, and its next object goes there or above. A block whose low half
/// is 0 holds nothing, and its slot is free; a mask of 0 is a block that never was.
namespace tiny_mask {
constexpr std::uint32_t live(unsigned offset) { return 1u << offset; }
constexpr std::uint32_t started(unsigned offset) { return 1u << (16 + offset); }
constexpr std::uint32_t frontier(unsigned offset) { return offset < 16 ? live(offset) : 0; }
constexpr std::uint32_t frontier_of(std::uint32_t mask) { return mask & 0xffff & ~(mask >> 16); }
constexpr bool holds_nothing(std::uint32_t mask) { return (mask & 0xffff) == 0; }
constexpr bool is_live(std::uint32_t mask, unsigned offset) {
  return (mask >> offset & mask >> (16 + offset) & 1) != 0;
}
/// Bytes that belong to the object at an offset: up to the next one, the frontier, or the end.
constexpr unsigned extent(std::uint32_t mask, unsigned offset) {
  const std::uint32_t ends = (mask | mask >> 16) & 0xffff & ~bits::low_mask(offset + 1);
  return (ends != 0 ? static_cast<unsigned>(bits::countr_zero(ends)) : 16) - offset;
}
/// The mask after an object of n bytes was put at an offset at or above the frontier.
constexpr std::uint32_t with_object(std::uint32_t mask, unsigned offset, unsigned n) {
  return (mask & ~frontier_of(mask)) | live(offset) | started(offset) | frontier(offset + n);
}
}  // namespace tiny_mask

/// The masks of a span of tiny blocks. The word in front is the free list's: a free of a stale
/// pointer that comes late meets masks.
struct tiny_mask_block {
  void* link = nullptr;
  std::atomic<std::uint32_t> mask[page_size / tiny_size]{};
};

/// Record of a span. The pages' owner changes the geometry; free words are shared by all threads.
class alignas(64) mspan {
 public:
  static constexpr unsigned max_words = max_objects_per_span / 64;
  static constexpr unsigned no_index = ~0u;

  /// Takes over pages for span_class; class 0: one object. All slots are free (class 0: taken).
  void init(std::byte* base, std::size_t npages, unsigned span_class) {
    const unsigned c = host_span_size_class(span_class);
    size_class_ = static_cast<std::uint8_t>(c);
    span_class_ = static_cast<std::uint8_t>(span_class);
    magic_ = class_to_magic(c);
    set_slots(base, npages, c == 0 ? npages * page_size : class_to_size(c),
              c == 0 ? 1 : class_to_objects(c));
    for (unsigned w = 0; w * 64 < nelems_; ++w) {
      free_[w].store(c == 0 ? 0 : full_word(w), std::memory_order_relaxed);
    }
    rewind();
  }

  /// The slots alone; the free words stay.
  void set_slots(std::byte* base, std::size_t npages, std::size_t elemsize, unsigned nelems) {
    base_ = base;
    npages_ = npages;
    elemsize_ = elemsize;
    nelems_ = static_cast<std::uint16_t>(nelems);
  }

  std::byte* base() const { return base_; }
  std::size_t npages() const { return npages_; }
  std::byte* limit() const { return base_ + std::size_t{nelems_} * elemsize_; }
  unsigned nelems() const { return nelems_; }
  std::size_t elemsize() const { return elemsize_; }
  unsigned size_class() const { return size_class_; }
  unsigned span_class() const { return span_class_; }
  unsigned words() const { return (nelems_ + 63u) / 64; }

  /// Slot that holds a byte of a small-object span; may be past nelems in the tail.
  unsigned slot_of(std::size_t offset) const {
    return slot_index(static_cast<std::uint32_t>(offset), magic_);
  }
  std::byte* slot_address(unsigned i) const { return base_ + std::size_t{i} * elemsize_; }

  // --- the cursor of the thread that has the span cached (V: next_free)
  // ---------------------------

  unsigned freeindex() const { return freeindex_; }
  std::uint64_t alloc_cache() const { return alloc_cache_; }

  /// Starts the search for free slots over.
  void rewind() {
    freeindex_ = 0;
    refill_alloc_cache(0);
  }

  /// Next free slot from the cached word; no_index when that is used up, or when the slot after it
  /// would need another word.
  unsigned next_free_fast() {
    if (alloc_cache_ == 0) return no_index;
    const auto skip = static_cast<unsigned>(bits::countr_zero(alloc_cache_));
    const unsigned i = freeindex_ + skip;
    const unsigned next = i + 1;
    if (i >= nelems_ || (next % 64 == 0 && next != nelems_)) return no_index;
    alloc_cache_ = alloc_cache_ >> skip >> 1;
    freeindex_ = static_cast<std::uint16_t>(next);
    return i;
  }

  /// Next free slot at or after freeindex, loading words as needed; nelems when there is none.
  unsigned next_free_index() {
    if (freeindex_ > nelems_) fatal("s.freeindex > s.nelems");
    unsigned at = freeindex_;
    if (at == nelems_) return at;
    while (alloc_cache_ == 0) {
      at = (at / 64 + 1) * 64;
      if (at >= nelems_) {
        freeindex_ = nelems_;
        return nelems_;
      }
      refill_alloc_cache(at / 64);
    }
    const auto skip = static_cast<unsigned>(bits::countr_zero(alloc_cache_));
    const unsigned i = at + skip;
    if (i >= nelems_) {
      freeindex_ = nelems_;
      return nelems_;
    }
    alloc_cache_ = alloc_cache_ >> skip >> 1;
    freeindex_ = static_cast<std::uint16_t>(i + 1);
    if (freeindex_ % 64 == 0 && freeindex_ != nelems_) refill_alloc_cache(freeindex_ / 64u);
    return i;
  }

  // --- free words (bit = 1: free)
  // -----------------------------------------------------------------

  static constexpr std::uint64_t full_word(unsigned nelems, unsigned w) {
    return bits::low_mask(nelems - w * 64u);
  }
  std::uint64_t full_word(unsigned w) const { return full_word(nelems_, w); }
  std::uint64_t free_word(unsigned w) const { return free_[w].load(std::memory_order_acquire); }
  /// For tests: any pattern, also of bits past nelems.
  void set_free_word(unsigned w, std::uint64_t x) { free_[w].store(x, std::memory_order_relaxed); }
  bool is_free(unsigned i) const { return (free_word(i / 64) >> (i % 64) & 1) != 0; }

  /// Takes slot i, found free in the cursor. Only the thread that has the span cached takes slots,
  /// and the cursor holds no slot twice, hence the bit must be set. Acquire: what the last owner
  /// did with the slot happened before its release in give.
  void take(unsigned i) {
    const std::uint64_t bit = std::uint64_t{1} << (i % 64);
    const std::uint64_t old = free_[i / 64].fetch_and(~bit, std::memory_order_acquire);
    if ((old & bit) == 0) fatal("freeIndex is not valid");
  }

  /// Frees slot i; returns the word as it was, whose bit tells whether i was free already.
  /// seq_cst: a release for the slot's contents, and ordered before the load of the place that
  /// follows (see mcentral).
  std::uint64_t give(unsigned i) {
    return free_[i / 64].fetch_or(std::uint64_t{1} << (i % 64), std::memory_order_seq_cst);
  }

  bool any_free() const {
    for (unsigned w = 0; w < words(); ++w) {
      if (free_[w].load(std::memory_order_seq_cst) != 0) return true;
    }
    return false;
  }
  bool all_free() const { return all_free(nelems_); }
  bool all_free(unsigned nelems) const {
    for (unsigned w = 0; w * 64 < nelems; ++w) {
      if (free_[w].load(std::memory_order_seq_cst) != full_word(nelems, w)) return false;
    }
    return true;
  }
  unsigned count_free() const {
    int n = 0;
    for (unsigned w = 0; w < words(); ++w) n += bits::popcount(free_word(w) & full_word(w));
    return static_cast<unsigned>(n);
  }
  void free_all() {
    for (unsigned w = 0; w < words(); ++w) free_[w].store(full_word(w), std::memory_order_release);
  }

  // --- place and state
  // ----------------------------------------------------------------------------

  /// Place and span class in one word, so that whoever holds an mcentral's lock can tell in one
  /// load that a span is in that mcentral, whatever became of its record meanwhile.
  static constexpr std::uint32_t pack_place(span_place p, unsigned span_class) {
    return static_cast<std::uint32_t>(p) | span_class << 8;
  }
  static constexpr span_place place_of(std::uint32_t packed) {
    return static_cast<span_place>(packed & 0xff);
  }
  static constexpr unsigned span_class_of(std::uint32_t packed) { return packed >> 8; }
  std::uint32_t packed_place() const { return place_.load(std::memory_order_seq_cst); }
  span_place place() const { return place_of(packed_place()); }
  void set_place(span_place p) {
    place_.store(pack_place(p, span_class_), std::memory_order_seq_cst);
  }

  span_state state() const { return state_; }
  /// Dead to in_use or manual and back; aborts on any other change.
  void set_state(span_state to) {
    if ((state_ == span_state::dead) == (to == span_state::dead)) fatal("bad span state change");
    state_ = to;
  }

  // Sweeping. The heap's sweepgen h grows by 2 a cycle, which makes every span unswept (h - 2), and
  // every cached one stale (h + 1), at once. h - 1: being swept; h: swept; h + 3: swept, cached.
  sweep_phase phase(std::uint32_t h) const {
    switch (static_cast<std::int32_t>(sweepgen_ - h)) {
      case -2: return sweep_phase::unswept;
      case -1: return sweep_phase::sweeping;
      case 0: return sweep_phase::swept;
      case 1: return sweep_phase::stale_cached;
      case 3: return sweep_phase::cached;
      default: fatal("span's sweepgen out of step with the heap's");
    }
  }
  /// Along a legal edge: unswept or stale_cached -> sweeping -> swept <-> cached. Aborts otherwise.
  void set_phase(std::uint32_t h, sweep_phase to) {
    const sweep_phase from = phase(h);
    const bool legal = to == sweep_phase::sweeping
                           ? from == sweep_phase::unswept || from == sweep_phase::stale_cached
                       : to == sweep_phase::swept
                           ? from == sweep_phase::sweeping || from == sweep_phase::cached
                       : to == sweep_phase::cached ? from == sweep_phase::swept
                                                   : false;
    if (!legal) fatal("bad sweepgen change");
    sweepgen_ = h + (to == sweep_phase::sweeping ? ~0u : to == sweep_phase::swept ? 0u : 3u);
  }
  /// A new span is swept.
  void reset_phase(std::uint32_t h) { sweepgen_ = h; }

  // --- masks of tiny blocks
  // -----------------------------------------------------------------------

  /// In a span of tiny_span_class; null elsewhere. Atomic for the sake of frees of
  /// stale pointers, which may meet a record at any time.
  std::atomic<tiny_mask_block*> tiny_masks{nullptr};
  /// The pages may hold old contents.
  bool needzero = true;

 private:
  friend class span_list;

  void refill_alloc_cache(unsigned w) { alloc_cache_ = free_word(w); }

  std::byte* base_ = nullptr;
  std::size_t npages_ = 0;
  std::size_t elemsize_ = 0;
  std::uint32_t magic_ = 0;
  std::uint16_t nelems_ = 0;
  std::uint8_t size_class_ = 0;
  std::uint8_t span_class_ = 0;

  span_state state_ = span_state::dead;
  std::uint16_t freeindex_ = 0;
  std::uint32_t sweepgen_ = 0;
  std::uint64_t alloc_cache_ = 0;

  std::atomic<std::uint32_t> place_{0};
  mspan* next_ = nullptr;
  mspan* prev_ = nullptr;
  std::atomic<std::uint64_t> free_[max_words]{};
};

/// Doubly linked list through the spans. A span is in one list at most. (Go: mSpanList.)
class span_list {
 public:
  bool empty() const { return first_ == nullptr; }
  mspan* first() const { return first_; }
  static mspan* next(const mspan* s) { return s->next_; }
  std::size_t size() const { return size_; }

  void insert_back(mspan* s) {
    if (s->next_ != nullptr || s->prev_ != nullptr || first_ == s) fatal("span is in a list");
    s->prev_ = last_;
    (last_ != nullptr ? last_->next_ : first_) = s;
    last_ = s;
    ++size_;
  }
  void remove(mspan* s) {
    if (s->prev_ == nullptr && first_ != s) fatal("span is not in this list");
    (s->prev_ != nullptr ? s->prev_->next_ : first_) = s->next_;
    (s->next_ != nullptr ? s->next_->prev_ : last_) = s->prev_;
    s->next_ = s->prev_ = nullptr;
    --size_;
  }
  mspan* pop_front() {
    mspan* s = first_;
    if (s != nullptr) remove(s);
    return s;
  }

 private:
  mspan* first_ = nullptr;
  mspan* last_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace warpheap
