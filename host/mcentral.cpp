#include "host/mcentral.hpp"

#include "host/mheap.hpp"

namespace warpheap {

void mcentral::init(mheap& heap, mcentral_set& all, unsigned span_class) {
  heap_ = &heap;
  all_ = &all;
  span_class_ = span_class;
}

span_set& mcentral::swept(std::array<span_set, 2>& sets) { return sets[heap_->sweepgen() / 2 % 2]; }
span_set& mcentral::unswept(std::array<span_set, 2>& sets) {
  return sets[1 - heap_->sweepgen() / 2 % 2];
}

/// Changes the status of a span whose place only this thread can change; a pending mark stays.
mspan* mcentral::move_to(mspan* s, span_status to) {
  span_status seen = s->status();
  while (!s->exchange_status(
      seen, span_status(to.bits() | (seen.is_pending() ? span_status::pending : 0)))) {
  }
  return s;
}

/// The lock is held.
void mcentral::remove_from_set(mspan* s) {
  for (auto* sets : {&partial_, &full_}) {
    for (span_set& set : *sets) {
      if (s->set() == &set) return set.remove(s);
    }
  }
}

/// Puts a swept span into a swept set. The lock is held. False if there is no memory for the set. A
/// partial span is then out of sight until its last object is freed; a full one is out of sight of
/// take_marked, and in the next cycle until reset looks for it.
bool mcentral::put(mspan* s, std::array<span_set, 2>& sets) {
  remove_from_set(s);
  if (&sets == &partial_) may_have_swept_.store(true, std::memory_order_relaxed);
  return swept(sets).insert(s);
}

mspan* mcentral::cache_span(const void* cache) {
  const std::scoped_lock lock(mutex_);
  mspan* s = swept(partial_).pop();
  if (s == nullptr) s = take_empty();
  if (s == nullptr) {
    may_have_swept_.store(false, std::memory_order_relaxed);
    s = sweep_for_allocation();
  }
  if (s == nullptr) return nullptr;
  s->set_phase(heap_->sweepgen(), sweep_phase::cached);
  return move_to(s, span_status::of(cache, span_class_));
}

/// Keeps a span without objects. If it returns false, the span is nobody's and its pages are to be
/// freed.
bool mcentral::keep_or_drop(mspan* s) {
  remove_from_set(s);
  const bool keep = (empty_.size() + 1) * s->npages() <= max_empty_pages;
  move_to(s, span_status::in(keep ? span_place::empty : span_place::none, span_class_));
  if (!s->has_all_free()) {
    all_->tiny_blocks_freed.fetch_add(all_->collect(s), std::memory_order_relaxed);
  }
  if (keep) {
    empty_.insert_back(s);
    may_have_swept_.store(true, std::memory_order_relaxed);
  }
  return keep;
}

void mcentral::uncache_span(mspan* s) {
  {
    const std::scoped_lock lock(mutex_);
    if (s->begin_sweep(heap_->sweepgen(), sweep_phase::stale_cached)) {
      sweep(s);
      if (!place_swept(s)) heap_->free_swept_span(s);
      return;
    }
    s->set_phase(heap_->sweepgen(), sweep_phase::swept);
    if (!s->has_free()) {
      // Becomes full, unless a free comes first: then it is placed as partial below.
      (void)put(s, full_);
      s->note_owner(nullptr);
      span_status seen = s->status();
      if (!seen.is_pending()
          && s->exchange_status(seen, span_status::in(span_place::full, span_class_))) {
        return;
      }
    }
    move_to(s, span_status::in(span_place::partial, span_class_));
    if (!s->is_empty()) {
      (void)put(s, partial_);
      return;
    }
    if (keep_or_drop(s)) return;
  }
  heap_->free_span(s);
}

void mcentral::add_full(mspan* s) {
  // No lock: while s is swept and has an owner, no other thread changes set().
  if (s->set() != nullptr) return;
  const std::scoped_lock lock(mutex_);
  // take_marked would not find the span, so the next thread that frees in it takes it at once.
  if (!put(s, full_)) s->note_owner(nullptr);
}

void mcentral::forget(mspan* s) {
  if (s->set() == nullptr) return;
  const std::scoped_lock lock(mutex_);
  remove_from_set(s);
}

void mcentral::became_empty(mspan* s) {
  {
    const std::scoped_lock lock(mutex_);
    const span_status seen = s->status();
    if (seen.place() != span_place::partial || seen.span_class() != span_class_ || !s->is_empty()) {
      return;
    }
    if (keep_or_drop(s)) return;
  }
  heap_->free_span(s);
}

/// The lock is held. Returns false, with nothing done, unless the span is full and its mark is
/// `mark`.
bool mcentral::take_from_full(mspan* s, std::uintptr_t mark) {
  span_status seen(span_status::in(span_place::full, span_class_).bits() | mark);
  const span_status partial(span_status::in(span_place::partial, span_class_).bits() | mark);
  if (!s->exchange_status(seen, partial)) return false;
  if (!s->is_empty())
    (void)put(s, partial_);
  else if (!keep_or_drop(s))
    heap_->free_span(s);
  return true;
}

void mcentral::take_full(mspan* s) {
  const std::scoped_lock lock(mutex_);
  if (!take_from_full(s, 0)) (void)take_from_full(s, span_status::pending);
}

void mcentral::take_marked() {
  const std::scoped_lock lock(mutex_);
  if (!has_left_.exchange(false, std::memory_order_seq_cst)) return;
  const auto marked = span_status::in(span_place::full, span_class_).bits() | span_status::pending;
  swept(full_).for_each([&](mspan* s) {
    if (s->status().bits() != marked) return;
    // Without memory for the set, the span stays where a later look finds it.
    if (swept(partial_).reserve())
      (void)take_from_full(s, span_status::pending);
    else
      has_left_.store(true, std::memory_order_relaxed);
  });
}

std::size_t mcentral::release_empty() {
  std::size_t pages = 0;
  for (;;) {
    mspan* s = nullptr;
    {
      const std::scoped_lock lock(mutex_);
      s = take_empty();
      if (s == nullptr) return pages;
      move_to(s, span_status::in(span_place::none, span_class_));
    }
    pages += s->npages();
    heap_->free_span(s);
  }
}

mcentral::sizes mcentral::set_sizes() const {
  const std::scoped_lock lock(mutex_);
  const std::size_t now = heap_->sweepgen() / 2 % 2;
  return {partial_[now].size(),     empty_.size(),         full_[now].size(),
          partial_[1 - now].size(), full_[1 - now].size(), stale_.size()};
}

void mcentral_set::free_span(mspan* s) {
  central_[s->span_class()].forget(s);
  heap_.free_span(s);
}

unsigned mcentral_set::collect(mspan* s) {
  unsigned tiny_blocks = 0;
  s->collect([&](unsigned i) { note_double_free(s->slot_address(i), s->size_class()); },
             [&](unsigned block) {
               auto& masks = *s->tiny_masks.load(std::memory_order_relaxed);
               const std::uint32_t old = masks.mask[block].load(std::memory_order_relaxed);
               // seq_cst, like the collector's look at the bits of other spans (mspan.hpp). It
               // acquires: what happened to the objects happens before the block is free.
               const std::uint32_t freed = masks.freed[block].load(std::memory_order_seq_cst);
               if (freed == 0) return tiny_mask::holds_nothing(old);
               const std::uint32_t rest = old & ~freed;
               masks.mask[block].store(rest, std::memory_order_relaxed);
               // Release, after the store above: see "what tells a double free" in mspan.hpp.
               masks.freed[block].fetch_and(static_cast<std::uint16_t>(~freed),
                                            std::memory_order_release);
               for (std::uint32_t twice = freed & ~old; twice != 0; twice &= twice - 1) {
                 note_double_free(s->slot_address(block) + bits::countr_zero(twice), num_classes);
               }
               if (!tiny_mask::holds_nothing(rest)) return false;
               if (tiny_mask::holds_nothing(old)) return true;
               ++tiny_blocks;
               if (!s->free_own_slot(block)) fatal("tiny block with objects is free");
               return true;
             });
  return tiny_blocks;
}

void mcentral_set::note_double_free(void* p, unsigned kind) {
  const std::scoped_lock lock(late_mutex_);
  ++late_counts_[kind];
  if (late_size_ < max_late) late_[late_size_++] = p;
}

void mcentral_set::lock() {
  stale_mutex_.lock();
  for (mcentral& c : central_) c.lock();
  late_mutex_.lock();
  marks.lock();
}

void mcentral_set::unlock() {
  marks.unlock();
  late_mutex_.unlock();
  for (mcentral& c : central_) c.unlock();
  stale_mutex_.unlock();
}

}  // namespace warpheap
