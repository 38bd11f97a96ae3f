// All forms of operator new and delete, over the heap of the process.
#include <new>

#include <warpheap/bits.hpp>

#include "host/malloc/cxx_runtime.hpp"
#include "host/malloc/entry_check.hpp"
#include "host/malloc/malloc.hpp"

namespace {

using namespace warpheap;

void* try_new(std::size_t n, std::size_t align) {
  const entry_check check;
  return process_aligned_alloc(align, n);
}

/// As the standard requires: calls the new-handler until it helps, gives up or throws.
[[gnu::noinline]] void* new_or_throw(std::size_t n, std::size_t align) {
  for (;;) {
    if (void* p = try_new(n, align); p != nullptr) [[likely]]
      return p;
    const std::new_handler handler = cxx_runtime::new_handler();
    if (handler == nullptr) cxx_runtime::throw_bad_alloc();
    handler();
  }
}

[[gnu::noinline]] void* new_object_slow(std::size_t n) { return new_or_throw(n, 1); }

[[gnu::noinline]] void* new_object_more(std::size_t n, mcache& c, std::size_t size_class) {
  {
    const entry_check check;
    if (void* p = c.take_more(static_cast<unsigned>(size_class), contents::no_pointers);
        p != nullptr) [[likely]]
      return p;
  }
  return new_or_throw(n, 1);
}

[[gnu::noinline]] void* new_object_next(std::size_t n, mcache& c, std::size_t size_class) {
  void* p = c.take_next(static_cast<unsigned>(size_class), contents::no_pointers);
  return p != nullptr ? p : new_object_more(n, c, size_class);
}

[[gnu::noinline]] void* new_object_large(std::size_t n) {
  {
    const entry_check check;
    if (void* p = process_malloc_large(n); p != nullptr) return p;
  }
  return new_or_throw(n, 1);
}

void* new_object(std::size_t n) {
  return process_malloc_fast(n, new_object_next, new_object_slow, new_object_large);
}

void* new_or_null(std::size_t n) noexcept {
  void* p = try_new(n, 1);
  return p != nullptr || cxx_runtime::new_handler() == nullptr ? p : cxx_runtime::new_or_null(n);
}

/// An alignment that is no power of two is treated like a lack of memory.
bool is_alignment(std::align_val_t align) {
  return bits::is_power_of_two(static_cast<std::size_t>(align));
}

void* aligned_or_throw(std::size_t n, std::align_val_t align) {
  if (!is_alignment(align)) cxx_runtime::throw_bad_alloc();
  return new_or_throw(n, static_cast<std::size_t>(align));
}

void* aligned_or_null(std::size_t n, std::align_val_t align) noexcept {
  if (!is_alignment(align)) return nullptr;
  void* p = try_new(n, static_cast<std::size_t>(align));
  return p != nullptr || cxx_runtime::new_handler() == nullptr ? p
                                                               : cxx_runtime::new_or_null(n, align);
}

void drop(void* p) noexcept {
  const entry_check check;
  process_free(p);
}

}  // namespace

// clang-format off
WARPHEAP_EXPORT void* operator new(std::size_t n) { return new_object(n); }
WARPHEAP_EXPORT void* operator new[](std::size_t n) { return new_object(n); }
WARPHEAP_EXPORT void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return new_or_null(n); }
WARPHEAP_EXPORT void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return new_or_null(n); }
WARPHEAP_EXPORT void* operator new(std::size_t n, std::align_val_t a) { return aligned_or_throw(n, a); }
WARPHEAP_EXPORT void* operator new[](std::size_t n, std::align_val_t a) { return aligned_or_throw(n, a); }
WARPHEAP_EXPORT void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept { return aligned_or_null(n, a); }
WARPHEAP_EXPORT void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept { return aligned_or_null(n, a); }

WARPHEAP_EXPORT void operator delete(void* p) noexcept { drop(p); }
WARPHEAP_EXPORT void operator delete[](void* p) noexcept { drop(p); }
WARPHEAP_EXPORT void operator delete(void* p, const std::nothrow_t&) noexcept { drop(p); }
WARPHEAP_EXPORT void operator delete[](void* p, const std::nothrow_t&) noexcept { drop(p); }
WARPHEAP_EXPORT void operator delete(void* p, std::size_t) noexcept { drop(p); }
WARPHEAP_EXPORT void operator delete[](void* p, std::size_t) noexcept { drop(p); }
WARPHEAP_EXPORT void operator delete(void* p, std::align_val_t) noexcept { drop(p); }
WARPHEAP_EXPORT void operator delete[](void* p, std::align_val_t) noexcept { drop(p); }
WARPHEAP_EXPORT void operator delete(void* p, std::size_t, std::align_val_t) noexcept { drop(p); }
WARPHEAP_EXPORT void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { drop(p); }
WARPHEAP_EXPORT void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { drop(p); }
WARPHEAP_EXPORT void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { drop(p); }
// clang-format on
