// Sweeping: what a bulk free left is cleaned up span by span, when it is needed or there is time.
// (Go: mgcsweep.)
//
// A bulk free adds 2 to the heap's sweepgen, and looks at no span. Threads find that their caches
// are of a heap that is gone, and take new ones. Figures count all objects as freed at once, and
// unswept pages as free. A span is swept by one thread: one that allocates and finds it in an
// unswept set of its class (100 tries); one that takes pages, which pays by sweeping so many pages
// that the sweep ends before the room does; the service when it is idle; or, for all spans, an
// allocation that finds no room, trim, or the next bulk free. The span goes to the cache that
// asked, to a swept set, or back to pages. A sweep that looks for marks is the same, but runs to
// its end at once.

#include <algorithm>

#include <warpheap/bits.hpp>

#include "host/mcentral.hpp"

namespace warpheap {

// --- one class -----------------------------------------------------------------------------------

// All private functions here are called with the lock held, and it stays held until a swept span is
// counted where it belongs. So only one thread at a time sweeps in a class, and a child of a fork
// finds no span half swept.

void mcentral::add_stale(mspan* s) {
  const std::scoped_lock lock(mutex_);
  stale_.insert_back(s);
}

void mcentral::add_stale(span_list& spans) {
  const std::scoped_lock lock(mutex_);
  stale_.append(spans);
}

/// An unswept span, which this thread then has to sweep; nullptr when there is none, or after
/// `tries` looks. A span in an unswept set may also be in a cache's list; such a span is passed
/// over.
mspan* mcentral::take_unswept(unsigned& tries) {
  const std::uint32_t h = heap_->sweepgen();
  for (; tries > 0 && !stale_.empty(); --tries) {
    mspan* s = stale_.pop_front();
    if (s->begin_sweep(h, sweep_phase::stale_cached)) return s;
  }
  for (auto* sets : {&partial_, &full_}) {
    span_set& set = unswept(*sets);
    for (; tries > 0 && !set.empty(); --tries) {
      mspan* s = set.pop();
      if (s->begin_sweep(h, sweep_phase::unswept)) return s;
    }
  }
  return nullptr;
}

/// Sweeps a span that this thread has begun to sweep. Afterwards the span is nobody's, or large.
/// The caller tells mheap what becomes of it.
void mcentral::sweep(mspan* s) {
  remove_from_set(s);
  s->leave();
  if (all_->sink_ != nullptr) {
    free_unmarked(s, *all_->sink_);
  } else {
    free_all(s);
  }
  s->set_marks(nullptr);
  if (s->size_class() != 0) s->set_place(span_place::none);
  s->needzero = true;
  s->set_phase(heap_->sweepgen(), sweep_phase::swept);
  all_->swept_pages_.fetch_add(s->npages(), std::memory_order_relaxed);
}

void mcentral::free_all(mspan* s) {
  s->free_all();
  if (auto* masks = s->tiny_masks.load(std::memory_order_relaxed); masks != nullptr) {
    masks->end_all();
  }
}

void mcentral::free_unmarked(mspan* s, sweep_sink& sink) {
  const bool large = s->size_class() == 0;
  // Frees that nobody has collected yet count as frees, and not as leaks.
  if (!large) sink.tiny_blocks_freed(all_->collect(s));
  span_marks* const found = s->marks();
  const span_marks* const marks =
      found != nullptr && found->is_of(s->first(), s->span_class(), heap_->sweepgen()) ? found
                                                                                       : nullptr;
  auto* const masks = s->tiny_masks.load(std::memory_order_relaxed);
  if (marks != nullptr) {
    marks->for_each([&](unsigned i) {
      std::byte* const p = masks != nullptr ? s->first() + i : s->slot_address(i);
      const bool lives = masks != nullptr
                             ? tiny_mask::is_live(masks->current(i / tiny_size), i % tiny_size)
                             : !s->is_free(i);
      if (!lives) sink.dangling(p);
    });
  }
  const auto lives_on = [&](unsigned i) {
    return marks != nullptr && (marks->get(i) || marks->is_born(i));
  };
  s->for_each_taken([&](unsigned i) {
    if (masks == nullptr) {
      if (lives_on(i)) return sink.kept(s->elemsize());
      if (large ? s->free_large() : !s->free_own_slot(i)) fatal("object is swept twice");
      return sink.leaked(s->slot_address(i), s->elemsize(), s->size_class());
    }
    const std::uint32_t mask = masks->mask[i].load(std::memory_order_relaxed);
    // An open block is closed: the cache that had it open is gone.
    std::uint32_t rest = mask & ~tiny_mask::frontier_of(mask);
    for (unsigned at = 0; at < tiny_size; ++at) {
      if (!tiny_mask::is_live(mask, at)) continue;
      const std::size_t bytes = tiny_mask::extent(mask, at);
      if (lives_on(i * tiny_size + at)) {
        sink.kept(bytes);
        continue;
      }
      sink.leaked(s->slot_address(i) + at, bytes, num_classes);
      rest &= ~tiny_mask::live(at);
    }
    masks->mask[i].store(rest, std::memory_order_relaxed);
    if (!tiny_mask::holds_nothing(rest)) return;
    if (!s->free_own_slot(i)) fatal("tiny block with objects is free");
    sink.tiny_blocks_freed(1);
  });
}

/// Puts a swept span that is nobody's where it belongs; false if its pages are to be freed.
bool mcentral::place_swept(mspan* s) {
  if (s->is_empty()) {
    all_->swept_freed_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  all_->swept_kept_.fetch_add(1, std::memory_order_relaxed);
  heap_->note_swept(*s);
  if (s->size_class() == 0) {
    (void)put(s, full_);
  } else if (s->has_free()) {
    s->set_place(span_place::partial);
    (void)put(s, partial_);
  } else {
    (void)put(s, full_);
    s->note_owner(nullptr);
    s->set_place(span_place::full);
  }
  return true;
}

mspan* mcentral::sweep_for_allocation() {
  for (unsigned tries = sweep_tries; mspan* s = take_unswept(tries);) {
    sweep(s);
    if (s->has_free()) {
      heap_->note_swept(*s);
      all_->swept_for_allocation_.fetch_add(1, std::memory_order_relaxed);
      return s;
    }
    place_swept(s);
    --tries;
  }
  return nullptr;
}

/// One of the spans kept empty, swept if need be; nullptr when there is none.
mspan* mcentral::take_empty() {
  mspan* s = empty_.pop_front();
  if (s != nullptr && s->begin_sweep(heap_->sweepgen(), sweep_phase::unswept)) {
    sweep(s);
    heap_->note_swept(*s);
    all_->swept_for_allocation_.fetch_add(1, std::memory_order_relaxed);
  }
  return s;
}

std::size_t mcentral::sweep_one() {
  const std::scoped_lock lock(mutex_);
  mspan* s = nullptr;
  const std::uint32_t h = heap_->sweepgen();
  // Unswept spans come before all that were put there since.
  if (!empty_.empty() && empty_.first()->begin_sweep(h, sweep_phase::unswept)) {
    s = empty_.pop_front();
  } else {
    unsigned all = ~0u;
    s = take_unswept(all);
  }
  if (s == nullptr) return 0;
  const std::size_t pages = s->npages();
  sweep(s);
  if (!place_swept(s)) heap_->free_swept_span(s);
  return pages;
}

void mcentral::sweep_span(mspan* s) {
  const std::scoped_lock lock(mutex_);
  s->set_phase(heap_->sweepgen(), sweep_phase::sweeping);
  sweep(s);
  if (!place_swept(s)) heap_->free_swept_span(s);
}

// --- all classes ---------------------------------------------------------------------------------

void mcentral_set::add_stale(span_list& spans) {
  const std::scoped_lock lock(stale_mutex_);
  stale_.append(spans);
}

void mcentral_set::next_cycle(sweep_sink* sink) {
  sink_ = sink;
  heap_.next_sweep_cycle();
  next_class_.store(0, std::memory_order_relaxed);
  paid_for_.store(0, std::memory_order_relaxed);
  swept_pages_.store(0, std::memory_order_relaxed);
  const std::size_t room = std::max<std::size_t>(heap_.room_pages(), 1);
  pages_per_page_ = std::max<std::size_t>(bits::ceil_div(heap_.unswept_pages(), room), 1);
}

std::size_t mcentral_set::sweep_one() {
  if (heap_.unswept_spans() == 0) return 0;
  {
    // Held until the span is swept: a child of a fork finds it here, or swept.
    const std::scoped_lock lock(stale_mutex_);
    if (mspan* s = stale_.pop_front(); s != nullptr) {
      const std::size_t pages = s->npages();
      central_[s->span_class()].sweep_span(s);
      return pages;
    }
  }
  for (unsigned c = next_class_.load(std::memory_order_relaxed); c < host_span_classes;) {
    if (const std::size_t pages = central_[c].sweep_one(); pages != 0) return pages;
    // A class without unswept spans gets none for the rest of the cycle.
    if (next_class_.compare_exchange_strong(c, c + 1, std::memory_order_relaxed)) ++c;
  }
  return 0;
}

void mcentral_set::pay(std::size_t npages) {
  const std::size_t owed =
      (paid_for_.fetch_add(npages, std::memory_order_relaxed) + npages) * pages_per_page_;
  while (swept_pages_.load(std::memory_order_relaxed) < owed && sweep_one() != 0) {
  }
}

sweep_counts mcentral_set::swept() const {
  return {swept_for_allocation_.load(std::memory_order_relaxed),
          swept_kept_.load(std::memory_order_relaxed),
          swept_freed_.load(std::memory_order_relaxed)};
}

}  // namespace warpheap
