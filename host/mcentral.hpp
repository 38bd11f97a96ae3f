#pragma once

// Spans of one class that no thread has cached. (Go: mcentral.)
//
// Four sets: spans with free slots and full ones, swept and unswept. Which set of two is the swept
// one follows from the heap's sweepgen: a new cycle makes them swap roles without touching a span.
// A span leaves an unswept set to be swept once, and goes where that leaves it: to a cache, to a
// swept set, or back to the heap.
//
// Threads free in these spans without a lock (mspan::free_remote), so a swept span here only gains
// free slots. A free sets its bit, and then looks whether anything still lives in the span; a
// thread that puts a span here sets the place, and then looks. Each of the two is "write, then read
// the other's word", all sequentially consistent, so at least one sees the other: no span without
// objects stays in the partial set.
//
// A full span is put into the set of full ones once in a cycle, and stays there when it gets an
// owner or free slots, neither of which takes a lock. The set serves the sweeper, which takes from
// it the spans that are unswept and in no cache, and take_marked.
//
// A free may come so late that its span is gone and the record is another's. It then calls the
// mcentral of whatever class the record shows. That mcentral acts only if place and class, read in
// one word under its lock, say that the span is its own; they can change only under that lock. What
// it then does is right for the span as it is, whichever thread called.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "host/mark_phase.hpp"
#include "host/mheap.hpp"
#include "host/mspan.hpp"
#include "host/span_list.hpp"
#include "host/span_set.hpp"
#include "host/span_sync.hpp"

namespace warpheap {

class mcentral_set;

/// Receives what a sweep with marks finds. Called with locks held.
class sweep_sink {
 public:
  virtual ~sweep_sink() = default;
  virtual void kept(std::size_t bytes) = 0;
  /// An object without a mark, which has been freed. size_class: num_classes for a tiny one.
  virtual void leaked(void* p, std::size_t bytes, unsigned size_class) = 0;
  /// A mark on something that does not live.
  virtual void dangling(void* p) = 0;
  virtual void tiny_blocks_freed(unsigned n) = 0;
};

/// How many swept spans ended up where.
struct sweep_counts {
  std::uint64_t for_allocation = 0;  ///< taken by the allocation that swept it
  std::uint64_t kept = 0;            ///< holds objects that live
  std::uint64_t freed = 0;           ///< wholly free: its pages went back
};

/// Thread-safe. Its lock is taken before mheap's.
class alignas(64) mcentral {
 public:
  /// Spans without objects are kept, up to this many pages per class; others go back to the heap.
  static constexpr std::size_t max_empty_pages = 16;
  /// Unswept spans that an allocation examines before it asks for fresh pages: enough to miss a
  /// free slot only rarely, and few enough to bound the time.
  static constexpr unsigned sweep_tries = 100;

  struct sizes {
    std::size_t partial, empty;                       ///< empty: swept or not
    std::size_t full, partial_unswept, full_unswept;  ///< full: some have an owner by now
    std::size_t stale;                                ///< from caches of the last cycle
  };

  void init(mheap& heap, mcentral_set& all, unsigned span_class);

  /// A span with free slots for the caller, whose cache becomes its owner; nullptr when there is
  /// none. A span that is marked pending may have free slots only after a collect. In this order: a
  /// swept span with free slots; one kept empty; an unswept one that turns out to have some, among
  /// at most sweep_tries.
  mspan* cache_span(const void* cache);
  /// False: there is no swept span with free slots, or was none a moment ago. Read without the
  /// lock, which it is meant to save.
  bool may_have_swept() const { return may_have_swept_.load(std::memory_order_relaxed); }
  /// Takes a span back from the caller, its owner; sweeps it if it is stale.
  void uncache_span(mspan* s);
  /// Puts a swept span that runs full, or is large, where a sweep of a later cycle finds it; called
  /// before its owner lets it go. Does nothing if the span is already there.
  void add_full(mspan* s);
  /// Removes from its set a swept span that is about to be freed and that no other thread holds.
  void forget(mspan* s);
  /// Called after a free that may have been the span's last (see above). By now s may have another
  /// class or place.
  void became_empty(mspan* s);
  /// Takes a full span that a free has left marked (or is about to free in), unless it has an owner
  /// by now; for a thread without a cache.
  void take_full(mspan* s);
  /// Notes that a free has left a full span of this class full, and marked.
  void note_left() {
    // The load is sequentially consistent, as is the mark before it: if it finds the value that
    // take_marked is about to clear, take_marked finds the mark when it looks at the spans
    // afterwards. Release: the same holds if take_marked finds this store.
    if (!has_left_.load(std::memory_order_seq_cst))
      has_left_.store(true, std::memory_order_release);
  }
  /// Takes the full spans that were left so; called before a malloc fails.
  void take_marked();
  /// Gives the pages of all spans without objects back to the heap. Returns their number.
  std::size_t release_empty();

  /// Takes over spans of this class from a cache that is dropped with its cycle: they are in no
  /// list, and become stale when the next cycle begins.
  void add_stale(mspan* s);
  void add_stale(span_list& spans);
  /// Sweeps one unswept span. Returns its pages; 0 when there is none.
  std::size_t sweep_one();
  /// Sweeps a span of the class that is unswept or stale, in no list, and not being swept by
  /// another thread (else aborts).
  void sweep_span(mspan* s);

  sizes set_sizes() const;

