#include "host/heap_registry.hpp"

#include <algorithm>
#include <cstddef>
#include <new>

namespace warpheap {

heap_registry& heap_registry::instance() {
  alignas(heap_registry) static std::byte memory[sizeof(heap_registry)];
  static heap_registry& r = *new (memory) heap_registry;
  return r;
}

std::uint64_t heap_registry::add(host_heap* heap) {
  if (!heaps.push_back({last_id_ + 1, heap})) throw std::bad_alloc();
  return ++last_id_;
}

void heap_registry::remove(std::uint64_t id) {
  heaps.erase_if([&](const entry& e) { return e.id == id; });
}

std::uint64_t heap_registry::renew(std::uint64_t id) {
  host_heap* const heap = find(id);
  remove(id);
  return add(heap);  // there is room: an entry was removed
}

host_heap* heap_registry::find(std::uint64_t id) const {
  const entry* e = std::lower_bound(heaps.begin(), heaps.end(), id,
                                    [](const entry& a, std::uint64_t b) { return a.id < b; });
  return e != heaps.end() && e->id == id ? e->heap : nullptr;
}

}  // namespace warpheap
