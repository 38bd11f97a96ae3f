// Where the memory of a heap is: the figures of host_heap::memory.
#include <algorithm>

#include "host/host_heap.hpp"

namespace warpheap {

namespace {

/// a - b, or 0 if b is larger, which happens while both of two simultaneous frees of one object are
/// counted.
std::uint64_t difference(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

}  // namespace

/// Frees are read before mallocs, so that the malloc of any object whose free was counted is
/// counted too. caches_mutex_ is held, as caches come and go with their counts.
void host_heap::count_objects(memory_stats& m) const {
  const auto for_all = [&](auto&& f) {
    f(retired_);
    for (const mcache* c : caches_) f(c->counters);
  };
  // Both of two simultaneous frees were counted; one must be subtracted.
  const mcentral_set::late_counts late = central_.late_double_frees();
  std::uint64_t blocks_freed = central_.tiny_blocks_freed.load(std::memory_order_acquire);
  for_all([&](const alloc_counters& a) {
    for (unsigned c = 0; c < num_classes; ++c) m.by_class[c].frees += a.frees[c].get();
    m.tiny_frees += a.tiny_frees.get();
    m.large_free += a.large_bytes_freed.get();
    blocks_freed += a.tiny_blocks_freed.get();
  });
  std::uint64_t blocks_taken = 0;
  for_all([&](const alloc_counters& a) {
    for (unsigned c = 0; c < num_classes; ++c) m.by_class[c].mallocs += a.mallocs[c].get();
    m.tiny_mallocs += a.tiny_mallocs.get();
    m.large_alloc += a.large_bytes_taken.get();
    blocks_taken += a.tiny_blocks_taken.get();
    m.out_of_memory += a.out_of_memory.get();
    m.refused += a.refused.get();
  });
  m.tiny_blocks = difference(blocks_taken, blocks_freed);
  const auto no_more_frees_than_mallocs = [](std::uint64_t& frees, std::uint64_t twice,
                                             std::uint64_t mallocs) {
    frees = std::min(difference(frees, twice), mallocs);
  };
  no_more_frees_than_mallocs(m.tiny_frees, late[num_classes], m.tiny_mallocs);
  m.mallocs = m.tiny_mallocs;
  m.frees = m.tiny_frees;
  m.heap_alloc = m.tiny_blocks * tiny_size + difference(m.large_alloc, m.large_free);
  m.total_alloc = blocks_taken * tiny_size + m.large_alloc;
  for (unsigned c = 0; c < num_classes; ++c) {
    memory_stats::class_figures& k = m.by_class[c];
    k.slot_bytes = class_to_size(c);
    no_more_frees_than_mallocs(k.frees, late[c], k.mallocs);
    m.mallocs += k.mallocs;
    m.frees += k.frees;
    m.heap_alloc += (k.mallocs - k.frees) * k.slot_bytes;
    m.total_alloc += k.mallocs * k.slot_bytes;
  }
  m.live_objects = m.mallocs - m.frees;
  m.large_mallocs = m.by_class[0].mallocs;
  m.large_frees = m.by_class[0].frees;
}

memory_stats host_heap::memory(std::size_t buckhash_sys, std::size_t device_table_sys) const {
  memory_stats m;
  {
    const std::scoped_lock lock(caches_mutex_);
    count_objects(m);
    m.thread_caches = caches_.size();
    m.mcache_inuse = (caches_.size() + stale_caches_.size()) * sizeof(mcache);
    m.mcache_sys = cache_sys_.load(std::memory_order_relaxed);
    m.epochs = epochs_.stats();
  }
  stacks_.lock();
  const mheap_stats h = pages_.stats();
  m.stacks_inuse = stacks_.inuse_bytes();
  stacks_.unlock();
  const auto manual = [&](manual_use use) {
    return h.manual_pages[static_cast<unsigned>(use)] * page_size;
  };
  const auto scavenged = [&](scavenge_cause cause) {
    return h.scavenged_ever[static_cast<unsigned>(cause)] * page_size;
  };
  m.stacks_sys = manual(manual_use::stacks);
  m.regions_sys = manual(manual_use::regions);
  m.quarantined = manual(manual_use::quarantine);
  m.device_sys = h.device_pages * page_size;
  m.heap_inuse = h.pages_in_use * page_size;
  // Pages without a use are idle, including those in transit from one use to another.
  m.heap_sys = h.grown_pages * page_size - m.device_sys - m.stacks_sys - m.regions_sys;
  m.heap_idle = m.heap_sys - m.heap_inuse;
  m.heap_released = h.scavenged_pages * page_size + m.quarantined;
  m.mspan_sys = h.span_sys;
  m.mspan_inuse = h.span_inuse;
  m.tiny_mask_sys = h.tiny_sys;
  m.buckhash_sys = buckhash_sys;
  m.page_table_sys = h.page_table_sys;
  m.device_table_sys = device_table_sys;
  m.other_sys = h.metadata_sys - m.mspan_sys - m.mcache_sys - m.tiny_mask_sys;
  m.sys = m.heap_sys + m.device_sys + m.stacks_sys + m.regions_sys + m.mspan_sys + m.mcache_sys
          + m.tiny_mask_sys + m.buckhash_sys + m.page_table_sys + m.device_table_sys + m.other_sys;

  m.reserved = pages_.total_bytes();
  m.committed = h.committed_pages * page_size;
  m.memory_limit = pages_.memory_limit() == mheap::no_limit ? 0 : pages_.memory_limit();
  m.peak = h.peak_pages * page_size;
  m.scavenged_asked = scavenged(scavenge_cause::asked);
  m.scavenged_growth = scavenged(scavenge_cause::growth);
  m.scavenged_limit = scavenged(scavenge_cause::limit);
  m.scavenged_background = scavenged(scavenge_cause::background);
  return m;
}

}  // namespace warpheap
