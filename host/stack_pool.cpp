#include "host/stack_pool.hpp"

namespace warpheap {

namespace {

/// Takes the lowest free stack of a span that has one.
void* take_one(mspan* s) {
  if (!s->enter()) fatal("stack pool: a span in the list has no free stack");
  void* p = s->take();
  s->leave();
  return p;
}

unsigned log2_pages(std::size_t size) {
  return static_cast<unsigned>(bits::countr_zero(static_cast<std::uint64_t>(size / page_size)));
}

}  // namespace

unsigned stack_pool::take(unsigned order, void** stacks, unsigned n) {
  pool& p = pools_[order];
  const std::scoped_lock lock(p.mutex);
  unsigned taken = 0;
  while (taken < n) {
    mspan* s = p.partial.first();
    if (s == nullptr) {
      s = heap_->alloc_manual(cache_bytes / page_size, manual_use::stacks);
      if (s == nullptr) break;
      s->set_slots(s->base(), s->npages(), size_of(order),
                   static_cast<unsigned>(cache_bytes / size_of(order)));
      s->free_all();
      p.partial.insert_back(s);
      sys_.fetch_add(cache_bytes, std::memory_order_relaxed);
    }
    stacks[taken++] = take_one(s);
    if (s->count_free() == 0) p.partial.remove(s);
  }
  return taken;
}

void stack_pool::give(unsigned order, void* const* stacks, unsigned n) {
  if (n == 0) return;
  pool& p = pools_[order];
  const std::scoped_lock lock(p.mutex);
  for (unsigned i = 0; i < n; ++i) {
    mspan* s = heap_->owner_at(stacks[i]).manual_span();
    const bool was_full = s->count_free() == 0;
    const auto offset = static_cast<std::size_t>(static_cast<std::byte*>(stacks[i]) - s->base());
    if (!s->free_own_slot(static_cast<unsigned>(offset / s->elemsize())))
      fatal("a scratch stack was released twice");
    if (was_full) p.partial.insert_front(s);
    if (s->count_free() == s->nelems()) {
      p.partial.remove(s);
      heap_->free_manual(s, manual_use::stacks);
      sys_.fetch_sub(cache_bytes, std::memory_order_relaxed);
    }
  }
}

void* stack_pool::take_large(std::size_t size) {
  const unsigned log2 = log2_pages(size);
  mspan* s = nullptr;
  {
    const std::scoped_lock lock(large_.mutex);
    s = large_.free[log2].pop_front();
    if (s != nullptr) large_.bytes -= size;
  }
  if (s == nullptr) {
    s = heap_->alloc_manual(size / page_size, manual_use::stacks);
    if (s == nullptr) return nullptr;
    const std::scoped_lock lock(large_.mutex);
    sys_.fetch_add(size, std::memory_order_relaxed);
  }
  s->take_large();
  return s->base();
}

void stack_pool::give_large(void* p, std::size_t size) {
  mspan* s = heap_->owner_at(p).manual_span();
  if (s->free_large()) fatal("a scratch stack was released twice");
  const std::scoped_lock lock(large_.mutex);
  if (large_.bytes + size <= max_kept_bytes) {
    large_.bytes += size;
    large_.free[log2_pages(size)].insert_front(s);
    return;
  }
  heap_->free_manual(s, manual_use::stacks);
  sys_.fetch_sub(size, std::memory_order_relaxed);
}

std::size_t stack_pool::release() {
  const std::scoped_lock lock(large_.mutex);
  const std::size_t bytes = large_.bytes;
  for (span_list& list : large_.free) {
    while (mspan* s = list.pop_front()) heap_->free_manual(s, manual_use::stacks);
  }
  large_.bytes = 0;
  sys_.fetch_sub(bytes, std::memory_order_relaxed);
  return bytes;
}

void stack_pool::begin_use(void* p, std::size_t size) {
  const std::size_t page = heap_->page_number(p);
  const std::size_t part = reinterpret_cast<std::uintptr_t>(p) % page_size / smallest;
  page_owner seen = heap_->owner(page);
  while (!heap_->exchange_owner(page, seen, seen.with_part(part))) {
  }
  // Relaxed: stats reads it under the locks, which order it after the coming of the pages.
  inuse_.fetch_add(size, std::memory_order_relaxed);
}

void stack_pool::end_use(void* p, std::size_t size) {
  const std::size_t page = heap_->page_number(p);
  if (page == mheap::no_page) fatal("what is released is no scratch stack of this heap");
  const std::size_t part = reinterpret_cast<std::uintptr_t>(p) % page_size / smallest;
  page_owner seen = heap_->owner(page);
  do {
    const mspan* s = seen.is_manual() ? seen.manual_span() : nullptr;
    if (s == nullptr || s->elemsize() != size
        || static_cast<std::size_t>(static_cast<std::byte*>(p) - s->base()) % size != 0) {
      fatal("what is released is no scratch stack of this size");
    }
    // The chunk of a region has no such bit either.
    if (!seen.has_part(part)) fatal("what is released is no scratch stack that is in use");
    // Of two concurrent releases, one finds the bit gone.
  } while (!heap_->exchange_owner(page, seen, seen.without_part(part)));
  inuse_.fetch_sub(size, std::memory_order_relaxed);
}

stack_pool_stats stack_pool::stats() const {
  stack_pool_stats st;
  // Under the locks no pages come or go. A stack counts as in use only while its pages are counted,
  // so the bytes in use are part of the pages' at any moment.
  lock();
  st.sys_bytes = sys_.load(std::memory_order_relaxed);
  st.inuse_bytes = inuse_bytes();
  unlock();
  st.idle_bytes = st.sys_bytes - st.inuse_bytes;
  return st;
}

void stack_pool::lock() const {
  for (const pool& p : pools_) p.mutex.lock();
  large_.mutex.lock();
}

void stack_pool::unlock() const {
  large_.mutex.unlock();
  for (const pool& p : pools_) p.mutex.unlock();
}

}  // namespace warpheap
