#include "host/host_heap.hpp"

#include <pthread.h>
#include <algorithm>
#include <cstring>
#include <new>

#include <warpheap/bits.hpp>

#include "host/thread_exit.hpp"

namespace warpheap {

namespace {

/// The heaps that exist, by id. A thread that ends asks here which of its caches' heaps still do.
/// Never destroyed: threads may end after static objects are gone.
struct heap_registry {
  std::mutex mutex;  // taken before all locks of a heap
  struct entry {
    std::uint64_t id;
    host_heap* heap;
  };
  sys_vector<entry> heaps;  // ids rise
  std::uint64_t last_id = 0;

  host_heap* find(std::uint64_t id) const {
    const entry* e = std::lower_bound(heaps.begin(), heaps.end(), id,
                                      [](const entry& a, std::uint64_t b) { return a.id < b; });
    return e != heaps.end() && e->id == id ? e->heap : nullptr;
  }
};

heap_registry& registry() {
  alignas(heap_registry) static std::byte memory[sizeof(heap_registry)];
  static heap_registry& r = *new (memory) heap_registry;
  return r;
}

std::uint64_t register_heap(host_heap* h) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, [] {
    pthread_atfork(host_heap::before_fork, host_heap::after_fork, host_heap::after_fork);
  });
  heap_registry& r = registry();
  const std::scoped_lock lock(r.mutex);
  if (!r.heaps.push_back({r.last_id + 1, h})) throw std::bad_alloc();
  return ++r.last_id;
}

}  // namespace

constinit thread_local last_cache last_used;

/// A thread's caches, one for each heap it used.
class thread_caches {
 public:
  /// nullptr when the system has no memory.
  static thread_caches* mine() {
    static constinit thread_local thread_caches* caches = nullptr;
    if (caches == nullptr) {
      void* p = sys_pool::alloc(sizeof(thread_caches));
      if (p == nullptr) return nullptr;
      caches = new (p) thread_caches;
      at_thread_exit(caches, [](void* ended) {
        caches = nullptr;
        static_cast<thread_caches*>(ended)->~thread_caches();
        sys_pool::free(ended, sizeof(thread_caches));
      });
    }
    return caches;
  }

  mcache* find(std::uint64_t heap_id) const {
    for (const auto& [id, cache] : entries_) {
      if (id == heap_id) return cache;
    }
    return nullptr;
  }

  /// Room for one entry more; heaps that are gone are forgotten.
  bool make_room() {
    heap_registry& r = registry();
    const std::scoped_lock lock(r.mutex);
    entries_.erase_if([&](const auto& e) { return r.find(e.heap_id) == nullptr; });
    return entries_.reserve(entries_.size() + 1);
  }
  void add(std::uint64_t heap_id, mcache* c) { (void)entries_.push_back({heap_id, c}); }

  ~thread_caches() {
    last_used = {0, nullptr, true};
    heap_registry& r = registry();
    // Held throughout: a heap does not go while its cache is given back to it.
    const std::scoped_lock lock(r.mutex);
    for (const auto& [id, cache] : entries_) {
      host_heap* const heap = r.find(id);
      if (heap == nullptr) continue;
      cache->flush();
      heap->drop_cache(cache);
    }
  }

 private:
  struct entry {
    std::uint64_t heap_id;
    mcache* cache;
  };
  sys_vector<entry> entries_;
};

host_heap::host_heap(std::byte* base, std::size_t reserve_bytes, const page_source& source)
    : pages_(base, reserve_bytes, source), central_(pages_), id_(register_heap(this)) {
  cache_alloc_.init(pages_.metadata(), sizeof(mcache), alignof(mcache), cache_sys_, nullptr,
                    nullptr, /*zero=*/false);
}

host_heap::~host_heap() {
  heap_registry& r = registry();
  const std::scoped_lock lock(r.mutex);
  r.heaps.erase_if([&](const heap_registry::entry& e) { return e.id == id_; });
}

void host_heap::before_fork() {
  heap_registry& r = registry();
  r.mutex.lock();
  for (const auto& [id, heap] : r.heaps) {
    heap->caches_mutex_.lock();
    heap->central_.lock();
    heap->pages_.lock();
  }
  sys_pool::lock();
}

// The other threads' caches stay as they are in the child: what was in them is lost to it, and what
// was handed out of them can be freed.
void host_heap::after_fork() {
  sys_pool::unlock();
  heap_registry& r = registry();
  for (const auto& [id, heap] : r.heaps) {
    heap->pages_.unlock();
    heap->central_.unlock();
    heap->caches_mutex_.unlock();
  }
  r.mutex.unlock();
}

