// Pages counted anew from bitmaps, page owners and span records. (Go: ReadMemStatsSlow.)
#include "host/mheap.hpp"

namespace warpheap {

page_recount mheap::recount() const {
  const std::scoped_lock lock(mutex_);
  page_recount n;
  arenas_.for_each_chunk([&](std::size_t chunk, const chunk_bits& b) {
    for (unsigned i = 0; i < chunk_pages; ++i) {
      const std::size_t page = chunk * chunk_pages + i;
      if (page == 0 || page >= reserve_pages()) continue;
      ++n.grown;
      n.free += !b.alloc.get(i);
      n.scavenged += b.scavenged.get(i);
      const page_owner o = owner(page);
      n.owned_by_spans += o.is_span();
      n.device += o.is_device();
      n.owned_manually += o.is_manual();
    }
  });
  for (const mspan* s : all_spans_) {
    if (s->state() == span_state::in_use) {
      ++n.spans;
      n.in_spans += s->npages();
    } else if (s->state() == span_state::manual) {
      n.in_manual_spans += s->npages();
    }
  }
  return n;
}

}  // namespace warpheap
