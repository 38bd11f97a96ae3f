#pragma once

// The allocator of host objects: Go's, with explicit free. It owns the heap's pages, and lends runs
// of them to the device's allocator. The fast paths of malloc and free are here, malloc_fast and
// free_fast; what they leave over is in host_heap_alloc.cpp and host_heap_free.cpp.

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

/// Allocator over the memory [base, base + reserve_bytes). All records lie elsewhere.
///
/// Thread-safe: any thread allocates, and any thread frees any object. A thread has a cache of
/// spans for each heap it uses, given back when the thread ends; a heap may go while threads that
/// used it still run. Method: the Go runtime's (mcache, mcentral, mheap) with free bits of two
/// kinds, those of the span's owner and those of all others, so that a thread allocates and frees
/// in its own spans without lock and atomic read-modify-write. By these bits wrong frees are told,
/// as long as the slot has no new owner; of two frees of one object that run at the same time, the
/// second may be told later, when the owner collects (take_late_double_frees). Interior, foreign
/// and unallocated pointers are told by geometry and by the page's owner: a page keeps the geometry
/// of the span that it last had.
///
/// malloc and free take no lock unless a span changes hands. Locks, outermost first: the list of
/// public heaps (for forks), the public heap's for bulk operations, the service's, those of frees
/// under way, of the error log and of layers, the registry of heaps, this heap's of its caches,
/// mcentral's, those of stack and region pools, mheap's. The page source is called under mheap's at
/// times: it must not call the heap, nor wait for a kernel. A fork takes all of them.
class host_heap {
 public:
  /// Page 0 is reserved: base is the address of all objects of size 0. base must be aligned to
  /// page_size; reserve_bytes is rounded down to pages, of which there must be two at least (else
  /// std::invalid_argument). Throws std::bad_alloc if there is no address range for the tables.
  host_heap(std::byte* base, std::size_t reserve_bytes, const page_source& source);
  /// Needs all calls to have returned. Gives no page back to the source: the reservation goes too.
  ~host_heap();
  host_heap(const host_heap&) = delete;
  host_heap& operator=(const host_heap&) = delete;