// --- caches
// ---------------------------------------------------------------------------------------

mcache* host_heap::cache() {
  if (last_used.heap_id == id_) [[likely]]
    return last_used.cache;
  if (last_used.thread_ended) return nullptr;
  thread_caches* const mine = thread_caches::mine();
  if (mine == nullptr) return nullptr;
  mcache* c = mine->find(id_);
  if (c == nullptr) {
    if (!mine->make_room()) return nullptr;
    c = add_cache();
    if (c == nullptr) return nullptr;
    mine->add(id_, c);
  }
  last_used.heap_id = id_;
  last_used.cache = c;
  return c;
}

mcache* host_heap::add_cache() {
  const std::scoped_lock lock(caches_mutex_);
  if (!caches_.reserve(caches_.size() + 1)) return nullptr;
  void* p = cache_alloc_.alloc();
  if (p == nullptr) return nullptr;
  auto* c = new (p) mcache(pages_, central_);
  (void)caches_.push_back(c);
  return c;
}

void host_heap::drop_cache(mcache* c) {
  const std::scoped_lock lock(caches_mutex_);
  retired_.add(c->counters);
  caches_.erase_if([&](const mcache* other) { return other == c; });
  c->~mcache();
  cache_alloc_.free(c);
}

/// f(cache of this thread); a thread that has ended already has one for this call only.
template <class F>
void* host_heap::with_cache(F&& f) {
  if (mcache* c = cache(); c != nullptr) [[likely]]
    return f(*c);
  mcache* c = add_cache();
  if (c == nullptr) return nullptr;
  void* p = f(*c);
  c->flush();
  drop_cache(c);
  return p;
}

// --- allocation
// -----------------------------------------------------------------------------------

/// attempt(), and once more after everything unused went back to the heap.
template <class F>
auto host_heap::or_reclaim(mcache& c, F&& attempt) {
  auto p = attempt();
  if (p == nullptr) [[unlikely]] {
    c.flush();
    for (unsigned sc = 0; sc < host_span_classes; ++sc) central_[sc].release_empty();
    p = attempt();
    if (p == nullptr) c.counters.out_of_memory.add(1);
  }
  return p;
}

void* host_heap::alloc_class(mcache& c, unsigned size_class, contents kind) {
  const unsigned sc = make_span_class(size_class, kind == contents::no_pointers);
  void* p = c.alloc(sc);
  if (p == nullptr) [[unlikely]]
    p = or_reclaim(c, [&] { return c.alloc(sc); });
  if (p != nullptr) c.counters.mallocs[size_class].increment();
  return p;
}

mspan* host_heap::alloc_large(mcache& c, std::size_t n, std::size_t align_pages, contents kind) {
  const std::size_t npages = bits::ceil_div(n, page_size);
  const unsigned span_class = make_span_class(0, kind == contents::no_pointers);
  mspan* s = align_pages == 1 ? c.take_large(npages, span_class) : nullptr;
  if (s == nullptr) {
    s = or_reclaim(c,
                   [&] { return pages_.alloc_large(npages, align_pages, span_class, c.stock()); });
  }
  if (s == nullptr) return nullptr;
  c.counters.mallocs[0].add(1);
  c.counters.large_bytes_taken.add(s->elemsize());
  return s;
}

void* host_heap::alloc(mcache& c, std::size_t n, contents kind) {
  // 8 bytes lie as densely in slots of their own, and need no mask.
  if (n < tiny_size && n != 8 && kind == contents::no_pointers) {
    return or_reclaim(c, [&] { return c.alloc_tiny(static_cast<unsigned>(n)); });
  }
  if (n <= max_small_size) return alloc_class(c, size_to_class(n), kind);
  mspan* s = alloc_large(c, n, 1, kind);
  return s == nullptr ? nullptr : s->base();
}