  /// For a fork: no other thread is in here between the two.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  span_set& swept(std::array<span_set, 2>& sets);
  span_set& unswept(std::array<span_set, 2>& sets);
  mspan* move_to(mspan* s, span_status to);
  void remove_from_set(mspan* s);
  bool put(mspan* s, std::array<span_set, 2>& sets);
  mspan* take_empty();
  bool keep_or_drop(mspan* s);
  bool take_from_full(mspan* s, std::uintptr_t mark);
  mspan* take_unswept(unsigned& tries);
  mspan* sweep_for_allocation();
  void sweep(mspan* s);
  void free_all(mspan* s);
  void free_unmarked(mspan* s, sweep_sink& sink);
  bool place_swept(mspan* s);

  mutable span_mutex mutex_;
  mheap* heap_ = nullptr;
  mcentral_set* all_ = nullptr;
  unsigned span_class_ = 0;
  std::array<span_set, 2> partial_;  // [sweepgen / 2 % 2]: swept
  std::array<span_set, 2> full_;
  span_list empty_;
  span_list stale_;
  // Written under the lock. Relaxed: a hint. Before a malloc fails, release_empty takes the lock,
  // and so sees what was stored under it.
  span_atomic<bool> may_have_swept_{false};
  span_atomic<bool> has_left_{false};  // cleared under the lock
};

/// The mcentrals of all classes, and what their spans have in common.
class mcentral_set {
 public:
  explicit mcentral_set(mheap& heap) : heap_(heap) {
    for (unsigned sc = 0; sc < host_span_classes; ++sc) central_[sc].init(heap, *this, sc);
  }
  mcentral& operator[](unsigned span_class) { return central_[span_class]; }
  const mcentral& operator[](unsigned span_class) const { return central_[span_class]; }

  /// Gives back the pages of all spans without objects that no thread has.
  void release_empty() {
    for (mcentral& c : central_) c.release_empty();
  }
  /// mcentral::take_marked for each.
  void take_marked() {
    for (mcentral& c : central_) c.take_marked();
  }
  /// Gives a span without live objects, in no list and no cache, back to the heap.
  void free_span(mspan* s);

  /// Marks for a sweep on request.
  mark_phase marks;

  /// A bulk free is under way. Relaxed: it is to catch calls that nothing orders after it.
  std::atomic<bool> in_bulk{false};
  /// For a malloc: aborts during a bulk free.
  void check_no_bulk() const {
    if (in_bulk.load(std::memory_order_relaxed)) [[unlikely]]
      fatal("malloc during a reset or sweep: no other call may be in flight");
  }

  // --- sweeping, see sweep.cpp ------------------------------------------------------------------

  /// Takes over the spans, of any class, that a cache dropped with its cycle had kept.
  void add_stale(span_list& spans);
  /// Begins the heap's next cycle. The last cycle's spans must all be swept, and no call in flight.
  /// Without a sink nothing lives any longer; with one, only what has a mark of this cycle. The
  /// sink has to live until all is swept.
  void next_cycle(sweep_sink* sink = nullptr);
  /// Called when all is swept, before the sink goes.
  void forget_sink() { sink_ = nullptr; }
  /// Sweeps one span; returns its pages, 0 when there is none left to be swept.
  std::size_t sweep_one();
  void sweep_all() {
    while (sweep_one() != 0) {
    }
  }
  /// Called before npages pages are taken from the heap: sweeps so much that all spans will be
  /// swept by the time the free pages have been taken. Pages that other threads have swept count.
  /// (Go: deductSweepCredit.)
  void pay_for(std::size_t npages) {
    if (heap_.unswept_pages() != 0) [[unlikely]]
      pay(npages);
  }
  sweep_counts swept() const;

  /// Called by a span's owner: takes over what other threads have freed in it. Returns the number
  /// of tiny blocks that became free.
  unsigned collect(mspan* s);

  /// Double frees found by collect, where the free itself was answered "ok". By size class; those
  /// of tiny objects last.
  using late_counts = std::array<std::uint64_t, num_classes + 1>;
  late_counts late_double_frees() const {
    const std::scoped_lock lock(late_mutex_);
    return late_counts_;
  }
  /// The pointers of such frees since the last call; the first max_late only.
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

  /// Takes all locks of the set before a fork, and releases them after it.
  void lock();
  void unlock();

  /// Tiny blocks that became free in spans without an owner.
  std::atomic<std::uint64_t> tiny_blocks_freed{0};

 private:
  friend class mcentral;
  static constexpr std::size_t max_late = 64;
  void note_double_free(void* p, unsigned kind);
  void pay(std::size_t npages);

  mheap& heap_;
  std::array<mcentral, host_span_classes> central_;
  mutable span_mutex late_mutex_;
  std::array<void*, max_late> late_{};
  std::size_t late_size_ = 0;
  late_counts late_counts_{};

  mutable std::mutex stale_mutex_;  // taken before the mcentrals' locks
  span_list stale_;
  // Where sweep_one looks: classes below have no unswept span left. Relaxed, like the rest: looking
  // at a class takes its lock.
  std::atomic<unsigned> next_class_{0};
  sweep_sink* sink_ = nullptr;
  std::size_t pages_per_page_ = 1;  // to be swept for each page taken
  std::atomic<std::size_t> paid_for_{0};
  std::atomic<std::size_t> swept_pages_{0};
  std::atomic<std::uint64_t> swept_for_allocation_{0}, swept_kept_{0}, swept_freed_{0};
};

}  // namespace warpheap
