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

constexpr std::size_t zone = 16;  // behind each object, so that the next one is not touched at once

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

/// The memory is the heap's again, which may lend it to kernels.
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
  if (!objects_.put(p, {r.bytes, block_bytes, true})) {
    (void)below().free(p);
    return nullptr;
  }
  note_alloc(p, r.bytes, block_bytes, r.zeroed);
  return p;
}

free_status annotate_layer::free(void* p) {
  record o{};
  const free_status status = objects_.change(p, free_status::not_allocated, [&](record& known) {
    if (!known.live) return free_status::double_free;
    o = known;
    known.live = false;
    return free_status::ok;
  });
  if (status == free_status::not_allocated) return below().free(p);
  if (status != free_status::ok) return status;
  note_free(p, o.bytes);
  held_.hold({p, o.block_bytes}, [&](const held_back::object& old) { let_go(old); });
  return free_status::ok;
}

void annotate_layer::let_go(const held_back::object& o) {
  (void)objects_.take(o.p);
  note_reuse(o.p, o.bytes);
  (void)below().free(o.p);
}

std::size_t annotate_layer::usable_size(const void* p) {
  const auto o = objects_.get(p);
  if (!o) return below().usable_size(p);
  return o->live ? o->bytes : 0;
}

void annotate_layer::drain() {
  held_.empty([&](const held_back::object& o) { let_go(o); });
  below().drain();
}

void annotate_layer::forget() {
  held_.clear();
  objects_.for_each([&](const void* p, record& o) {
    if (o.live) note_free(const_cast<void*>(p), o.bytes);
    note_reuse(const_cast<void*>(p), o.block_bytes);
  });
  objects_.clear();
  below().forget();
}

void annotate_layer::lock() {
  held_.lock();
  objects_.lock();
  below().lock();
}
void annotate_layer::unlock() {
  below().unlock();
  objects_.unlock();
  held_.unlock();
}

}  // namespace warpheap
