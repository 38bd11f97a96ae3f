// malloc and its family, as a library that is preloaded, or linked before the C library.
//
// What the standards leave open is done as in the GNU C library: malloc(0) gives a distinct object,
// realloc(p, 0) frees p and returns nullptr. A wrong pointer is reported and changes nothing, where
// that library aborts. Pointers from elsewhere count as wrong, such as those that the loader
// allocated before this library was there.
#include "host/malloc/malloc.hpp"

#include <unistd.h>
#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include <warpheap/bits.hpp>

#include "host/malloc/entry_check.hpp"
#include "host/malloc/process_heap.hpp"

namespace warpheap {

namespace {

/// Valid once there is a heap.
bool too_large(std::size_t n) { return n > max_small_size && n > process_heap::max_object(); }

/// For the first call, and for all calls where there are layers, which need the requested size
/// itself.
void* take_from_front(std::size_t align, std::size_t n, bool zeroed) {
  object_layer& front = process_heap::front();
  if (too_large(n)) return nullptr;
  n += n == 0;
  const std::size_t natural = n <= 8 ? 8 : 16;
  return front.take({n, std::max(align, natural), zeroed, contents::no_pointers});
}

}  // namespace

void* process_malloc(std::size_t n) {
  host_heap* const heap = process_heap::direct();
  if (heap == nullptr) [[unlikely]]
    return take_from_front(1, n, false);
  if (too_large(n)) [[unlikely]]
    return nullptr;
  void* p = heap->malloc(slot_request(n));
  // Not if the call needed no cache and the thread used another heap before.
  if (last_used.heap_id == heap->id()) [[likely]]
    last_used.direct = last_used.get();
  return p;
}

void* process_aligned_alloc(std::size_t align, std::size_t n) {
  host_heap* const heap = process_heap::direct();
  if (heap == nullptr) [[unlikely]]
    return take_from_front(align, n, false);
  if (too_large(n)) [[unlikely]]
    return nullptr;
  const std::size_t request = slot_request(n);
  if (align <= (n <= 8 ? 8 : 16)) return heap->malloc(request);
  void* p = host_heap::aligned_fast(align, request, contents::no_pointers, heap->id());
  return p != nullptr ? p : heap->aligned_alloc(align, request);
}

void process_free_slow(void* p) {
  if (p == nullptr) return;
  host_heap* const heap = process_heap::direct();
  const free_status status = heap != nullptr ? heap->free_slow(p) : process_heap::front().free(p);
  if (status != free_status::ok) [[unlikely]]
    process_heap::report(status, p);
}

}  // namespace warpheap

using namespace warpheap;

namespace {

void* or_no_memory(void* p) {
  if (p == nullptr) [[unlikely]]
    errno = ENOMEM;
  return p;
}

[[gnu::noinline]] void* malloc_slow(std::size_t n) { return or_no_memory(process_malloc(n)); }

[[gnu::noinline]] void* malloc_more(std::size_t n, mcache& c, std::size_t size_class) {
  void* p = c.take_more(static_cast<unsigned>(size_class), contents::no_pointers);
  return p != nullptr ? p : malloc_slow(n);
}

[[gnu::noinline]] void* malloc_next(std::size_t n, mcache& c, std::size_t size_class) {
  void* p = c.take_next(static_cast<unsigned>(size_class), contents::no_pointers);
  return p != nullptr ? p : malloc_more(n, c, size_class);
}

[[gnu::noinline]] void* malloc_large(std::size_t n) {
  if (void* p = process_malloc_large(n); p != nullptr) return p;
  return or_no_memory(process_malloc(n));
}

/// An aligned object; EINVAL if the alignment is no power of two.
void* aligned(std::size_t align, std::size_t n) {
  if (!bits::is_power_of_two(align)) {
    errno = EINVAL;
    return nullptr;
  }
  return or_no_memory(process_aligned_alloc(align, n));
}

std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

std::size_t usable_size(const void* p) {
  const mspan* const own = host_heap::own_span_of(p, process_heap::direct_view());
  if (own != nullptr) return own->elemsize();
  host_heap* const heap = process_heap::direct();
  return heap != nullptr ? heap->usable_size(p) : process_heap::front().usable_size(p);
}

void* take(std::size_t n) { return process_malloc_fast(n, malloc_next, malloc_slow, malloc_large); }

void* changed(void* p, std::size_t n) {
  const std::size_t old = usable_size(p);
  if (old == 0) {
    // Its heap and size are unknown. Freeing it reports what is wrong, and changes nothing.
    process_free(p);
    errno = EINVAL;
    return nullptr;
  }
  // Layers know the number of bytes that were requested.
  host_heap* const heap = process_heap::direct();
  if (too_large(n)) return or_no_memory(nullptr);
  if (heap != nullptr ? heap->resize(p, old, n) : n == old) return p;
  void* moved = heap != nullptr
                    ? or_no_memory(heap->malloc_moved(old, slot_request(n), contents::no_pointers))
                    : take(n);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, p, std::min(old, n));
  process_free(p);
  return moved;
}

}  // namespace

