// The C functions on scratch stacks and regions.
#include <memory>
#include <warpheap/bits.hpp>
#include <warpheap/layout.hpp>
#include <warpheap/region.hpp>

#include "host/c_api/heap.hpp"

struct warpheap_region {
  warpheap_region(warpheap::heap& heap, warpheap::region_options options) : region(heap, options) {}
  warpheap::region region;
};

namespace {

using namespace warpheap;
using namespace warpheap::c_api;

bool bad_alignment(std::size_t alignment) {
  if (bits::is_power_of_two(alignment) && alignment <= page_size) return false;
  fail(EINVAL, "the alignment is no power of two up to 8 KiB");
  return true;
}

bool no_region(const warpheap_region* region) {
  if (region != nullptr) return false;
  fail(EINVAL, "the region is NULL");
  return true;
}

}  // namespace

extern "C" {

void* warpheap_acquire_stack(warpheap_heap* heap, size_t bytes, size_t alignment) {
  if (no_heap(heap) || bad_alignment(alignment)) return nullptr;
  void* p = heap->heap.acquire_stack(bytes, alignment);
  if (p == nullptr) fail(ENOMEM, "the heap has no memory for this stack");
  return p;
}

void warpheap_release_stack(warpheap_heap* heap, void* p, size_t bytes, size_t alignment) {
  if (no_heap(heap) || p == nullptr) return;
  if (warpheap_stack_size(bytes, alignment) != 0) heap->heap.release_stack(p, bytes, alignment);
}

size_t warpheap_stack_size(size_t bytes, size_t alignment) {
  if (bad_alignment(alignment)) return 0;
  const std::size_t size = heap::stack_size(bytes, alignment);
  if (size == 0) fail(EINVAL, "no stack has so many bytes");
  return size;
}

warpheap_region* warpheap_region_create(warpheap_heap* heap, size_t first_chunk_bytes,
                                        size_t largest_chunk_bytes) {
  if (no_heap(heap)) return nullptr;
  region_options options;
  if (first_chunk_bytes != 0) options.first_chunk_bytes = first_chunk_bytes;
  if (largest_chunk_bytes != 0) options.largest_chunk_bytes = largest_chunk_bytes;
  return guarded<warpheap_region*>(nullptr, ENOMEM,
                                   [&] { return new warpheap_region(heap->heap, options); });
}

void warpheap_region_destroy(warpheap_region* region) { delete region; }

void* warpheap_region_malloc(warpheap_region* region, size_t bytes, size_t alignment) {
  if (no_region(region) || bad_alignment(alignment)) return nullptr;
  void* p = region->region.malloc(bytes, alignment);
  if (p == nullptr) fail(ENOMEM, "the heap has no memory for this object of a region");
  return p;
}

void warpheap_region_clear(warpheap_region* region) {
  if (!no_region(region)) region->region.clear();
}

size_t warpheap_region_used_bytes(const warpheap_region* region) {
  return no_region(region) ? 0 : region->region.used_bytes();
}

size_t warpheap_region_chunk_bytes(const warpheap_region* region) {
  return no_region(region) ? 0 : region->region.chunk_bytes();
}

}  // extern "C"