  /// n bytes, indeterminate; nullptr when there is no room. n == 0: base. Tiny objects (below 16
  /// bytes, without pointers) are aligned to the largest power of two that divides n, all others to
  /// host_slot_alignments of their class, hence each to what a type of n bytes needs, up to 128.
  void* malloc(std::size_t n, contents kind = contents::no_pointers) {
    void* p = malloc_fast(n, kind, id_);
    return p != nullptr ? p : malloc_slow(n, kind);
  }
  /// What malloc_fast takes: this heap's number, or no_id, with which it does nothing. A
  /// reset changes it.
  std::uint64_t id() const { return id_; }
  static constexpr std::uint64_t no_id = ~std::uint64_t{0};
  /// malloc where it is only taking a slot of the thread's current span; else nullptr.
  static void* malloc_fast(std::size_t n, contents kind, std::uint64_t id) {
    if (last_used.heap_id != id) [[unlikely]]
      return nullptr;
    mcache* c = last_used.get();
    // Not tiny, and found in the fine table of classes.
    const std::size_t least = kind == contents::pointers ? 1 : tiny_size;
    return n - least <= detail::fine_limit - least ? c->take(c->fine_class(n), kind) : nullptr;
  }
  void* malloc_slow(std::size_t n, contents kind) noexcept;
  /// n * m zeroed bytes; nullptr also when n * m overflows.
  void* calloc(std::size_t n, std::size_t m, contents kind = contents::no_pointers);
  /// calloc of n bytes in all where it is only taking such a slot, and clearing it; else nullptr.
  static void* calloc_fast(std::size_t n, contents kind, std::uint64_t id) {
    if (last_used.heap_id != id) [[unlikely]]
      return nullptr;
    mcache* c = last_used.get();
    const std::size_t least = kind == contents::pointers ? 1 : tiny_size;
    return n - least <= max_small_size - least ? c->take_zeroed(size_to_class(n), n, kind)
                                               : nullptr;
  }
  /// n bytes aligned to align; nullptr also when align is no power of two.
  void* aligned_alloc(std::size_t align, std::size_t n, contents kind = contents::no_pointers);
  /// The same where it is only taking a slot; else nullptr.
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
  /// Never damages the heap, whatever p is, unless p is an object that was allocated anew; or p was
  /// freed before, and in the few instructions between this call's last look at the span and its
  /// atomic write others freed all that the span had, cut it anew and allocated in it: then the
  /// object whose slot has the number of p's is freed.
  free_status free(void* p) {
    return free_fast(p, view_) == fast_free::done ? free_status::ok : free_slow(p);
  }
  enum class fast_free : std::uint8_t { done, tiny, refused };
  /// What free_fast takes: this heap as it looks to it. The same for all of its life.
  const free_view& view() const { return view_; }
  /// free where p is a small object in a span of this thread's cache. Otherwise nothing was done;
  /// tiny: free_tiny may do it.
  static fast_free free_fast(void* p, const free_view& heap) {
    const page_owner owner = owner_at(p, heap);
    if (!owner.is_span()) return fast_free::refused;
    mspan* s = owner.span();
    // Before the cache is: see last_cache. Its being the owner says that it is a cache of this heap
    // and of this cycle.
    const std::uintptr_t status = s->seen_status();
    if (last_used.is(status)) [[likely]] {
      auto* const c = reinterpret_cast<mcache*>(status);
      return c->free_own(s, p) ? fast_free::done : fast_free::refused;
    }
    return last_used.is(status ^ span_status::tiny) ? fast_free::tiny : fast_free::refused;
  }
  /// free where free_fast answered tiny; false: nothing was done.
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
  /// Pointers of double frees that were answered "ok" since the last call, because they ran beside
  /// the first free of the object. A bounded number; stats counts all of them.
  std::vector<void*> take_late_double_frees() { return central_.take_late_double_frees(); }
  /// Bytes that may be used at p, at least those asked for; 0 if p is no live object.
  std::size_t usable_size(const void* p) const;
  /// The span of a small object that begins at p and lives, where it is one of this thread's cache;
  /// else null.
  static const mspan* own_span_of(const void* p, const free_view& heap) {
    const page_owner owner = owner_at(p, heap);
    if (!owner.is_span()) return nullptr;
    const mspan* s = owner.span();
    // As in free_fast.
    return last_used.is(s->seen_status()) && s->is_own_object(p) ? s : nullptr;
  }
  /// For realloc: whether the live object at p, of `old` usable bytes, has n bytes where it is. It
  /// has, while it shrinks by less than half. A large one is made longer by the pages behind it, if
  /// these are free, and shorter by its last ones.
  bool resize(void* p, std::size_t old, std::size_t n) {
    return (n <= old && n > old / 2)
           || (n > max_small_size && old > max_small_size && resize_large(p, n));
  }
  /// malloc for an object of `old` usable bytes that could not stay. A small one that grows by less
  /// than a quarter is likely to do so again: it gets a slot of a quarter more (as in gperftools).
  void* malloc_moved(std::size_t old, std::size_t n, contents kind) {
    const bool grows_a_little = n > old && n - old < old / 4 && old >= 64 && n <= max_small_size;
    return grows_a_little ? malloc_to_grow(old, n, kind) : malloc(n, kind);
  }

  /// The kind of the live object at p, or around p; no_pointers if there is none.
  contents contents_at(const void* p) const;

  /// A run of min_pages to want_pages pages for the device; count 0 if there is none.
  page_run take_device_pages(std::uint32_t min_pages, std::uint32_t want_pages);
  /// Takes pages back; the whole run must be lent to the device (else aborts).
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

  // Memory that is no object, see host_heap_manual.cpp. free does not know it, reset leaves it.

  /// A scratch stack of stack_pool::rounded(bytes) bytes, indeterminate, aligned to as much, but to
  /// page_size at most. nullptr when there is no room.
  void* acquire_stack(std::size_t bytes) noexcept;
  /// Aborts when p is no scratch stack of this heap for so many bytes.
  void release_stack(void* p, std::size_t bytes) noexcept;
  /// Pages in a row for a region, indeterminate; nullptr when there is no room.
  std::byte* take_region_chunk(std::size_t pages) noexcept;
  /// Takes it back, into quarantine. Aborts when it is none.
  void give_region_chunk(std::byte* start) noexcept { regions_.give(start); }

  /// mheap::set_memory_limit
  void set_memory_limit(std::size_t bytes) { pages_.set_memory_limit(bytes); }
  /// Gives a little of the memory that has not been used for a while back, when it is time. For one
  /// thread, which calls it about every millisecond.
  void scavenge_step();
  /// Bytes of pages that have a use.
  std::size_t bytes_in_use() const { return pages_.taken_pages() * page_size; }

