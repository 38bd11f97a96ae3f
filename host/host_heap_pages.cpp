// Pages lent to the device, and pages that become free in bulk: trim and reset.
#include <utility>

#include "host/heap_registry.hpp"
#include "host/host_heap.hpp"

namespace warpheap {

page_run host_heap::take_device_pages(std::uint32_t min_pages, std::uint32_t want_pages) {
  central_.pay_for(want_pages);
  const page_run run = pages_.take_device_pages(min_pages, want_pages);
  if (run.count != 0) return run;
  mcache* const c = last_used.heap_id == id_ ? last_used.get() : nullptr;
  const mcache::call guard(c);
  reclaim(c);
  return pages_.take_device_pages(min_pages, want_pages);
}

void host_heap::give_back_device_pages(page_run run) { pages_.give_back_device_pages(run); }

/// Gives back all pages that hold nothing live and that no other thread's cache keeps; c: the
/// calling thread's cache, or null.
void host_heap::reclaim(mcache* c) {
  if (c != nullptr) flush(*c);
  recover_lost_caches();
  (void)stacks_.release();
  (void)regions_.release();
  central_.sweep_all();
  central_.release_empty();
}

/// In a fork's child, does for the threads that it does not have what they would do at their end,
/// unless the fork found them in a slow path. A fork cuts each thread's stores off at one point of
/// its program, so a thread outside slow paths leaves consistent spans and lists; an object that it
/// was just taking or freeing may still count as before.
void host_heap::recover_lost_caches() {
  if (!is_forked_) return;
  for (;;) {
    mcache* found = nullptr;
    {
      const std::scoped_lock lock(caches_mutex_);
      for (mcache* c : caches_) {
        if (c->lost && !c->in_call()) found = c;
      }
      if (found == nullptr) return;
      found->lost = false;  // this thread's, until it is gone
    }
    flush(*found);
    drop_cache(found);
  }
}

std::size_t host_heap::trim() {
  mcache* const c = cache();
  const mcache::call guard(c);
  central_.take_marked();
  reclaim(c);
  return pages_.scavenge(scavenge_cause::asked) * page_size;
}

/// Counts all objects as freed. caches_mutex_ is held, and retired_ has the counters of all caches.
void host_heap::count_reset() {
  alloc_counters& all = retired_;
  // Frees that turned out to be second frees of an object were counted too.
  const mcentral_set::late_counts late = central_.late_double_frees();
  std::uint64_t objects = 0;
  const auto free_rest = [&](const owned_counter& mallocs, owned_counter& frees,
                             std::uint64_t twice) {
    const std::uint64_t live = mallocs.get() - (frees.get() - twice);
    frees.add(live);
    objects += live;
  };
  for (unsigned c = 0; c < num_classes; ++c) free_rest(all.mallocs[c], all.frees[c], late[c]);
  free_rest(all.tiny_mallocs, all.tiny_frees, late[num_classes]);
  all.freed_by_reset.add(objects);
  all.large_bytes_freed.add(all.large_bytes_taken.get() - all.large_bytes_freed.get());
  all.tiny_blocks_freed.add(all.tiny_blocks_taken.get() - all.tiny_blocks_freed.get()
                            - central_.tiny_blocks_freed.load(std::memory_order_relaxed));
}

/// Completes the last cycle's sweep. No other call is in flight.
void host_heap::finish_sweep() {
  central_.sweep_all();
  if (pages_.unswept_spans() != 0) {
    // Spans in no set: there was no memory for their set, or they belonged to a thread that this
    // child of a fork does not have.
    pages_.for_each_span([&](mspan& s) {
      if (s.is_swept(pages_.sweepgen())) return;
      span_list::forget(&s);
      central_[s.span_class()].sweep_span(&s);
    });
  }
  drop_stale_caches();
}

/// No span is unswept; caches_mutex_ is held.
void host_heap::drop_stale_caches() {
  for (mcache* c : stale_caches_) {
    c->~mcache();
    cache_alloc_.free(c);
  }
  stale_caches_.clear();
  has_stale_caches_.store(false, std::memory_order_relaxed);
}

/// Makes all spans unswept, and makes threads take new caches. The registry's lock and
/// caches_mutex_ are held, the last cycle's sweep is finished, and no other call is in flight.
void host_heap::begin_cycle(sweep_sink* sink) {
  for (mcache* c : caches_) {
    c->forget_user();
    retired_.add(c->counters);
    if (c->lost) continue;
    c->retire();
    c->stacks.flush(stacks_);
  }
  stale_caches_.swap(caches_);
  has_stale_caches_.store(true, std::memory_order_relaxed);
  if (is_forked_) pages_.count_spans();
  central_.next_cycle(sink);
  id_ = heap_registry::instance().renew(id_);
  // Safe: no call is in flight, and a span forgets its marks, when it is swept or made, before any
  // thread looks at them.
  central_.marks.end(/*drop=*/sink == nullptr);
  dangling_marks_ = 0;
  dangling_.clear();
  // Swept at once, as the spans of lost threads are in no list.
  if (std::exchange(is_forked_, false)) finish_sweep();
}

void host_heap::reset() {
  const std::scoped_lock registered(heap_registry::instance().mutex);
  const std::scoped_lock lock(caches_mutex_);
  const bulk_call bulk(*this);
  const epoch_history::recording epoch(epochs_);
  finish_sweep();
  begin_cycle(nullptr);
  count_reset();
}

bool host_heap::sweep_some(unsigned spans) {
  while (spans-- > 0 && central_.sweep_one() != 0) {
  }
  if (pages_.unswept_spans() != 0) return true;
  // Relaxed: a hint. What matters is checked again under the lock.
  if (has_stale_caches_.load(std::memory_order_relaxed)) {
    const std::scoped_lock lock(caches_mutex_);
    if (pages_.unswept_spans() == 0) drop_stale_caches();
  }
  return false;
}

}  // namespace warpheap
