#pragma once

// The allocator of host objects: Go's, with explicit free. It owns the heap's pages, and lends runs
// of them to the device's allocator. The fast paths of malloc and free, malloc_fast and free_fast,
// are here; the slow paths are in host_heap_alloc.cpp and host_heap_free.cpp.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include <warpheap/bits.hpp>
#include <warpheap/free_view.hpp>
#include <warpheap/layout.hpp>
#include <warpheap/memory_stats.hpp>
#include <warpheap/size_classes.hpp>
#include <warpheap/sweep_report.hpp>

#include "host/epoch_history.hpp"
#include "host/fixalloc.hpp"
#include "host/free_status.hpp"
#include "host/host_heap_stats.hpp"
#include "host/last_cache.hpp"
#include "host/mcache.hpp"
#include "host/mcentral.hpp"
#include "host/mheap.hpp"
#include "host/mspan.hpp"
#include "host/region_pool.hpp"
#include "host/scavenge_pacer.hpp"
#include "host/stack_pool.hpp"
#include "host/sys_vector.hpp"

namespace warpheap {

/// Allocator over the memory [base, base + reserve_bytes). All metadata lies elsewhere.
///
/// Thread-safe: any thread allocates, and any thread frees any object. A thread has a cache of
/// spans for each heap it uses, given back when the thread ends; a heap may be destroyed while
/// threads that used it still run. Method: the Go runtime's (mcache, mcentral, mheap) with two sets
/// of free bits, the span owner's and all other threads', so that a thread allocates and frees in
/// its own spans without locks or atomic read-modify-writes. These bits also reveal double frees,
/// as long as the slot has not been reused; of two frees of one object that run at the same time,
/// the second may be detected later, when the owner collects (take_late_double_frees). Interior,
/// foreign and unallocated pointers are detected by geometry and by the page's owner: a page keeps
/// the geometry of the span that it last had.
///
/// malloc and free take no lock unless a span changes hands. Locks, outermost first: the list of
/// public heaps (for forks), the public heap's for events and for bulk operations, the service's,
/// those of marks, of frees under way, of the error log and of layers, the registry of heaps, this
/// heap's for its caches, mcentral's, those of stack and region pools, mheap's, sys_pool's. The
/// page source is sometimes called under mheap's lock: it must not call the heap, nor wait for a
/// kernel. A fork takes all of these locks.
class host_heap {
 public:
  /// Page 0 is reserved: base is the address of all objects of size 0. base must be aligned to
  /// page_size; reserve_bytes is rounded down to pages, of which there must be at least two (else
  /// std::invalid_argument). Throws std::bad_alloc if there is no address range for the tables.
  host_heap(std::byte* base, std::size_t reserve_bytes, const page_source& source);
  /// All calls must have returned. Gives no page back to the source, as the reservation is released
  /// too.
  ~host_heap();
  host_heap(const host_heap&) = delete;
  host_heap& operator=(const host_heap&) = delete;

