#include "host/layers/chain.hpp"

namespace warpheap {

layer_chain::layer_chain(host_heap& heap, const layer_options& o, layer_reports report)
    : bottom_(heap) {
  const std::size_t held = held_bytes(heap.reserve_bytes());
  if (o.sbrk) top_ = &sbrk_.emplace(top_, heap.reserve_bytes());
  if (o.efence) top_ = &efence_.emplace(top_, report, held);
  if (o.clobber_free) top_ = &clobber_.emplace(top_);
  if (o.red_zones) top_ = &red_zones_.emplace(top_, report);
  if (o.quarantine_bytes != 0) top_ = &quarantine_.emplace(top_, report, o.quarantine_bytes);
  if (o.annotate) top_ = &annotate_.emplace(top_, held);
  if (o.profile_rate != 0) top_ = &profile_.emplace(top_, o.profile_rate, o.profile_started);
  if (*o.trace_file != 0) top_ = &trace_.emplace(top_, o.trace_file);
}

}  // namespace warpheap
