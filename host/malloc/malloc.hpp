#pragma once

// What malloc's family and operator new share.

#include <cstddef>

#include "host/malloc/process_heap.hpp"

#define WARPHEAP_EXPORT [[gnu::visibility("default")]]

namespace warpheap {

/// Like malloc, without errno, from a slot that is ready in this thread's cache. Otherwise returns
/// next(n, cache, size class), or otherwise(n) without a cache, or large(n) for an object larger
/// than slots. Calls these only as its last act, or it would save registers for all callers.
template <class F, class G, class H>
void* process_malloc_fast(std::size_t n, F&& next, G&& otherwise, H&& large) {
  const auto take = [&](std::size_t size_class) -> void* {
    mcache* const c = last_used.direct;
    if (c == nullptr) [[unlikely]]
      return otherwise(n);
    void* p = c->take(static_cast<unsigned>(size_class), contents::no_pointers);
    return p != nullptr ? p : next(n, *c, size_class);
  };
  if (n <= detail::fine_limit) [[likely]]
    return take(slot_classes[(n + 7) >> 3]);
  return n <= max_small_size ? take(size_to_class(n)) : large(n);
}
/// A large object in a span that this thread's cache has kept; otherwise nullptr.
inline void* process_malloc_large(std::size_t n) {
  mcache* const c = last_used.direct;
  return c != nullptr ? c->take_kept_large(n, contents::no_pointers) : nullptr;
}
/// Like malloc, without errno.
[[gnu::noinline]] void* process_malloc(std::size_t n);
/// n bytes at a multiple of align, a power of two; without errno.
void* process_aligned_alloc(std::size_t align, std::size_t n);
/// Like free. errno stays as it is.
[[gnu::noinline]] void process_free_slow(void* p);
inline void process_free(void* p) {
  if (host_heap::free_fast(p, process_heap::direct_view()) != host_heap::fast_free::done)
      [[unlikely]]
    process_free_slow(p);
}

}  // namespace warpheap