  /// n bytes, indeterminate; nullptr when there is no room. n == 0: base. Tiny objects (below 16
  /// bytes, without pointers) are aligned to the largest power of two that divides n, all others to
  /// host_slot_alignments of their class; hence each is sufficiently aligned for any type of n
  /// bytes, up to 128.
  void* malloc(std::size_t n, contents kind = contents::no_pointers) {
    void* p = malloc_fast(n, kind, id_);
    return p != nullptr ? p : malloc_slow(n, kind);
  }
  /// The heap's number, as malloc_fast takes it; with no_id instead, malloc_fast does nothing. A
  /// reset changes the number.
  std::uint64_t id() const { return id_; }
  static constexpr std::uint64_t no_id = ~std::uint64_t{0};
  /// malloc, if it only has to take a slot of the thread's current span; else nullptr.
  static void* malloc_fast(std::size_t n, contents kind, std::uint64_t id) {
    if (last_used.heap_id != id) [[unlikely]]
      return nullptr;
    mcache* c = last_used.get();
    // Not tiny, and covered by the fine table of classes.
    const std::size_t least = kind == contents::pointers ? 1 : tiny_size;
    return n - least <= detail::fine_limit - least ? c->take(c->fine_class(n), kind) : nullptr;
  }
  void* malloc_slow(std::size_t n, contents kind) noexcept;
  /// n * m zeroed bytes; nullptr also when n * m overflows.
  void* calloc(std::size_t n, std::size_t m, contents kind = contents::no_pointers);
  /// calloc of n bytes in all, if it only has to take such a slot and clear it; else nullptr.
  static void* calloc_fast(std::size_t n, contents kind, std::uint64_t id) {
    if (last_used.heap_id != id) [[unlikely]]
      return nullptr;
    mcache* c = last_used.get();
    const std::size_t least = kind == contents::pointers ? 1 : tiny_size;
    return n - least <= max_small_size - least ? c->take_zeroed(size_to_class(n), n, kind)
                                               : nullptr;
  }
  /// n bytes aligned to align; nullptr also when align is not a power of two.
  void* aligned_alloc(std::size_t align, std::size_t n, contents kind = contents::no_pointers);
  /// aligned_alloc, if it only has to take a slot; else nullptr.
  static void* aligned_fast(std::size_t align, std::size_t n, contents kind, std::uint64_t id) {
    if (last_used.heap_id != id || align > page_size || n > max_small_size
        || !bits::is_power_of_two(align)) [[unlikely]]
      return nullptr;
    const std::size_t rounded = bits::align_up(n, align);
    // Neither tiny nor large.
    return rounded - tiny_size <= max_small_size - tiny_size
               ? last_used.get()->take(host_aligned_class(rounded, align), kind)
               : nullptr;
  }
  /// Never damages the heap, whatever p is, with two exceptions for a stale p. If its address has
  /// been reused, the new object is freed. If, in the few instructions between this call's last
  /// look at the span and its atomic write, other threads freed all objects of the span, cut it
  /// into other slots and allocated from it, then the object whose slot has the index of p's is
  /// freed.
  free_status free(void* p) {
    return free_fast(p, view_) == fast_free::done ? free_status::ok : free_slow(p);
  }
  enum class fast_free : std::uint8_t { done, tiny, refused };
  /// This heap as free_fast sees it; constant for the heap's lifetime.
  const free_view& view() const { return view_; }
  /// free, if p is a small object in a span of this thread's cache. Unless the result is done,
  /// nothing was changed; on tiny, free_tiny may be able to do it.
  static fast_free free_fast(void* p, const free_view& heap) {
    const page_owner owner = owner_at(p, heap);
    if (!owner.is_span()) return fast_free::refused;
    mspan* s = owner.span();
    // Read before the cache: see last_cache. A cache that owns the span is one of this heap and of
    // this sweep cycle.
    const std::uintptr_t status = s->seen_status();
    if (last_used.is(status)) [[likely]] {
      auto* const c = reinterpret_cast<mcache*>(status);
      return c->free_own(s, p) ? fast_free::done : fast_free::refused;
    }
    return last_used.is(status ^ span_status::tiny) ? fast_free::tiny : fast_free::refused;
  }
  /// free, after free_fast returned tiny; false: nothing was done.
  bool free_tiny(void* p) {
    const auto offset = static_cast<std::size_t>(static_cast<std::byte*>(p) - base());
    mcache* const c = last_used.get();
    mspan* const s = pages_.owner(offset >> page_shift).span();
    const mcache::tiny_free done = c->drop_own_tiny(s, p);
    if (done == mcache::tiny_free::emptied) {
      const mcache::call guard(*c);
      c->free_tiny_block(s, p);
    }
    return done != mcache::tiny_free::refused;
  }
  free_status free_slow(void* p) noexcept;
  /// Pointers of double frees detected since the last call that had been answered "ok", because
  /// they ran at the same time as the first free of the object. A bounded number; stats counts all
  /// of them.
  std::vector<void*> take_late_double_frees() { return central_.take_late_double_frees(); }
  /// Usable bytes at p, at least as many as were requested; 0 if p is no live object.
  std::size_t usable_size(const void* p) const;
  /// The span of the live small object that begins at p, if this thread's cache owns the span; else
  /// null.
  static const mspan* own_span_of(const void* p, const free_view& heap) {
    const page_owner owner = owner_at(p, heap);
    if (!owner.is_span()) return nullptr;
    const mspan* s = owner.span();
    // As in free_fast.
    return last_used.is(s->seen_status()) && s->is_own_object(p) ? s : nullptr;
  }
  /// For realloc: whether the live object at p, of `old` usable bytes, can have n bytes in place.
  /// It can while it shrinks by less than half. A large object grows in place into the pages behind
  /// it, if they are free, and shrinks by giving up its last pages.
  bool resize(void* p, std::size_t old, std::size_t n) {
    return (n <= old && n > old / 2)
           || (n > max_small_size && old > max_small_size && resize_large(p, n));
  }
  /// malloc for an object of `old` usable bytes that could not stay in place. A small one that
  /// grows by less than a quarter is likely to do so again, so it gets a slot a quarter larger (as
  /// in gperftools).
  void* malloc_moved(std::size_t old, std::size_t n, contents kind) {
    const bool grows_a_little = n > old && n - old < old / 4 && old >= 64 && n <= max_small_size;
    return grows_a_little ? malloc_to_grow(old, n, kind) : malloc(n, kind);
  }

