// Figures, added up from the counters of threads and pages.
#include "host/host_heap.hpp"

namespace warpheap {

host_heap_stats host_heap::stats() const {
  host_heap_stats st;
  std::uint64_t freed_by_reset = 0;
  const auto sum = [&](const alloc_counters& a) {
    for (unsigned c = 0; c < num_classes; ++c) {
      st.by_class[c].mallocs += a.mallocs[c].get();
      st.by_class[c].frees += a.frees[c].get();
    }
    st.tiny_mallocs += a.tiny_mallocs.get();
    st.tiny_frees += a.tiny_frees.get();
    st.tiny_blocks += a.tiny_blocks_taken.get() - a.tiny_blocks_freed.get();
    st.live_bytes += a.large_bytes_taken.get() - a.large_bytes_freed.get();
    st.out_of_memory += a.out_of_memory.get();
    st.refused += a.refused.get();
    st.cache_refills += a.refills.get();
    st.cleared_bytes += a.cleared_bytes.get();
    freed_by_reset += a.freed_by_reset.get();
    for (unsigned i = 0; i < free_statuses; ++i) st.frees_by_status[i] += a.wrong_frees[i].get();
  };
  {
    const std::scoped_lock lock(caches_mutex_);
    sum(retired_);
    for (const mcache* c : caches_) sum(c->counters);
    st.thread_caches = caches_.size();
  }
  st.tiny_blocks -= central_.tiny_blocks_freed.load(std::memory_order_relaxed);
  // Both of two simultaneous frees were counted.
  const mcentral_set::late_counts late = central_.late_double_frees();
  std::uint64_t late_sum = 0;
  for (unsigned c = 0; c < num_classes; ++c) {
    st.by_class[c].frees -= late[c];
    late_sum += late[c];
  }
  st.tiny_frees -= late[num_classes];
  late_sum += late[num_classes];
  st.frees_by_status[static_cast<unsigned>(free_status::double_free)] += late_sum;
  st.mallocs = st.tiny_mallocs;
  st.frees = st.tiny_frees;
  st.live_bytes += st.tiny_blocks * tiny_size;
  for (unsigned c = 0; c < num_classes; ++c) {
    host_heap_stats::class_stats& k = st.by_class[c];
    k.live = k.mallocs - k.frees;
    st.mallocs += k.mallocs;
    st.frees += k.frees;
    st.live_bytes += k.live * class_to_size(c);
  }
  st.live_objects = st.mallocs - st.frees;
  st.frees_by_status[static_cast<unsigned>(free_status::ok)] = st.frees - freed_by_reset;

  const mheap_stats h = pages_.stats();
  st.spans = h.spans;
  st.pages_in_use = h.pages_in_use;
  st.unswept_spans = h.unswept_spans;
  st.unswept_pages = h.unswept_pages;
  st.device_pages = h.device_pages;
  for (const std::size_t pages : h.manual_pages) st.other_pages += pages;
  st.free_pages = h.free_pages;
  st.peak_pages = h.peak_pages;
  st.heap_sys_bytes = h.grown_pages * page_size;
  st.released_bytes = h.scavenged_pages * page_size;
  st.reserved_bytes = pages_.total_bytes();
  st.span_sys_bytes = h.span_sys;
  st.tiny_sys_bytes = h.tiny_sys;
  st.cache_sys_bytes = cache_sys_.load(std::memory_order_relaxed);
  st.metadata_sys_bytes = h.metadata_sys;
  return st;
}

}  // namespace warpheap