void* host_heap::malloc_slow(std::size_t n, contents kind) noexcept {
  if (last_used.heap_id == id_) [[likely]] {
    mcache* c = last_used.cache;
    void* p = nullptr;
    if (n - 1 >= tiny_size - 1 || kind == contents::pointers || n == 8) {
      if (n - 1 < max_small_size) p = c->take_or_advance(size_to_class(n), kind);
    } else {
      p = c->alloc_tiny(static_cast<unsigned>(n));
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
    if (bytes <= max_small_size) {
      void* p = alloc(c, bytes, kind);
      return p == nullptr ? nullptr : std::memset(p, 0, bytes);
    }
    mspan* s = alloc_large(c, bytes, 1, kind);
    if (s == nullptr) return nullptr;
    if (s->needzero) std::memset(s->base(), 0, bytes);  // fresh pages stay untouched
    return s->base();
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
      n = 1;  // the object of size 0 is not aligned so far
    }
    if (n > reserve_bytes() || align > reserve_bytes()) {
      c.counters.out_of_memory.add(1);
      return nullptr;
    }
    const std::size_t rounded = bits::align_up(n, align);
    if (align > page_size || rounded > max_small_size) {
      mspan* s = alloc_large(c, n, align > page_size ? align / page_size : 1, kind);
      return s == nullptr ? nullptr : s->base();
    }
    if (rounded < tiny_size) return alloc(c, rounded, kind);
    // Slots lie at multiples of their size in a page-aligned span.
    unsigned size_class = size_to_class(rounded);
    while (class_to_size(size_class) % align != 0) ++size_class;
    return alloc_class(c, size_class, kind);
  });
}

// --- free
// -----------------------------------------------------------------------------------------

free_status host_heap::free_slow(void* p) noexcept {
  if (mcache* c = cache(); c != nullptr) [[likely]] {
    const free_status status = free_object(p, c, c->counters);
    if (status != free_status::ok) c->counters.wrong_frees[static_cast<unsigned>(status)].add(1);
    return status;
  }
  // The thread has ended: counted where ended threads are.
  alloc_counters counters;
  const free_status status = free_object(p, nullptr, counters);
  if (status != free_status::ok) counters.wrong_frees[static_cast<unsigned>(status)].add(1);
  const std::scoped_lock lock(caches_mutex_);
  retired_.add(counters);
  return status;
}

free_status host_heap::free_object(void* p, mcache* c, alloc_counters& counters) {
  if (p == nullptr) return free_status::null;
  const std::size_t offset =
      reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(base());
  if (offset >= reserve_bytes()) return free_status::foreign;
  if (offset == 0) return free_status::zero_size;
  for (;;) {
    const page_owner owner = pages_.owner(offset >> page_shift);
    if (!owner.is_span()) return classify_without_span(owner, offset % page_size);
    mspan* s = owner.span();
    const auto in_span = static_cast<std::size_t>(static_cast<std::byte*>(p) - s->base());
    if (s->size_class() == 0) return free_large(s, in_span, c, counters);
    const unsigned slot = s->slot_of(in_span);
    if (slot >= s->nelems()) return free_status::interior;  // the tail
    const auto in_slot = static_cast<unsigned>(in_span - slot * s->elemsize());
    if (in_slot != 0 && !s->is_tiny()) return free_status::interior;

    const span_status seen = s->status();
    if (seen.place() == span_place::full) {
      // Nobody's: it becomes this thread's. Then all is looked at again: the record may have become
      // another span's meanwhile, if the pointer is stale.
      if (c != nullptr) {
        c->adopt(s, seen);
      } else {
        central_[seen.span_class()].take_full(s);
      }
      continue;
    }
    const bool own = c != nullptr && seen.is_owned_by(c);
    if (own && seen.is_pending()) c->collect(s);
    if (s->is_tiny()) return free_tiny_object(s, p, own, c, counters);
    if (own) return c->free_own_slot(s, slot) ? free_status::ok : free_status::double_free;
    const unsigned nelems = s->nelems();
    const unsigned size_class = s->size_class();
    const remote_free done = s->free_remote(slot);
    if (done == remote_free::was_free) return free_status::double_free;
    counters.frees[size_class].increment();
    after_remote_free(s, nelems, done, c);
    return free_status::ok;
  }
}

/// A slot of a span of others was freed. The slot pinned the span until then; now the record may be
/// another's, and only its atomic words may be looked at.
void host_heap::after_remote_free(mspan* s, unsigned nelems, remote_free done, mcache* c) {
  const span_status now = s->status();
  if (done == remote_free::left_full) {
    if (c != nullptr) return c->take_left(s);
    if (now.place() == span_place::full) central_[now.span_class()].take_full(s);
  } else if (now.place() == span_place::partial && s->may_be_empty(nelems)) {
    central_[now.span_class()].became_empty(s);
  }
}

free_status host_heap::free_large(mspan* s, std::size_t in_span, mcache* c,
                                  alloc_counters& counters) {
  if (in_span != 0) return s->is_free(0) ? free_status::not_allocated : free_status::interior;
  if (s->free_large()) return free_status::double_free;
  counters.frees[0].increment();
  counters.large_bytes_freed.add(s->elemsize());
  c != nullptr ? c->keep_large(s) : pages_.free_span(s);
  return free_status::ok;
}

