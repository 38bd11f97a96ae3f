#pragma once

// Spans of one class that no thread has cached. (Go: mcentral.)
//
// How spans change place. Only the thread that has a span cached takes its slots; any thread frees
// them, without a lock, by setting the free bit. So a span here only gains free slots. A free looks
// at the span's place after it set the bit, and takes the lock here only at two edges: a word got
// its first free slot, when the span is full, and all slots are free, when it is partial. A thread
// that hands a span over writes the place first and counts the free slots then. Of these two, each
// "write, then read the other's word", all sequentially consistent, one at least sees the other: no
// span with free slots stays in the full set, and none without objects in the partial set.
//
// A free may come so late that its span is gone and the record is another's. It then calls the
// mcentral of whatever class the record shows. That one acts only if place and class, read in one
// word under its lock, say that the span is its own; they can change only under that lock. What it
// does then is right for the span as it is, whoever called.

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "host/mspan.hpp"

namespace warpheap {

class mheap;

/// Thread-safe. Its lock is taken before mheap's.
class alignas(64) mcentral {
 public:
  /// Spans without objects are kept up to this many pages a class; more go back to the heap.
  static constexpr std::size_t max_empty_pages = 16;

  struct sizes {
    std::size_t partial, full, empty;
  };

  void init(mheap& heap, unsigned span_class);

  /// A span with free slots, for the caller's cache; nullptr when there is none.
  mspan* cache_span();
  /// Takes a span back from the caller's cache.
  void uncache_span(mspan* s);
  /// After a free, see above. s may be a span of another class or place by now.
  void slot_freed(mspan* s);
  /// Gives the pages of all spans without objects back to the heap. Returns their number.
  std::size_t release_empty();
  /// Forgets all spans. No other call may be in flight.
  void forget_all();

  sizes set_sizes() const;

  /// For a fork: nobody else is in here between the two.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  bool keep_or_drop(mspan* s);

  mutable std::mutex mutex_;
  mheap* heap_ = nullptr;
  unsigned span_class_ = 0;
  span_list partial_;
  span_list full_;
  span_list empty_;
};

/// The mcentrals of all classes.
class mcentral_set {
 public:
  explicit mcentral_set(mheap& heap) {
    for (unsigned sc = 0; sc < host_span_classes; ++sc) central_[sc].init(heap, sc);
  }
  mcentral& operator[](unsigned span_class) { return central_[span_class]; }
  const mcentral& operator[](unsigned span_class) const { return central_[span_class]; }

  /// Frees a slot of a small-object span; false if it was free already.
  bool free_slot(mspan* s, unsigned slot) {
    const unsigned nelems = s->nelems();
    const std::uint64_t bit = std::uint64_t{1} << (slot % 64);
    const std::uint64_t old = s->give(slot);
    // The slot pinned the span until here. From here on it may be freed by another thread, and the
    // record may become another span's: only its atomic words may be looked at.
    if ((old & bit) != 0) return false;
    if (old == 0 || (old | bit) == mspan::full_word(nelems, slot / 64)) edge(s, nelems);
    return true;
  }

 private:
  void edge(mspan* s, unsigned nelems) {
    const std::uint32_t packed = s->packed_place();
    const span_place p = mspan::place_of(packed);
    if (p == span_place::full || (p == span_place::partial && s->all_free(nelems))) {
      central_[mspan::span_class_of(packed)].slot_freed(s);
    }
  }

  std::array<mcentral, host_span_classes> central_;
};

}  // namespace warpheap
