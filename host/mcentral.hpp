#pragma once

// Spans of one class that no thread has cached. (Go: mcentral.)
//
// Threads free in these spans without a lock (mspan::free_remote), so a span here only gains free
// slots. A free looks whether nothing lives in the span any more, after it set its bit; whoever
// puts a span here sets the place first and looks then. Of these two, each "write, then read the
// other's word", all sequentially consistent, one at least sees the other: no span without objects
// stays in the partial set.
//
// A free may come so late that its span is gone and the record is another's. It then calls the
// mcentral of whatever class the record shows. That one acts only if place and class, read in one
// word under its lock, say that the span is its own; they can change only under that lock. What it
// does then is right for the span as it is, whoever called.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "host/mspan.hpp"
#include "host/span_list.hpp"
#include "host/span_sync.hpp"

namespace warpheap {

class mheap;
class mcentral_set;

/// Thread-safe. Its lock is taken before mheap's.
class alignas(64) mcentral {
 public:
  /// Spans without objects are kept up to this many pages a class; more go back to the heap.
  static constexpr std::size_t max_empty_pages = 16;

  struct sizes {
    std::size_t partial, empty;
  };

  void init(mheap& heap, mcentral_set& all, unsigned span_class);

  /// A span with free slots, for the caller, whose cache becomes its owner; nullptr when there is
  /// none. It may be marked pending, and then have free slots after a collect only.
  mspan* cache_span(const void* cache);
  /// Takes a span back from the caller, its owner.
  void uncache_span(mspan* s);
  /// After a free that may have been the span's last, see above. s may be a span of another class
  /// or place by now.
  void became_empty(mspan* s);
  /// Takes a full span that a free has left marked (or is about to free in), unless it has an owner
  /// by now; for a thread without cache.
  void take_full(mspan* s);
  /// Gives the pages of all spans without objects back to the heap. Returns their number.
  std::size_t release_empty();
  /// Forgets all spans. No other call may be in flight.
  void forget_all();

  sizes set_sizes() const;

  /// For a fork: nobody else is in here between the two.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  mspan* move_to(mspan* s, span_status to);
  bool keep_or_drop(mspan* s);

  mutable span_mutex mutex_;
  mheap* heap_ = nullptr;
  mcentral_set* all_ = nullptr;
  unsigned span_class_ = 0;
  span_list partial_;
  span_list empty_;
};

/// The mcentrals of all classes, and what their spans have in common.
class mcentral_set {
 public:
  explicit mcentral_set(mheap& heap) {
    for (unsigned sc = 0; sc < host_span_classes; ++sc) central_[sc].init(heap, *this, sc);
  }
  mcentral& operator[](unsigned span_class) { return central_[span_class]; }
  const mcentral& operator[](unsigned span_class) const { return central_[span_class]; }

  /// Gives the pages of all spans without objects back that no thread has.
  void release_empty() {
    for (mcentral& c : central_) c.release_empty();
  }
  /// Takes over what others than the owner, who calls, have freed in a span. Returns the number of
  /// tiny blocks that became free.
  unsigned collect(mspan* s);

  /// Double frees that were found by collect: the free itself was answered "ok". By size class, and
  /// those of tiny objects last.
  using late_counts = std::array<std::uint64_t, num_classes + 1>;
  late_counts late_double_frees() const {
    const std::scoped_lock lock(late_mutex_);
    return late_counts_;
  }
  /// The pointers of such frees since the last call, the first max_late of them.
  std::vector<void*> take_late_double_frees() {
    decltype(late_) taken;
    std::size_t n = 0;
    {
      const std::scoped_lock lock(late_mutex_);
      taken = late_;
      n = std::exchange(late_size_, 0);
    }
    return std::vector<void*>(taken.begin(), taken.begin() + static_cast<std::ptrdiff_t>(n));
  }

  /// All locks of the set, before a fork and after it.
  void lock();
  void unlock();

  /// Tiny blocks that became free in spans without owner.
  std::atomic<std::uint64_t> tiny_blocks_freed{0};

 private:
  static constexpr std::size_t max_late = 64;
  void note_double_free(void* p, unsigned kind);

  std::array<mcentral, host_span_classes> central_;
  mutable span_mutex late_mutex_;
  std::array<void*, max_late> late_{};
  std::size_t late_size_ = 0;
  late_counts late_counts_{};
};

}  // namespace warpheap