free_status host_heap::free_tiny_object(mspan* s, void* p, bool own, mcache* c,
                                        alloc_counters& counters) {
  auto* masks = s->tiny_masks.load(std::memory_order_relaxed);  // published with the page's owner
  if (masks == nullptr) return free_status::not_allocated;
  const std::size_t at = reinterpret_cast<std::uintptr_t>(p) % page_size;  // spans of one page
  const auto slot = static_cast<unsigned>(at / tiny_size);
  const unsigned offset = at % tiny_size;
  // First what others have freed, then what the owner knows: see "what tells a double free".
  const std::uint32_t freed = masks->freed[slot].load(std::memory_order_acquire);
  const std::uint32_t mask = masks->mask[slot].load(std::memory_order_relaxed);
  if ((freed & tiny_mask::live(offset)) != 0) return free_status::double_free;
  if (!tiny_mask::is_live(mask, offset)) {
    return (mask & tiny_mask::started(offset)) != 0 ? free_status::double_free
                                                    : free_status::interior;
  }
  if (own) return c->free_own_tiny(s, p) ? free_status::ok : free_status::double_free;
  const unsigned nelems = s->nelems();
  const remote_free done = s->free_remote_tiny(*masks, slot, offset);
  if (done == remote_free::was_free) return free_status::double_free;
  counters.tiny_frees.increment();
  after_remote_free(s, nelems, done, c);
  return free_status::ok;
}

/// What a pointer into a page without span is; offset: its place in the page.
free_status host_heap::classify_without_span(page_owner owner, std::size_t offset) {
  if (owner.is_device()) return free_status::device_page;
  if (!owner.is_gone()) return free_status::not_allocated;
  const unsigned span_class = owner.gone_class();
  if (span_class == tiny_span_class) return free_status::double_free;
  const std::size_t in_span = owner.gone_index() * page_size + offset;
  const unsigned c = span_class_size_class(span_class);
  if (c == 0) return in_span == 0 ? free_status::double_free : free_status::not_allocated;
  const std::size_t slot = in_span / class_to_size(c);
  return in_span % class_to_size(c) == 0 && slot < host_span_objects(c)
             ? free_status::double_free
             : free_status::not_allocated;
}

std::size_t host_heap::usable_size(const void* p) const {
  const std::size_t offset =
      reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(base());
  if (p == nullptr || offset >= reserve_bytes()) return 0;
  const page_owner owner = pages_.owner(offset >> page_shift);
  if (!owner.is_span()) return 0;
  const mspan* s = owner.span();
  const auto in_span = static_cast<std::size_t>(static_cast<const std::byte*>(p) - s->base());
  if (s->size_class() == 0) return in_span == 0 && !s->is_free(0) ? s->elemsize() : 0;
  const unsigned slot = s->slot_of(in_span);
  if (slot >= s->nelems() || s->is_free(slot)) return 0;
  const auto in_slot = static_cast<unsigned>(in_span - slot * s->elemsize());
  if (s->span_class() == tiny_span_class) {
    const auto* masks = s->tiny_masks.load(std::memory_order_relaxed);
    if (masks == nullptr || in_slot >= tiny_size) return 0;
    const std::uint32_t mask = masks->current(slot);
    return tiny_mask::is_live(mask, in_slot) ? tiny_mask::extent(mask, in_slot) : 0;
  }
  return in_slot == 0 ? s->elemsize() : 0;
}

// --- pages
// ----------------------------------------------------------------------------------------

page_run host_heap::take_device_pages(std::uint32_t min_pages, std::uint32_t want_pages) {
  const page_run run = pages_.take_device_pages(min_pages, want_pages);
  if (run.count != 0) return run;
  if (last_used.heap_id == id_) last_used.cache->flush();
  for (unsigned sc = 0; sc < host_span_classes; ++sc) central_[sc].release_empty();
  return pages_.take_device_pages(min_pages, want_pages);
}

void host_heap::give_back_device_pages(page_run run) { pages_.give_back_device_pages(run); }

std::size_t host_heap::trim() {
  if (mcache* c = cache(); c != nullptr) c->flush();
  for (unsigned sc = 0; sc < host_span_classes; ++sc) central_[sc].release_empty();
  return pages_.scavenge(scavenge_cause::asked) * page_size;
}

