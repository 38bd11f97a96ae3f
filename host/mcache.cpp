#include "host/mcache.hpp"

namespace warpheap {

namespace {

// Stands for "no span": it has no slots and is never written, so no look-up tests for null.
constinit mspan no_span;

}  // namespace

void alloc_counters::add(const alloc_counters& other) {
  for (unsigned c = 0; c < num_classes; ++c) {
    mallocs[c].add(other.mallocs[c].get());
    frees[c].add(other.frees[c].get());
  }
  for (unsigned i = 0; i < frees_by_status.size(); ++i) {
    frees_by_status[i].add(other.frees_by_status[i].get());
  }
  for (owned_counter alloc_counters::*const figure :
       {&alloc_counters::tiny_mallocs, &alloc_counters::tiny_frees,
        &alloc_counters::tiny_blocks_taken, &alloc_counters::tiny_blocks_freed,
        &alloc_counters::large_bytes_taken, &alloc_counters::large_bytes_freed,
        &alloc_counters::out_of_memory, &alloc_counters::refused, &alloc_counters::refills}) {
    (this->*figure).add((other.*figure).get());
  }
}

mcache::mcache(mheap& heap, mcentral_set& central) : heap_(&heap), central_(&central) {
  spans_.fill(&no_span);
}

unsigned mcache::next_free(unsigned span_class) {
  do {
    mspan* s = spans_[span_class];
    const unsigned i = s->next_free_index();
    if (i != s->nelems()) return i;
  } while (refill(span_class));
  return mspan::no_index;
}

bool mcache::refill(unsigned span_class) {
  mspan* s = spans_[span_class];
  if (s != &no_span) {
    // Slots that were freed behind the cursor come first.
    if (s->any_free()) {
      s->rewind();
      return true;
    }
    spans_[span_class] = &no_span;
    (*central_)[span_class].uncache_span(s);
  }
  s = (*central_)[span_class].cache_span();
  if (s == nullptr) {
    s = heap_->alloc_span(class_to_pages(host_span_size_class(span_class)), span_class,
                          span_place::cached, stock_);
    if (s == nullptr) return false;
    s->set_phase(heap_->sweepgen(), sweep_phase::cached);
  }
  counters.refills.add(1);
  spans_[span_class] = s;
  return true;
}

void* mcache::alloc_tiny(unsigned n) {
  if (const unsigned at = tiny_.place(n); at != tiny_rule::none) {
    auto& mask =
        tiny_block_.span->tiny_masks.load(std::memory_order_relaxed)->mask[tiny_block_.index];
    std::uint32_t old = mask.load(std::memory_order_relaxed);
    // Frees of the block's other objects may come in between. Release: the last free of the block
    // sees, through the chain of exchanges, all that happened to it.
    while (!mask.compare_exchange_weak(old, tiny_mask::with_object(old, at, n),
                                       std::memory_order_acq_rel, std::memory_order_relaxed)) {
    }
    counters.tiny_mallocs.add(1);
    return static_cast<std::byte*>(tiny_block_.address()) + at;
  }
  const slot_ref fresh = take(tiny_span_class);
  if (fresh.span == nullptr) return nullptr;
  const bool had_open = tiny_.has_block() && tiny_.offset() < tiny_size;
  const bool keep = tiny_.keep_new(n);
  // Relaxed: nobody else knows of the block yet.
  fresh.span->tiny_masks.load(std::memory_order_relaxed)
      ->mask[fresh.index]
      .store(tiny_mask::live(0) | tiny_mask::started(0) | (keep ? tiny_mask::frontier(n) : 0),
             std::memory_order_relaxed);
  if (keep) {
    if (had_open) close_tiny();
    tiny_block_ = fresh;
  }
  counters.tiny_mallocs.add(1);
  counters.tiny_blocks_taken.add(1);
  return fresh.address();
}

/// Takes the frontier off the open block, which pinned it; frees the block if no object is left.
void mcache::close_tiny() {
  auto& mask =
      tiny_block_.span->tiny_masks.load(std::memory_order_relaxed)->mask[tiny_block_.index];
  std::uint32_t old = mask.load(std::memory_order_relaxed);
  std::uint32_t closed = 0;
  do {
    closed = old & ~tiny_mask::frontier_of(old);
    // acq_rel: whatever happened to its objects happened before the block is free.
  } while (!mask.compare_exchange_weak(old, closed, std::memory_order_acq_rel,
                                       std::memory_order_relaxed));
  if (tiny_mask::holds_nothing(closed)) {
    counters.tiny_blocks_freed.add(1);
    if (!central_->free_slot(tiny_block_.span, tiny_block_.index)) fatal("open tiny block is free");
  }
}

void mcache::flush() {
  if (tiny_.has_block() && tiny_.offset() < tiny_size) close_tiny();
  tiny_.forget();
  for (unsigned sc = 0; sc < host_span_classes; ++sc) {
    if (spans_[sc] == &no_span) continue;
    (*central_)[sc].uncache_span(spans_[sc]);
    spans_[sc] = &no_span;
  }
  heap_->flush(stock_);
}

void mcache::forget_spans() {
  tiny_.forget();
  spans_.fill(&no_span);
}

}  // namespace warpheap