extern "C" {

WARPHEAP_EXPORT void* malloc(std::size_t n) {
  const entry_check check;
  return take(n);
}

WARPHEAP_EXPORT void* calloc(std::size_t count, std::size_t size) {
  const entry_check check;
  if (bits::mul_overflows(count, size)) return or_no_memory(nullptr);
  const std::size_t n = count * size;
  host_heap* const heap = process_heap::direct();
  if (heap == nullptr) [[unlikely]]
    return or_no_memory(take_from_front(1, n, true));
  if (too_large(n)) return or_no_memory(nullptr);
  const std::size_t request = slot_request(n);
  void* p = host_heap::calloc_fast(request, contents::no_pointers, heap->id());
  return p != nullptr ? p : or_no_memory(heap->calloc(1, request));
}

WARPHEAP_EXPORT void free(void* p) {
  const entry_check check;
  process_free(p);
}

WARPHEAP_EXPORT void* realloc(void* p, std::size_t n) {
  const entry_check check;
  if (p == nullptr) return take(n);
  if (n == 0) {
    process_free(p);
    return nullptr;
  }
  return changed(p, n);
}

WARPHEAP_EXPORT void* reallocarray(void* p, std::size_t count, std::size_t size) {
  if (bits::mul_overflows(count, size)) return or_no_memory(nullptr);
  return realloc(p, count * size);
}

// Rounds an alignment up to a power of two. aligned_alloc refuses one that is none, as C17 has it.
WARPHEAP_EXPORT void* memalign(std::size_t align, std::size_t n) {
  const entry_check check;
  constexpr std::size_t most = ~(SIZE_MAX >> 1);
  return aligned(align <= most ? std::bit_ceil(align) : align, n);
}

WARPHEAP_EXPORT void* aligned_alloc(std::size_t align, std::size_t n) {
  const entry_check check;
  return aligned(align, n);
}

WARPHEAP_EXPORT int posix_memalign(void** p, std::size_t align, std::size_t n) {
  const entry_check check;
  if (!bits::is_power_of_two(align) || align % sizeof(void*) != 0) return EINVAL;
  void* made = process_aligned_alloc(align, n);
  if (made == nullptr) return ENOMEM;
  *p = made;
  return 0;
}

WARPHEAP_EXPORT void* valloc(std::size_t n) {
  const entry_check check;
  return aligned(page_bytes(), n);
}

WARPHEAP_EXPORT void* pvalloc(std::size_t n) {
  const entry_check check;
  const std::size_t page = page_bytes();
  if (n > static_cast<std::size_t>(PTRDIFF_MAX)) return or_no_memory(nullptr);
  return aligned(page, bits::align_up(n, page));
}

WARPHEAP_EXPORT std::size_t malloc_usable_size(void* p) {
  const entry_check check;
  return usable_size(p);
}

WARPHEAP_EXPORT int malloc_trim(std::size_t) {
  const entry_check check;
  return process_heap::trim() != 0;
}

}  // extern "C"