  /// The kind of the live object at p, or around p; no_pointers if there is none.
  contents contents_at(const void* p) const;

  /// A run of min_pages to want_pages pages for the device; count 0 if there is none.
  page_run take_device_pages(std::uint32_t min_pages, std::uint32_t want_pages);
  /// Takes pages back; the whole run must have been lent to the device (else aborts).
  void give_back_device_pages(page_run run);
  bool is_device_page(std::uint32_t page) const { return pages_.is_device_page(page); }
  /// mheap::has_room
  bool has_room(std::uint32_t n, page_index first, page_index end) const {
    return pages_.has_room(n, first, end);
  }
  /// mheap::prepare_tables
  bool prepare_tables(std::size_t pages) { return pages_.prepare_tables(pages); }
  /// heap_arenas::take_new_arenas
  heap_arenas::arena_run take_new_arenas() { return pages_.take_new_arenas(); }

  // Memory that is not an object, see host_heap_manual.cpp. free rejects it, reset leaves it alone.

  /// A scratch stack of stack_pool::rounded(bytes) bytes, aligned to its size, but to page_size at
  /// most. The contents are indeterminate. nullptr when there is no room.
  void* acquire_stack(std::size_t bytes) noexcept;
  /// Aborts when p is not a scratch stack of this heap for that many bytes.
  void release_stack(void* p, std::size_t bytes) noexcept;
  /// Adjacent pages for a region, with indeterminate contents; nullptr when there is no room.
  std::byte* take_region_chunk(std::size_t pages) noexcept;
  /// Takes a region chunk back, into quarantine. Aborts when `start` is none.
  void give_region_chunk(std::byte* start) noexcept { regions_.give(start); }

  /// mheap::set_memory_limit
  void set_memory_limit(std::size_t bytes) { pages_.set_memory_limit(bytes); }
  /// When it is due, gives back a little of the memory that has not been used for a while. For one
  /// thread, which calls it about every millisecond.
  void scavenge_step();
  /// Bytes of the pages in use.
  std::size_t bytes_in_use() const { return pages_.taken_pages() * page_size; }

