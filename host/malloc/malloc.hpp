#pragma once

// What malloc's family and operator new have in common.

#include <cstddef>

#include "host/malloc/process_heap.hpp"

#define WARPHEAP_EXPORT [[gnu::visibility("default")]]

namespace warpheap {

/// As malloc, without errno, of an object in this thread's cache; else nullptr.
inline void* process_malloc_fast(std::size_t n) {
  return host_heap::with_last_cache(process_heap::direct_id(), [n](mcache& c) -> void* {
    if (n <= detail::fine_limit) [[likely]]
      return c.take(slot_classes[(n + 7) >> 3], contents::no_pointers);
    return n <= max_small_size ? c.take_coarse(size_to_class(n), contents::no_pointers) : nullptr;
  });
}
/// As malloc, without errno.
[[gnu::noinline]] void* process_malloc(std::size_t n);
/// n bytes at a multiple of align, a power of two; without errno.
void* process_aligned_alloc(std::size_t align, std::size_t n);
/// As free. errno stays as it is.
[[gnu::noinline]] void process_free_slow(void* p);
inline void process_free(void* p) {
  if (host_heap::free_fast(p, process_heap::direct_view()) != host_heap::fast_free::done)
      [[unlikely]]
    process_free_slow(p);
}

}  // namespace warpheap
