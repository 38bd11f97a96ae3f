#include "host/layers/annotate.hpp"

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define WARPHEAP_HAVE_VALGRIND 1
#endif

// The tools' own functions; null in a program without the tool.
extern "C" {
[[gnu::weak]] void __asan_poison_memory_region(const volatile void*, std::size_t);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void*, std::size_t);
[[gnu::weak]] void __tsan_write_range(void*, std::size_t);
}

namespace warpheap {

namespace {

constexpr std::size_t zone = 16;  // behind each object, so that overruns do not hit the next one

void note_alloc(void* p, std::size_t bytes, std::size_t block_bytes, bool zeroed) {
  auto* const end = static_cast<std::byte*>(p) + bytes;
  if (__asan_poison_memory_region != nullptr) __asan_poison_memory_region(end, block_bytes - bytes);
#ifdef WARPHEAP_HAVE_VALGRIND
  VALGRIND_MALLOCLIKE_BLOCK(p, bytes, 0, zeroed);
  (void)VALGRIND_MAKE_MEM_NOACCESS(end, block_bytes - bytes);
#else
  (void)zeroed;
#endif
}

void note_free(void* p, std::size_t bytes) {
  if (__tsan_write_range != nullptr) __tsan_write_range(p, bytes);
  if (__asan_poison_memory_region != nullptr) __asan_poison_memory_region(p, bytes);
#ifdef WARPHEAP_HAVE_VALGRIND
  VALGRIND_FREELIKE_BLOCK(p, 0);
#endif
}

/// The memory belongs to the heap again, which may lend it to kernels.
void note_reuse(void* p, std::size_t block_bytes) {
  if (__asan_unpoison_memory_region != nullptr) __asan_unpoison_memory_region(p, block_bytes);
#ifdef WARPHEAP_HAVE_VALGRIND
  (void)VALGRIND_MAKE_MEM_UNDEFINED(p, block_bytes);
#endif
}

}  // namespace

void* annotate_layer::take(const object_request& r) {
  if (r.bytes == 0) return below().take(r);
  object_request longer = r;
  longer.bytes = r.bytes + zone;
  if (longer.bytes < r.bytes) return nullptr;
  void* p = below().take(longer);
  if (p == nullptr) return nullptr;
  const std::size_t block_bytes = below().usable_size(p);
  if (track(p, {r.bytes, block_bytes}, p) == nullptr) return nullptr;
  note_alloc(p, r.bytes, block_bytes, r.zeroed);
  return p;
}

free_status annotate_layer::free_live(void* p, const annotated_object& o) {
  note_free(p, o.bytes);
  hold({p, o.block_bytes});
  return free_status::ok;
}

void annotate_layer::let_go(const held_back::object& o) {
  (void)objects_.take(o.p);
  note_reuse(o.p, o.bytes);
  (void)below().free(o.p);
}

void annotate_layer::forget() {
  objects_.for_each([&](const void* p, annotated_object& o) {
    if (o.live) note_free(const_cast<void*>(p), o.bytes);
    note_reuse(const_cast<void*>(p), o.block_bytes);
  });
  delaying_layer::forget();
}

}  // namespace warpheap