  /// See memory_stats. The arguments are the members of the same names, which this class cannot
  /// know.
  memory_stats memory(std::size_t buckhash_sys = 0, std::size_t device_table_sys = 0) const;
  page_recount recount_pages() const { return pages_.recount(); }
  host_heap_stats stats() const;
  /// Frees every host object, in a time that does not depend on their number: the remaining work is
  /// done later, span by span, by allocations, by sweep_some, or by the next reset. All earlier
  /// pointers become those of freed objects at once, and figures are as if the work had been done.
  /// No other call may be in flight. Lent pages stay lent. Method: Go's sweepgen, with a mark phase
  /// that marks nothing.
  void reset();
  /// Marks the object at p, so that it survives the next sweep. Any number of threads may mark at
  /// the same time. Objects may be allocated and freed between marks and sweep: an object allocated
  /// after the first mark survives the sweep without a mark; a freed one counts as dangling if it
  /// was marked, its slot is still free and its span still exists. A reset removes all marks. Costs
  /// 64 bytes to 4 KiB for each span with marks or new objects, even one freed since, until the
  /// sweep or reset. The first mark takes time proportional to all threads' spans, and interrupts
  /// running threads.
  mark_status mark(const void* p);
  /// Like mark, and also marks what is reachable from the object: every live object that a word in
  /// it, at a multiple of 8, points to or into, and so on. Only objects with contents::pointers are
  /// read.
  mark_status mark_reachable(const void* p);
  /// Frees every object without a mark, and removes all marks. Reports what it found, listing at
  /// most `listed` objects individually. No other call may be in flight. Throws std::bad_alloc when
  /// there is no memory for the report; the sweep has then been done. O(spans + objects).
  sweep_report sweep(std::size_t listed = 1000);
  /// During its lifetime a bulk free is under way: a malloc that gets to the heap's slow path or
  /// needs another span aborts. (Go: mallocgc called with gcphase == _GCmarktermination.)
  class bulk_call {
   public:
    explicit bulk_call(host_heap& heap) : flag_(heap.central_.in_bulk) {
      flag_.store(true, std::memory_order_relaxed);
    }
    ~bulk_call() { flag_.store(false, std::memory_order_relaxed); }
    bulk_call(const bulk_call&) = delete;
    bulk_call& operator=(const bulk_call&) = delete;

   private:
    std::atomic<bool>& flag_;
  };
  /// Sweeps at most that many of the spans that a reset left; true when there are more. For a
  /// thread that has nothing else to do.
  bool sweep_some(unsigned spans);
  /// How the spans that resets left have been swept, since the heap was made.
  sweep_counts swept() const { return central_.swept(); }
  /// Gives back this thread's cache, the spans without objects, and the memory of free pages.
  /// Returns the bytes given back to the source.
  std::size_t trim();

  /// Around a fork: waits for slow paths under way, half a second at most, and takes every lock of
  /// all heaps, in their order, so that the child, which has only the forking thread, finds no lock
  /// held and all lists consistent. Installed with the first heap.
  static void before_fork();
  static void after_fork();
  static void after_fork_in_child();

  /// f(pointer, bytes) for each live object; an object's bytes are its usable size. No other call
  /// may be in flight.
  template <class F>
  void for_each_live(F&& f) const;

  /// The spans and pages below, for inspection.
  const mheap& pages() const { return pages_; }
  std::byte* base() const { return pages_.base(); }
  std::size_t reserve_bytes() const { return pages_.reserve_bytes(); }

 private:
  friend class thread_caches;

  // thread_caches.cpp
  mcache* cache() {  // the calling thread's; null when the thread has ended
    return last_used.heap_id == id_ ? last_used.get() : attach_cache();
  }
  mcache* attach_cache();               // the same, made if needed; becomes the one used last
  mcache* present_cache();              // the same; null if it does not exist
  void wait_for_calls();                // host_heap.cpp
  mcache* add_cache(last_cache* user);  // null when the system has no memory
  void drop_cache(mcache* c);           // after a flush
  void flush(mcache& c) {
    c.flush();
    c.stacks.flush(stacks_);
  }

  /// The owner of the page of p; none outside the reservation.
  static page_owner owner_at(const void* p, const free_view& heap) {
    // Below the base this wraps around to more than any reservation.
    const std::size_t offset =
        reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(heap.base);
    return offset < heap.bytes ? mheap::owner(heap.owners, offset >> page_shift) : page_owner();
  }

  // host_heap_alloc.cpp
  void* malloc_to_grow(std::size_t old, std::size_t n, contents kind);
  bool resize_large(void* p, std::size_t n);
  template <class F>
  void* call(mcache& c, F&& f);
  template <class F>
  void* with_cache(F&& f);
  [[gnu::noinline]] void* malloc_any(std::size_t n, contents kind) noexcept;
  void* alloc(mcache& c, std::size_t n, contents kind);
  void* alloc_class(mcache& c, unsigned size_class, contents kind, bool* is_zero = nullptr);
  mspan* alloc_large(mcache& c, std::size_t n, std::size_t align_pages, contents kind);
  template <class F>
  auto or_reclaim(mcache& c, F&& attempt);

