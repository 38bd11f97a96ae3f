// Pages recounted from bitmaps, page owners and span records. (Go: ReadMemStatsSlow.)
#include "host/mheap.hpp"

namespace warpheap {

page_recount mheap::recount() const {
  const std::scoped_lock lock(mutex_);
  page_recount n;
  n.by_state = states_.count();
  arenas_.for_each_chunk([&](std::size_t chunk, const chunk_bits& b) {
    for (unsigned i = 0; i < chunk_pages; ++i) {
      const std::size_t page = chunk * chunk_pages + i;
      if (arenas_.is_fixed(page)) continue;
      ++n.grown;
      n.free += !b.alloc.get(i);
      n.scavenged += b.scavenged.get(i);
      const page_owner o = owner(page);
      n.owned_by_spans += o.is_span() && o.span()->is_swept(sweepgen_);
      n.device += o.is_device();
      n.owned_manually += o.is_manual();
    }
  });
  for (const mspan* s : all_spans_) {
    if (s->state() == span_state::in_use) {
      const bool swept = s->is_swept(sweepgen_);
      ++(swept ? n.spans : n.unswept_spans);
      (swept ? n.in_spans : n.in_unswept_spans) += s->npages();
    } else if (s->state() == span_state::manual) {
      n.in_manual_spans += s->npages();
    }
  }
  return n;
}

}  // namespace warpheap