void host_heap::count_reset(const mspan& s) {
  const unsigned live = s.nelems() - s.count_free();
  if (!s.is_tiny()) {
    retired_.frees[s.size_class()].add(live);
    retired_.freed_by_reset.add(live);
    if (s.size_class() == 0) retired_.large_bytes_freed.add(live * s.elemsize());
    return;
  }
  const auto* masks = s.tiny_masks.load(std::memory_order_relaxed);
  s.for_each_taken([&](unsigned i) {
    const std::uint32_t mask = masks->current(i);
    const auto objects = static_cast<std::uint64_t>(bits::popcount(mask & mask >> 16));
    retired_.tiny_frees.add(objects);
    retired_.freed_by_reset.add(objects);
  });
  retired_.tiny_blocks_freed.add(live);
}

void host_heap::reset() {
  const std::scoped_lock lock(caches_mutex_);
  for (mcache* c : caches_) c->forget_spans();
  for (unsigned sc = 0; sc < host_span_classes; ++sc) central_[sc].forget_all();
  pages_.next_sweep_cycle();  // every span is unswept now, or stale in a cache
  pages_.for_each_span([&](mspan& s) {
    s.set_phase(pages_.sweepgen(), sweep_phase::sweeping);
    count_reset(s);
    s.free_all();
    s.set_phase(pages_.sweepgen(), sweep_phase::swept);
    pages_.free_span(&s);
  });
}

// --- figures
// --------------------------------------------------------------------------------------

host_heap_stats host_heap::stats() const {
  host_heap_stats st;
  std::uint64_t freed_by_reset = 0;
  const auto sum = [&](const alloc_counters& a) {
    for (unsigned c = 0; c < num_classes; ++c) {
      st.by_class[c].mallocs += a.mallocs[c].get();
      st.by_class[c].frees += a.frees[c].get();
    }
    st.tiny_mallocs += a.tiny_mallocs.get();
    st.tiny_frees += a.tiny_frees.get();
    st.tiny_blocks += a.tiny_blocks_taken.get() - a.tiny_blocks_freed.get();
    st.live_bytes += a.large_bytes_taken.get() - a.large_bytes_freed.get();
    st.out_of_memory += a.out_of_memory.get();
    st.refused += a.refused.get();
    st.cache_refills += a.refills.get();
    freed_by_reset += a.freed_by_reset.get();
    for (unsigned i = 0; i < free_statuses; ++i) st.frees_by_status[i] += a.wrong_frees[i].get();
  };
  {
    const std::scoped_lock lock(caches_mutex_);
    sum(retired_);
    for (const mcache* c : caches_) sum(c->counters);
    st.thread_caches = caches_.size();
  }
  st.tiny_blocks -= central_.tiny_blocks_freed.load(std::memory_order_relaxed);
  // Of two frees at once, both were counted.
  const mcentral_set::late_counts late = central_.late_double_frees();
  std::uint64_t late_sum = 0;
  for (unsigned c = 0; c < num_classes; ++c) {
    st.by_class[c].frees -= late[c];
    late_sum += late[c];
  }
  st.tiny_frees -= late[num_classes];
  late_sum += late[num_classes];
  st.frees_by_status[static_cast<unsigned>(free_status::double_free)] += late_sum;
  st.mallocs = st.tiny_mallocs;
  st.frees = st.tiny_frees;
  st.live_bytes += st.tiny_blocks * tiny_size;
  for (unsigned c = 0; c < num_classes; ++c) {
    host_heap_stats::class_stats& k = st.by_class[c];
    k.live = k.mallocs - k.frees;
    st.mallocs += k.mallocs;
    st.frees += k.frees;
    st.live_bytes += k.live * class_to_size(c);
  }
  st.live_objects = st.mallocs - st.frees;
  st.frees_by_status[static_cast<unsigned>(free_status::ok)] = st.frees - freed_by_reset;

  const mheap_stats h = pages_.stats();
  st.spans = h.spans;
  st.pages_in_use = h.pages_in_use;
  st.device_pages = h.device_pages;
  st.free_pages = h.free_pages;
  st.peak_pages = h.peak_pages;
  st.heap_sys_bytes = h.grown_pages * page_size;
  st.released_bytes = h.scavenged_pages * page_size;
  st.reserved_bytes = reserve_bytes();
  st.span_sys_bytes = h.span_sys;
  st.tiny_sys_bytes = h.tiny_sys;
  st.cache_sys_bytes = cache_sys_.load(std::memory_order_relaxed);
  st.metadata_sys_bytes = h.metadata_sys;
  return st;
}

}  // namespace warpheap
