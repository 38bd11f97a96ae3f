// The C functions for kernels: the heap as they see it, and the events of observed ones.
#include <type_traits>

#include <warpheap/heap_view.hpp>
#include <warpheap/observation.hpp>

#include "host/c_api/heap.hpp"

namespace {

using namespace warpheap;
using namespace warpheap::c_api;

static_assert(
    std::is_trivially_copyable_v<heap_view> && sizeof(heap_view) <= sizeof(warpheap_device)
    && alignof(heap_view) <= alignof(warpheap_device));
static_assert(static_cast<int>(device_op::malloc) == WARPHEAP_OP_MALLOC
              && static_cast<int>(device_op::free) == WARPHEAP_OP_FREE
              && static_cast<int>(device_op::resize) == WARPHEAP_OP_RESIZE
              && static_cast<int>(device_op::failure) == WARPHEAP_OP_FAILURE);

}  // namespace

extern "C" {

int warpheap_get_device(const warpheap_heap* heap, warpheap_device* device) {
  if (no_heap(heap)) return -1;
  if (device == nullptr) {
    fail(EINVAL, "the device is NULL");
    return -1;
  }
  return guarded(-1, ENOTSUP, [&] {
    const heap_view view = heap->heap.device();
    *device = {};
    std::memcpy(device, &view, sizeof view);
    return 0;
  });
}

size_t warpheap_take_device_events(warpheap_heap* heap, warpheap_device_event* list,
                                   size_t capacity, uint64_t* lost) {
  if (no_heap(heap)) return 0;
  if (list == nullptr) {
    fail(EINVAL, "the list is NULL");
    return 0;
  }
  return guarded(std::size_t{0}, EIO, [&] {
    device_events& waiting = heap->events;
    const device_events recent = heap->heap.take_device_events();
    waiting.events.insert(waiting.events.end(), recent.events.begin(), recent.events.end());
    waiting.lost += recent.lost;
    const std::size_t n = std::min(capacity, waiting.events.size());
    for (std::size_t i = 0; i < n; ++i) {
      const device_event& e = waiting.events[i];
      list[i] = {e.address, e.bytes,      e.clock_ns, e.warp, static_cast<std::uint8_t>(e.op),
                 e.cls,     e.log2_align, 0};
    }
    waiting.events.erase(waiting.events.begin(),
                         waiting.events.begin() + static_cast<std::ptrdiff_t>(n));
    if (lost != nullptr) *lost = std::exchange(waiting.lost, 0);
    return n;
  });
}

}  // extern "C"
