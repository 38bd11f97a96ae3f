// Memory of the heap that is not objects: scratch stacks and chunks of regions; and the scavenging
// of unused pages.
#include "host/host_heap.hpp"

namespace warpheap {

void* host_heap::acquire_stack(std::size_t bytes) noexcept {
  const std::size_t size = stack_pool::rounded(bytes);
  if (size == 0 || size > pages_.most_bytes()) return nullptr;
  mcache* const c = cache();
  const mcache::call guard(c);
  const auto attempt = [&]() -> void* {
    if (!stack_pool::is_small(size)) return stacks_.take_large(size);
    if (c != nullptr) return c->stacks.take(stacks_, stack_pool::order_of(size));
    void* p = nullptr;  // the thread has ended
    (void)stacks_.take(stack_pool::order_of(size), &p, 1);
    return p;
  };
  void* p = attempt();
  if (p == nullptr) {
    reclaim(c);
    p = attempt();
  }
  if (p != nullptr) stacks_.begin_use(p, size);
  return p;
}

void host_heap::release_stack(void* p, std::size_t bytes) noexcept {
  const std::size_t size = stack_pool::rounded(bytes);
  stacks_.end_use(p, size);
  if (!stack_pool::is_small(size)) return stacks_.give_large(p, size);
  const unsigned order = stack_pool::order_of(size);
  mcache* const c = cache();
  const mcache::call guard(c);
  c != nullptr ? c->stacks.give(stacks_, order, p) : stacks_.give(order, &p, 1);
}

std::byte* host_heap::take_region_chunk(std::size_t pages) noexcept {
  mcache* const c = cache();
  const mcache::call guard(c);
  std::byte* p = regions_.take(pages);
  if (p == nullptr) {
    reclaim(c);
    p = regions_.take(pages);
  }
  return p;
}

void host_heap::scavenge_step() {
  const auto start = scavenge_pacer::clock::now();
  const std::size_t pages = pacer_.due(start, pages_.take_window_peak(), pages_.committed_pages());
  if (pages == 0) return;
  const std::size_t released = pages_.scavenge(scavenge_cause::background, pages);
  pacer_.done(start, scavenge_pacer::clock::now(), released);
}

}  // namespace warpheap
