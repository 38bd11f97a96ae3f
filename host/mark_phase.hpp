#pragma once

// The time from the first mark to the sweep, and the marks made during it.
//
// What is allocated in that time outlives the sweep without a mark, as no thread had to know of it
// when the marks were made. (Go: objects are allocated black.) The fast path of malloc does nothing
// for this. A thread takes slots from one word of a span at a time, and fills that word in a slow
// path: while the phase lasts, it notes all slots of the word as born there. What was in the words
// when the phase began is noted, for all threads, by the thread that makes the first mark. An owner
// fills a word, then looks for the phase; the thread that makes the first mark begins the phase,
// then looks into the words: at least one of them sees the other. The owner's part is a store and a
// load without a fence, because the other thread makes every running thread of the process execute
// one (barrier_for_all).

#include <atomic>
#include <cstdint>

#include "host/barrier_for_all.hpp"
#include "host/mspan.hpp"
#include "host/span_marks.hpp"
#include "host/span_sync.hpp"

namespace warpheap {

/// Thread-safe, unless said otherwise. Its lock is taken inside mcentral's and mheap's.
class mark_phase {
 public:
  /// For owners of spans, after they have filled a word and before they take from it.
  bool is_on() const {
    // The compiler's part of a fence; the processor's part is barrier_for_all.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    // Acquire, pairs with begin: a thread that finds the phase on finds its cycle.
    return on_.load(std::memory_order_acquire);
  }
  /// For threads that mark. Acquire, pairs with begin: what the words had then has been noted.
  bool has_begun() const { return begun_.load(std::memory_order_acquire); }
  /// The marks are for the sweep that begins `cycle`. note() notes what all threads' words have.
  /// One thread at a time.
  template <class F>
  void begin(std::uint32_t cycle, F&& note) {
    if (has_begun()) return;
    cycle_.store(cycle, std::memory_order_relaxed);
    on_.store(true, std::memory_order_release);
    barrier_for_all();
    note();
    begun_.store(true, std::memory_order_release);
  }
  /// Ends the phase; no other call may be in flight. drop: also frees the marks, which no span has
  /// any more.
  void end(bool drop);
  void drop_marks() { all_.drop(); }

  /// The marks of a span for the coming sweep, made if need be; nullptr when there is no memory, or
  /// when still_there(), called under the lock, says that the span is another one now.
  template <class F>
  span_marks* of(mspan& s, std::byte* first, unsigned span_class, F&& still_there) {
    const std::uint32_t cycle = cycle_.load(std::memory_order_relaxed);
    const auto found = [&](const span_marks* m) {
      return m != nullptr && m->is_of(first, span_class, cycle);
    };
    span_marks* marks = s.marks();
    if (found(marks)) return marks;
    const std::scoped_lock lock(mutex_);
    marks = s.marks();
    if (found(marks)) return marks;
    // Checked under the lock: a thread that has put other marks here found the span to be another,
    // and so does still_there. If the span changes only now, marks put here after all are not taken
    // for theirs (is_of) by threads that mark in the new span.
    if (!still_there()) return nullptr;
    marks = span_marks::make(all_, first, span_class, cycle);
    if (marks == nullptr) {
      lost_.store(true, std::memory_order_relaxed);
    } else {
      s.set_marks(marks);
    }
    return marks;
  }

  /// Notes the slots that the owner of s may take from the words it has filled; in a tiny block,
  /// all its bytes.
  void note_births(mspan& s);
  /// Notes the bytes that the owner of a span of tiny blocks may still put into open blocks.
  void note_tiny_births(mspan& s);
  /// Notes the object of a large span.
  void note_large_birth(mspan& s);

  /// There was no memory for a mark: nothing is to be swept.
  bool lost() const { return lost_.load(std::memory_order_relaxed); }
  void lose() { lost_.store(true, std::memory_order_relaxed); }
  void forgive_lost() { lost_.store(false, std::memory_order_relaxed); }

  /// For a fork: no other thread is in here between the two.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  span_marks* births_of(mspan& s);

  span_atomic<bool> on_{false};
  span_atomic<bool> begun_{false};
  span_atomic<bool> lost_{false};
  span_atomic<std::uint32_t> cycle_{0};
  span_mutex mutex_;  // guards the list
  span_marks::list all_;
};

}  // namespace warpheap
