// What observed kernels did, taken at rest and passed on to the layers.
#include "host/heap/impl.hpp"

namespace warpheap {

device_events heap::impl::take_events() {
  if (operations == nullptr || options.device_events == 0) return {};
  const std::lock_guard lock(device_mutex);
  return operations->take_events();
}

/// Feeds the layers that follow objects; without any, the events stay for take_device_events.
void heap::impl::log_events() {
  trace_layer* const trace = layers ? layers->trace() : nullptr;
  profile_layer* const sampler = layers ? layers->profile() : nullptr;
  if (trace == nullptr && sampler == nullptr) return;
  // Of two threads, the one that takes first also logs first, so batches stay in order.
  const std::lock_guard in_order(events_mutex);
  const device_events taken = take_events();
  if (trace != nullptr) trace->log(taken);
  if (sampler != nullptr) sampler->log(taken);
}

}  // namespace warpheap