  /// See memory_stats. buckhash_sys, device_table_sys: the members of these names, which this class
  /// does not know.
  memory_stats memory(std::size_t buckhash_sys = 0, std::size_t device_table_sys = 0) const;
  page_recount recount_pages() const { return pages_.recount(); }
  host_heap_stats stats() const;
  /// Frees every host object, in a time that does not depend on their number: what is left to do is
  /// done span by span later, by allocations, by sweep_some, or by the next reset. All pointers
  /// from before are those of freed objects at once. Figures are as if all had been done. No other
  /// call may be in flight. Lent pages stay lent. Method: Go's sweepgen, a mark phase that marks
  /// nothing.
  void reset();
  /// Marks the object at p, so that it outlives the next sweep. Any number of threads may mark at
  /// the same time. Objects may be allocated and freed between marks and sweep: what is allocated
  /// after the first mark outlives the sweep without one; what is freed is dangling if it had one
  /// and its slot is still free and its span still there. A reset takes all marks off. 64 bytes to
  /// 4 KiB for a span with marks or new objects, until the sweep or reset: also for one that was
  /// freed since. The first mark takes time for all threads' spans, and interrupts threads that
  /// run.
  mark_status mark(const void* p);
  /// The same, and marks what the object leads to: every live object that a word in it, at a
  /// multiple of 8, points to or into, and so on. Only objects with contents::pointers are read.
  mark_status mark_reachable(const void* p);
  /// Frees every object without a mark, and takes all marks off. Says what it found, with at most
  /// so many objects one by one. No other call may be in flight. Throws std::bad_alloc when there
  /// is no memory for the report; the sweep is done then. O(spans + objects).
  sweep_report sweep(std::size_t listed = 1000);
  /// While it lives, a bulk free is under way, and a malloc that comes to the heap or needs another
  /// span aborts.
  /// (Go: mallocgc called with gcphase == _GCmarktermination.)
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
  /// Does at most so many spans' part of what a reset left; true when there is more. For a thread
  /// that has nothing else to do.
  bool sweep_some(unsigned spans);
  /// What became of spans that resets left, since the heap was made.
  sweep_counts swept() const { return central_.swept(); }
  /// Gives this thread's cache, the spans without objects and the memory of free pages back.
  /// Returns the bytes given back to the source.
  std::size_t trim();

  /// Around a fork: waits for slow paths under way, half a second at most, and takes every lock of
  /// all heaps, in their order, so that the child, which has the forking thread only, finds none
  /// held and all lists whole. Installed with the first heap.
  static void before_fork();
  static void after_fork();
  static void after_fork_in_child();

  /// f(pointer, bytes) for each live object; an object's bytes are its usable size. No other call
  /// may be in flight.
  template <class F>
  void for_each_live(F&& f) const;

  /// The spans and pages below, to be looked at.
  const mheap& pages() const { return pages_; }
  std::byte* base() const { return pages_.base(); }
  std::size_t reserve_bytes() const { return pages_.reserve_bytes(); }

 private:
  friend class thread_caches;

  // thread_caches.cpp
  mcache* cache() {  // the calling thread's; null when it has ended already
    return last_used.heap_id == id_ ? last_used.get() : attach_cache();
  }
  mcache* attach_cache();               // the same, made if need be, as the one used last
  mcache* present_cache();              // the same; null when it was not made
  void wait_for_calls();                // host_heap.cpp
  mcache* add_cache(last_cache* user);  // null when the system has no memory
  void drop_cache(mcache* c);           // after a flush
  void flush(mcache& c) {
    c.flush();
    c.stacks.flush(stacks_);
  }

  /// What the page of p belongs to, of the reservation's pages; else to nothing.
  static page_owner owner_at(const void* p, const free_view& heap) {
    // Below the base it wraps to more than any reservation.
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
    mspan* span = nullptr;  ///< null: there is none
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
  scavenge_pacer pacer_;  // of the thread that takes the steps
  std::uint64_t id_;      // never used twice in a process

  mutable std::mutex caches_mutex_;  // taken before mcentral's and mheap's
  fixalloc cache_alloc_;
  sys_counter cache_sys_{0};
  sys_vector<mcache*> caches_;
  // Of the cycle before. While one of their spans is unswept, their addresses say who had it.
  sys_vector<mcache*> stale_caches_;
  std::atomic<bool> has_stale_caches_{false};
  // A fork made this process, and threads' spans and figures may be as it found them.
  bool is_forked_ = false;
  alloc_counters retired_;  // of caches that are gone
  epoch_history epochs_;

  // Of the marks for the next sweep.
  std::uint64_t dangling_marks_ = 0;
  sys_vector<void*> dangling_;  // the first of them
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
