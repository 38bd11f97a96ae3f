// Allocation when host_heap::malloc_fast found no slot: small, tiny and large objects, zeroed and
// aligned ones.
#include <algorithm>
#include <cstring>

#include <warpheap/bits.hpp>

#include "host/host_heap.hpp"

namespace warpheap {

namespace {

/// Objects of 8 bytes are packed as densely in slots of their own, and need no mask there.
bool is_tiny(std::size_t n, contents kind) {
  return n < tiny_size && n != 8 && kind == contents::no_pointers;
}

}  // namespace

/// f(c), marked as a slow path: a nested call would find half-changed lists.
template <class F>
void* host_heap::call(mcache& c, F&& f) {
  const mcache::call guard(c);
  return f(c);
}

/// f(cache of this thread); a thread that has already ended gets one for this call only.
template <class F>
void* host_heap::with_cache(F&& f) {
  central_.check_no_bulk();
  if (mcache* c = cache(); c != nullptr) [[likely]]
    return call(*c, f);
  mcache* c = add_cache(nullptr);
  if (c == nullptr) return nullptr;
  void* p = call(*c, f);
  flush(*c);
  drop_cache(c);
  return p;
}

/// attempt(), and if that fails, once more after everything unused was given back to the heap.
template <class F>
auto host_heap::or_reclaim(mcache& c, F&& attempt) {
  auto p = attempt();
  if (p == nullptr) [[unlikely]] {
    reclaim(&c);
    p = attempt();
    if (p == nullptr) c.counters.out_of_memory.add(1);
  }
  return p;
}

/// is_zero: if not null, set to whether the object's memory reads as zero.
void* host_heap::alloc_class(mcache& c, unsigned size_class, contents kind, bool* is_zero) {
  const unsigned sc = make_span_class(size_class, kind == contents::no_pointers);
  bool fresh = false;
  void* p = c.alloc(sc, fresh);
  if (p == nullptr) [[unlikely]]
    p = or_reclaim(c, [&] {
      // The spans taken here hold live objects: they yield no pages, and help only this class.
      central_[sc].take_marked();
      return c.alloc(sc, fresh);
    });
  if (is_zero != nullptr) *is_zero = fresh;
  if (p != nullptr) c.counters.mallocs[size_class].increment();
  return p;
}

mspan* host_heap::alloc_large(mcache& c, std::size_t n, std::size_t align_pages, contents kind) {
  const std::size_t npages = bits::ceil_div(n, page_size);
  const unsigned span_class = make_span_class(0, kind == contents::no_pointers);
  if (npages > pages_.most_bytes() / page_size) {
    // No sweep and no trim could make room for it.
    c.counters.out_of_memory.add(1);
    return nullptr;
  }
  mspan* s = align_pages == 1 ? c.take_large(npages, span_class) : nullptr;
  if (s == nullptr) {
    central_.pay_for(npages);
    c.give_kept(npages);
    s = or_reclaim(c,
                   [&] { return pages_.alloc_large(npages, align_pages, span_class, c.stock()); });
    if (s == nullptr) return nullptr;
    central_[span_class].add_full(s);
  }
  c.note_large(*s);
  return s;
}

void* host_heap::malloc_to_grow(std::size_t old, std::size_t n, contents kind) {
  return with_cache([&](mcache& c) -> void* {
    // If there is no room for the larger slot, there may still be for n bytes.
    const unsigned size_class = size_to_class(std::min(old + old / 4, max_small_size));
    void* p = c.alloc(make_span_class(size_class, kind == contents::no_pointers));
    if (p == nullptr) return alloc(c, n, kind);
    c.counters.mallocs[size_class].increment();
    return p;
  });
}

bool host_heap::resize_large(void* p, std::size_t n) {
  mcache* const c = cache();
  if (c == nullptr || n > pages_.most_bytes()) return false;
  central_.check_no_bulk();
  const mcache::call guard(*c);
  const live_object object = find_live(p, false);
  mspan* const s = object.span;
  if (s == nullptr || s->size_class() != 0) return false;
  const std::size_t was = s->npages();
  const std::size_t npages = n / page_size + (n % page_size != 0);
  if (npages > was) {
    // What the cache keeps stays there: it is seldom what lies behind the object.
    central_.pay_for(npages - was);
    if (!pages_.grow_large(s, npages)) return false;
    c->counters.large_bytes_taken.add((npages - was) * page_size);
  } else if (npages < was) {
    pages_.shrink_large(s, npages);
    c->counters.large_bytes_freed.add((was - npages) * page_size);
  }
  // As if it had moved: for marks it makes no difference whether it did.
  if (central_.marks.is_on()) [[unlikely]]
    central_.marks.note_large_birth(*s);
  return true;
}

void* host_heap::alloc(mcache& c, std::size_t n, contents kind) {
  if (is_tiny(n, kind)) {
    return or_reclaim(c, [&] { return c.alloc_tiny(static_cast<unsigned>(n)); });
  }
  if (n <= max_small_size) return alloc_class(c, size_to_class(n), kind);
  mspan* s = alloc_large(c, n, 1, kind);
  return s == nullptr ? nullptr : s->base();
}

void* host_heap::malloc_slow(std::size_t n, contents kind) noexcept {
  if (last_used.heap_id == id_) [[likely]] {
    mcache* c = last_used.get();
    void* p = nullptr;
    if (n - 1 >= tiny_size - 1 || kind == contents::pointers || n == 8) {
      if (n - 1 < max_small_size) {
        const unsigned size_class = size_to_class(n);
        p = c->take(size_class, kind);
        if (p == nullptr) p = c->take_next(size_class, kind);
        if (p == nullptr) p = c->take_more(size_class, kind);
      } else {
        p = c->take_kept_large(n, kind);
      }
    } else {
      p = c->take_tiny(static_cast<unsigned>(n));
      if (p == nullptr) {
        const mcache::call guard(*c);
        p = c->alloc_tiny_block(static_cast<unsigned>(n));
      }
    }
    if (p != nullptr) [[likely]]
      return p;
  }
  return malloc_any(n, kind);
}

void* host_heap::malloc_any(std::size_t n, contents kind) noexcept {
  if (n == 0) return base();
  return with_cache([&](mcache& c) { return alloc(c, n, kind); });
}

void* host_heap::calloc(std::size_t n, std::size_t m, contents kind) {
  return with_cache([&](mcache& c) -> void* {
    if (bits::mul_overflows(n, m)) {
      c.counters.refused.add(1);
      return nullptr;
    }
    const std::size_t bytes = n * m;
    if (bytes == 0) return base();
    // Memory that was never used is not touched.
    bool is_zero = false;
    void* p = nullptr;
    if (bytes > max_small_size) {
      mspan* const s = alloc_large(c, bytes, 1, kind);
      if (s == nullptr) return nullptr;
      p = s->base();
      is_zero = !s->needzero;
    } else if (is_tiny(bytes, kind)) {
      p = alloc(c, bytes, kind);
    } else {
      p = alloc_class(c, size_to_class(bytes), kind, &is_zero);
    }
    if (p == nullptr || is_zero) return p;
    c.counters.cleared_bytes.add(bytes);
    return std::memset(p, 0, bytes);
  });
}

void* host_heap::aligned_alloc(std::size_t align, std::size_t n, contents kind) {
  return with_cache([&](mcache& c) -> void* {
    if (!bits::is_power_of_two(align)) {
      c.counters.refused.add(1);
      return nullptr;
    }
    if (n == 0) {
      if (reinterpret_cast<std::uintptr_t>(base()) % align == 0) return base();
      n = 1;  // the object of size 0 is less aligned
    }
    if (n > pages_.most_bytes() || align > pages_.most_bytes()) {
      c.counters.out_of_memory.add(1);
      return nullptr;
    }
    const std::size_t rounded = bits::align_up(n, align);
    if (align > page_size || rounded > max_small_size) {
      mspan* s = alloc_large(c, n, align > page_size ? align / page_size : 1, kind);
      return s == nullptr ? nullptr : s->base();
    }
    if (rounded < tiny_size) return alloc(c, rounded, kind);
    return alloc_class(c, host_aligned_class(rounded, align), kind);
  });
}

}  // namespace warpheap