  // host_heap_free.cpp
  [[gnu::noinline]] free_status free_of_ended_thread(void* p);
  inline free_status free_by(void* p, mcache& c);
  free_status free_object(void* p, mcache* c, alloc_counters& counters);
  free_status free_on_page(void* p, std::size_t page, page_owner owner, mcache* c,
                           alloc_counters& counters);
  inline free_status free_large(mspan* s, std::size_t in_span, mcache* c, alloc_counters& counters);
  free_status free_tiny_object(mspan* s, void* p, bool own, mcache* c, alloc_counters& counters);
  inline std::optional<free_status> free_in_others(mspan* s, unsigned i, void* p, std::size_t page,
                                                   page_owner owner, mcache* c,
                                                   alloc_counters& counters);
  void after_remote_free(mspan* s, unsigned nelems, remote_free done, mcache* c);
  static free_status classify_without_span(page_owner owner, std::size_t offset);
  static free_status classify_dead(unsigned span_class, std::size_t in_pages);

  struct live_object {
    mspan* span = nullptr;  ///< null: there is no such object
    std::byte* start = nullptr;
    std::size_t bytes = 0;
    unsigned mark_bit = 0;
    // As they were when the object was found.
    unsigned span_class = 0;
    std::byte* first = nullptr;
  };
  live_object find_live(const void* p, bool interior) const;
  live_object look_up(const void* p, bool interior) const;
  bool is_current(const live_object& object) const;

  // host_heap_mark.cpp
  static bool may_hold_pointers(const live_object& object);
  void begin_marks();
  mark_status set_mark(const live_object& object);
  mark_status note_dangling(void* p);
  mark_status lose_marks() {
    central_.marks.lose();
    return mark_status::no_memory;
  }

  // host_heap_pages.cpp
  void reclaim(mcache* c);
  void recover_lost_caches();
  void begin_cycle(sweep_sink* sink);
  void finish_sweep();
  void drop_stale_caches();
  void count_reset();

  void count_objects(memory_stats& m) const;

  mheap pages_;
  const free_view view_{pages_.base(), pages_.reserve_bytes(), pages_.owners()};
  mcentral_set central_;
  stack_pool stacks_{pages_};
  region_pool regions_{pages_};
  scavenge_pacer pacer_;  // used only by the thread that calls scavenge_step
  std::uint64_t id_;      // never used twice in a process

  mutable std::mutex caches_mutex_;  // taken before the locks of mcentral and mheap
  fixalloc cache_alloc_;
  sys_counter cache_sys_{0};
  sys_vector<mcache*> caches_;
  // Caches of the previous cycle. While one of their spans is unswept, their addresses tell whose
  // it was.
  sys_vector<mcache*> stale_caches_;
  std::atomic<bool> has_stale_caches_{false};
  // This process is a fork's child: other threads' spans and figures may be in any intermediate
  // state.
  bool is_forked_ = false;
  alloc_counters retired_;  // sums of the caches that are gone
  epoch_history epochs_;

  // For the marks of the next sweep.
  std::uint64_t dangling_marks_ = 0;
  sys_vector<void*> dangling_;  // the first of these
};

template <class F>
void host_heap::for_each_live(F&& f) const {
  pages_.for_each_span([&](const mspan& s) {
    if (!s.is_swept(pages_.sweepgen())) return;
    const auto* masks = s.tiny_masks.load(std::memory_order_relaxed);
    s.for_each_taken([&](unsigned i) {
      if (masks == nullptr) {
        f(static_cast<void*>(s.slot_address(i)), s.elemsize());
        return;
      }
      const std::uint32_t mask = masks->current(i);
      for (unsigned offset = 0; offset < tiny_size; ++offset) {
        if (!tiny_mask::is_live(mask, offset)) continue;
        f(static_cast<void*>(s.slot_address(i) + offset),
          std::size_t{tiny_mask::extent(mask, offset)});
      }
    });
  });
}

}  // namespace warpheap
