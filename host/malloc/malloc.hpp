#pragma once

// What malloc's family and operator new have in common.

#include <cstddef>

#include "host/malloc/process_heap.hpp"

#define WARPHEAP_EXPORT [[gnu::visibility("default")]]

namespace warpheap {

/// As malloc, without errno, of a slot that is ready in this thread's cache; else otherwise(n), or
/// large(n) of an object larger than slots. Calls nothing but as its last act, or else it would
/// save registers for all callers.
template <class F, class G>
void* process_malloc_fast(std::size_t n, F&& otherwise, G&& large) {
  const auto take = [](unsigned size_class) -> void* {
    mcache* const c = last_used.direct;
    return c != nullptr ? c->take(size_class, contents::no_pointers) : nullptr;
  };
  void* p = nullptr;
  if (n <= detail::fine_limit) [[likely]]
    p = take(slot_classes[(n + 7) >> 3]);
  else if (n <= max_small_size)
    p = take(size_to_class(n));
  else
    return large(n);
  return p != nullptr ? p : otherwise(n);
}
/// What the above leaves over and this thread's cache has, or takes from the heap; else nullptr.
inline void* process_malloc_more(std::size_t n) {
  mcache* const c = last_used.direct;
  if (n > max_small_size || c == nullptr) return nullptr;
  const unsigned size_class =
      n <= detail::fine_limit ? slot_classes[(n + 7) >> 3] : size_to_class(n);
  return c->take_more(size_class, contents::no_pointers);
}
/// A large object whose span this thread's cache has kept; else nullptr.
inline void* process_malloc_large(std::size_t n) {
  mcache* const c = last_used.direct;
  return c != nullptr ? c->take_kept_large(n, contents::no_pointers) : nullptr;
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
