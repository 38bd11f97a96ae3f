// Pages lent to the device, and pages that become free in bulk: trim and reset.
#include <warpheap/bits.hpp>

#include "host/host_heap.hpp"

namespace warpheap {

page_run host_heap::take_device_pages(std::uint32_t min_pages, std::uint32_t want_pages) {
  const page_run run = pages_.take_device_pages(min_pages, want_pages);
  if (run.count != 0) return run;
  reclaim(last_used.heap_id == id_ ? last_used.cache : nullptr);
  return pages_.take_device_pages(min_pages, want_pages);
}

void host_heap::give_back_device_pages(page_run run) { pages_.give_back_device_pages(run); }

/// Gives all pages back that nothing lives in and nobody else keeps; c: the calling thread's, or
/// null.
void host_heap::reclaim(mcache* c) {
  if (c != nullptr) flush(*c);
  (void)stacks_.release();
  (void)regions_.release();
  central_.release_empty();
}

std::size_t host_heap::trim() {
  reclaim(cache());
  return pages_.scavenge(scavenge_cause::asked) * page_size;
}

void host_heap::count_reset(const mspan& s) {
  const unsigned live = s.nelems() - s.count_free();
  if (!s.is_tiny()) {
    retired_.frees[s.size_class()].add(live);
    retired_.freed_by_reset.add(live);
    if (s.size_class() == 0) retired_.large_bytes_freed.add(live * s.elemsize());
    return;
  }
  const auto* masks = s.tiny_masks.load(std::memory_order_relaxed);
  s.for_each_taken([&](unsigned i) {
    const std::uint32_t mask = masks->current(i);
    const auto objects = static_cast<std::uint64_t>(bits::popcount(mask & mask >> 16));
    retired_.tiny_frees.add(objects);
    retired_.freed_by_reset.add(objects);
  });
  retired_.tiny_blocks_freed.add(live);
}

void host_heap::reset() {
  const std::scoped_lock lock(caches_mutex_);
  const epoch_history::recording epoch(epochs_);
  for (mcache* c : caches_) c->forget_spans();
  for (unsigned sc = 0; sc < host_span_classes; ++sc) central_[sc].forget_all();
  pages_.next_sweep_cycle();  // every span is unswept now, or stale in a cache
  pages_.for_each_span([&](mspan& s) {
    s.set_phase(pages_.sweepgen(), sweep_phase::sweeping);
    count_reset(s);
    s.free_all();
    s.set_phase(pages_.sweepgen(), sweep_phase::swept);
    pages_.free_span(&s);
  });
}

}  // namespace warpheap
