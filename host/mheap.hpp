#pragma once

// The owner of all pages: gives runs of them to spans and to the device, and knows for each page
// what it belongs to. (Go: mheap.)

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include <warpheap/layout.hpp>
#include <warpheap/size_classes.hpp>

#include "host/arena_map.hpp"
#include "host/fixalloc.hpp"
#include "host/heap_arenas.hpp"
#include "host/mspan.hpp"
#include "host/page_states.hpp"
#include "host/persistentalloc.hpp"
#include "host/span_list.hpp"
#include "host/sys_vector.hpp"

namespace warpheap {

/// Where the memory of the reservation comes from. Called for whole pages; any thread may call,
/// with locks of the heap held, so neither function may use the heap or wait for a kernel.
struct page_source {
  void* context = nullptr;
  /// Has chunks, of which the last may be a part, lead to memory that commit can make usable: once,
  /// before the first use of a page there. False when the system refuses. Null: they all do. (Go:
  /// sysMap.)
  bool (*map)(void* context, std::byte* start, std::size_t bytes) = nullptr;
  /// Makes pages usable; false when the system has none. Null: pages always are.
  bool (*commit)(void* context, std::byte* start, std::size_t bytes) = nullptr;
  /// Gives the memory of unused pages back; false, and they keep it, when the system refuses.
  /// Null: pages keep their memory.
  bool (*decommit)(void* context, std::byte* start, std::size_t bytes) = nullptr;
  /// Gives the memory of unused pages back and has every touch of them end in a signal; false, and
  /// they can be used, when the system refuses. Null: there is no such thing.
  bool (*fault)(void* context, std::byte* start, std::size_t bytes) = nullptr;
  /// The contrary: they are as after decommit. False: they still cannot be touched.
  bool (*unfault)(void* context, std::byte* start, std::size_t bytes) = nullptr;
  /// Address space for `bytes` more, a multiple of arena_bytes and aligned to it, right behind
  /// `after` if that can be; nullptr when there is none. The heap keeps it until it goes. Null:
  /// there is the reservation only.
  std::byte* (*reserve)(void* context, std::byte* after, std::size_t bytes) = nullptr;
  /// Takes back what `reserve` gave, if the heap can do nothing with it.
  void (*unreserve)(void* context, std::byte* start, std::size_t bytes) = nullptr;
  /// The most bytes that the heap may have with what `reserve` gives; no more than
  /// max_reserve_bytes count.
  std::size_t most_bytes = 0;
  /// Pages may hold anything after commit. False: fresh and decommitted pages read as zero.
  bool needzero_after_decommit = true;
};

/// What pages without objects are for: memory that is not freed by heap::free.
enum class manual_use : std::uint8_t {
  stacks,
  regions,
  quarantine,  ///< nothing any more: they cannot be touched
};
inline constexpr unsigned manual_uses = 3;

/// What a page belongs to, in one word: a span's address, which is positive, or something negative.
class page_owner {
 public:
  constexpr page_owner() = default;
  constexpr explicit page_owner(std::uintptr_t bits) : bits_(bits) {}
  static page_owner of(mspan* s) { return page_owner(reinterpret_cast<std::uintptr_t>(s)); }
  static constexpr page_owner device() { return page_owner(device_bits); }
  /// Page `index` of a span that is gone: pointers that its objects had can still be told.
  static constexpr page_owner gone(unsigned span_class, std::size_t index) {
    return page_owner(gone_bit | std::uintptr_t{span_class} | std::uintptr_t{index} << 8);
  }
  /// A span without objects. It looks like no span to those who free and look up objects.
  static page_owner manual(mspan* s) {
    return page_owner(gone_bit | manual_bit | reinterpret_cast<std::uintptr_t>(s));
  }

  constexpr std::uintptr_t bits() const { return bits_; }
  constexpr bool is_span() const { return static_cast<std::intptr_t>(bits_) > 0; }
  mspan* span() const { return reinterpret_cast<mspan*>(bits_); }
  constexpr bool is_device() const { return bits_ == device_bits; }
  constexpr bool is_gone() const { return (bits_ & (gone_bit | manual_bit)) == gone_bit; }
  constexpr unsigned gone_class() const { return static_cast<unsigned>(bits_ & 0xff); }
  constexpr std::size_t gone_index() const { return (bits_ & ~gone_bit) >> 8; }
  constexpr bool is_manual() const {
    return (bits_ & (gone_bit | manual_bit)) == (gone_bit | manual_bit) && !is_device();
  }
  mspan* manual_span() const {
    return reinterpret_cast<mspan*>(bits_ & ~(gone_bit | manual_bit | parts_mask));
  }
  /// A page of a span without objects has a bit for each fourth of it, for who divides it up. They
  /// are the bits of a record's address that are always 0.
  static constexpr std::size_t parts = 4;
  constexpr bool has_part(std::size_t i) const { return (bits_ >> i & 1) != 0; }
  constexpr page_owner with_part(std::size_t i) const {
    return page_owner(bits_ | std::uintptr_t{1} << i);
  }
  constexpr page_owner without_part(std::size_t i) const {
    return page_owner(bits_ & ~(std::uintptr_t{1} << i));
  }

 private:
  static constexpr std::uintptr_t gone_bit = ~(~std::uintptr_t{0} >> 1);
  static constexpr std::uintptr_t manual_bit = gone_bit >> 1;  // above every address of a program
  static constexpr std::uintptr_t device_bits = ~std::uintptr_t{0};
  static constexpr std::uintptr_t parts_mask = (std::uintptr_t{1} << parts) - 1;
  static_assert(alignof(mspan) > parts_mask);
  std::uintptr_t bits_ = 0;  // never used
};

/// Pages and span records that one thread takes without the heap's lock.
struct page_stock {
  static constexpr std::size_t max_span_pages = 15;  ///< longer spans come from the heap directly
  static constexpr unsigned max_records = 16;
  page_cache pages;
  std::array<mspan*, max_records> records{};
  unsigned count = 0;
};

/// Why the memory of free pages was given back to the system.
enum class scavenge_cause : std::uint8_t {
  asked,       ///< trim
  growth,      ///< the heap grew although it had free pages: as much as it grew by
  limit,       ///< the memory limit was in the way, or the system had no more memory
  background,  ///< it had been free for a while
};
inline constexpr unsigned scavenge_causes = 4;

struct mheap_stats {
  /// Without the unswept, which hold nothing that lives.
  std::size_t spans = 0, pages_in_use = 0;
  std::size_t unswept_spans = 0, unswept_pages = 0;
  std::size_t device_pages = 0, free_pages = 0, peak_pages = 0;
  std::size_t grown_pages = 0, scavenged_pages = 0;
  std::size_t device_arenas = 0, host_arenas = 0;
  std::size_t span_sys = 0, tiny_sys = 0, metadata_sys = 0;
  std::size_t span_inuse = 0;      ///< bytes of records that are no dead span's
  std::size_t page_table_sys = 0;  ///< bytes of tables for the pages grown so far
  std::array<std::size_t, manual_uses> manual_pages{};
  std::size_t committed_pages = 0;                              ///< that hold memory, or may
  std::array<std::uint64_t, scavenge_causes> scavenged_ever{};  ///< pages, by cause
};

/// The same pages counted one by one: what the figures of mheap_stats have to be.
struct page_recount {
  std::size_t grown = 0, free = 0, scavenged = 0;                  ///< by the bitmaps
  std::size_t owned_by_spans = 0, device = 0, owned_manually = 0;  ///< by the page owners
  std::array<std::size_t, page_state_count> by_state{};      ///< of all pages of the reservation
  std::size_t spans = 0, in_spans = 0, in_manual_spans = 0;  ///< by the span records
  std::size_t unswept_spans = 0, in_unswept_spans = 0;       ///< not among these
};

/// Thread-safe, unless said otherwise.
class mheap {
 public:
  /// Base aligned to a page, two pages at least (else std::invalid_argument).
  mheap(std::byte* base, std::size_t reserve_bytes, const page_source& source);
  mheap(const mheap&) = delete;
  mheap& operator=(const mheap&) = delete;

  /// The reservation. Its pages have the numbers below reserve_pages: the distance from the base.
  /// The fast paths and the device know these alone.
  std::byte* base() const { return base_; }
  std::size_t reserve_pages() const { return reserve_bytes_ / page_size; }
  std::size_t reserve_bytes() const { return reserve_bytes_; }
  /// Bytes of the reservation and of the arenas that came later; and the most there can be.
  std::size_t total_bytes() const {
    return reserve_bytes_ + far_arenas_.load(std::memory_order_relaxed) * arena_bytes;
  }
  std::size_t most_bytes() const { return most_bytes_; }
  /// The number of the page that holds p, wherever that is; no_page: it is none of the heap's.
  std::size_t page_number(const void* p) const {
    const std::size_t offset =
        reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(base_);
    return offset < reserve_bytes_ ? offset >> page_shift : map_.page_of(p);
  }
  static constexpr std::size_t no_page = arena_map::none;
  /// What the page that holds p belongs to; to nothing, as a page that was never used, if there is
  /// no such page.
  page_owner owner_at(const void* p) const {
    const std::size_t page = page_number(p);
    return page == no_page ? page_owner() : owner(page);
  }
  persistentalloc& metadata() { return metadata_; }

  /// What a page belongs to. Acquire: a span's record is complete.
  page_owner owner(std::size_t page) const { return owner(owners(), page); }
  const std::uintptr_t* owners() const { return owners_.data(); }
  static page_owner owner(const std::uintptr_t* owners, std::size_t page) {
    return page_owner(
        std::atomic_ref(const_cast<std::uintptr_t&>(owners[page])).load(std::memory_order_acquire));
  }
  bool is_device_page(std::size_t page) const {
    return page < reserve_pages() && owner(page).is_device();
  }

  /// A span of n pages with all slots free, or with its one object taken (class 0). nullptr when
  /// there is no room.
  mspan* alloc_span(std::size_t n, unsigned span_class, span_status status, page_stock& stock);
  /// A large object's span, its address aligned to align_pages (a power of two) pages.
  mspan* alloc_large(std::size_t n, std::size_t align_pages, unsigned span_class,
                     page_stock& stock);
  /// Makes a large object's span longer, by the pages behind it, or shorter; its owner alone uses
  /// it. False when those pages are not free, or can have no memory: then nothing is done.
  bool grow_large(mspan* s, std::size_t npages);
  void shrink_large(mspan* s, std::size_t npages);
  /// Takes a swept span without live objects that is in no list, no set (else aborts) and no cache.
  void free_span(mspan* s);
  /// Gives the pages and records of a thread's stock back.
  void flush(page_stock& stock);

  /// A span of n pages without objects, which its taker divides up himself, by its free bits if he
  /// likes: it has none set. Addresses in it are no objects to host_heap. nullptr when there is no
  /// room. Contents are indeterminate. (Go: allocManual, freeManual.)
  mspan* alloc_manual(std::size_t n, manual_use use);
  void free_manual(mspan* s, manual_use use);
  /// Changes the owner of a page from `seen`, which is what it is now on failure; for the bits of
  /// its parts.
  bool exchange_owner(std::size_t page, page_owner& seen, page_owner to);
  /// Makes a span of regions one of the quarantine, whose pages cannot be touched; false, and
  /// nothing done, where the page source cannot.
  bool quarantine_manual(mspan* s);
  /// Frees a span of the quarantine; false when the system refuses to make it usable: it stays as
  /// it is.
  bool end_quarantine(mspan* s);

  page_run take_device_pages(std::uint32_t min_pages, std::uint32_t want_pages);
  void give_back_device_pages(page_run run);
  /// Whether n pages in a row, all of them in [first, end), are in no span of the host: free, or
  /// lent to the device, and whether the memory limit allows so many beside the host's. Reads at
  /// most end - first owners, few where spans lie close together.
  bool has_room(std::size_t n, std::size_t first, std::size_t end) const;
  /// Has the system give memory to what tables say of the next so many pages, which else the first
  /// request for these waits for: a millisecond a gigabyte. False when all have it. One thread at a
  /// time, beside any use of the heap.
  bool prepare_tables(std::size_t pages);

  /// heap_arenas::take_new_arenas
  heap_arenas::arena_run take_new_arenas() {
    const std::scoped_lock lock(mutex_);
    return arenas_.take_new_arenas();
  }

  /// Gives the memory of free pages back to the source, of those at the highest addresses first,
  /// and of `most` at most. Returns their number.
  std::size_t scavenge(scavenge_cause cause, std::size_t most = page_allocation::npos);
  /// Bytes of memory that pages and records may have together. Before an allocation exceeds them,
  /// free pages give up theirs; if that is not enough, there is no room. Pages that are in use are
  /// not taken from anyone when the limit is lowered. Any time.
  void set_memory_limit(std::size_t bytes) {
    memory_limit_.store(bytes, std::memory_order_relaxed);
  }
  std::size_t memory_limit() const { return memory_limit_.load(std::memory_order_relaxed); }
  static constexpr std::size_t no_limit = ~std::size_t{0};
  /// Pages that have an owner: spans that are not unswept, the device, stacks, regions.
  std::size_t taken_pages() const;
  /// Those of spans. Relaxed: a figure, by which threads choose when to look for what is idle.
  std::size_t span_pages() const { return pages_in_use_.load(std::memory_order_relaxed); }
  /// Whether an eighth of the reservation and of the memory limit is left: pages are then a price
  /// that may be paid for time.
  bool has_plenty() const {
    const std::size_t most = std::min(reserve_pages(), memory_limit() / page_size);
    return taken_pages() < most - most / 8;
  }
  /// The most of them at once since the last call.
  std::size_t take_window_peak() {
    return window_peak_.exchange(taken_pages(), std::memory_order_relaxed);
  }
  /// Pages that hold memory, or may.
  std::size_t committed_pages() const { return committed_pages_.load(std::memory_order_relaxed); }

  /// Changes only while no call is in flight.
  std::uint32_t sweepgen() const { return sweepgen_; }
  /// Makes every span unswept, or stale where it is cached. No span may be so already (else
  /// aborts).
  void next_sweep_cycle();
  /// Spans and pages that are still to be swept in this cycle. Acquire: at 0, all that the sweeps
  /// did has been done.
  std::size_t unswept_spans() const { return unswept_spans_.load(std::memory_order_acquire); }
  std::size_t unswept_pages() const { return unswept_pages_.load(std::memory_order_relaxed); }
  /// After the sweep of a span that stays.
  void note_swept(const mspan& s) {
    pages_in_use_.fetch_add(s.npages(), std::memory_order_relaxed);
    spans_.fetch_add(1, std::memory_order_relaxed);
    unswept_pages_.fetch_sub(s.npages(), std::memory_order_relaxed);
    unswept_spans_.fetch_sub(1, std::memory_order_release);
  }
  /// After the sweep of one that holds nothing: frees it, and at no moment counts it as in use.
  void free_swept_span(mspan* s);
  /// Counts spans in use anew, of which none is unswept: for the child of a fork, which came
  /// between the making of a span and its count. No call may be in flight.
  void count_spans();
  /// Pages that nobody has and that are not unswept.
  std::size_t room_pages() const {
    const std::size_t taken = taken_pages() + unswept_pages();
    const std::size_t all = total_bytes() / page_size;
    return taken < all ? all - taken : 0;
  }

  mheap_stats stats() const;
  /// O(pages). Exact while no call is in flight; pages that threads keep for spans to come are not
  /// among the free ones.
  page_recount recount() const;

  /// For a fork: nobody else is in here between the two.
  void lock() {
    mutex_.lock();
    metadata_.lock();
  }
  void unlock() {
    metadata_.unlock();
    mutex_.unlock();
  }

  /// f(span) for each span in use; not while spans come and go.
  template <class F>
  void for_each_span(F&& f) const {
    for (const mspan* s : all_spans_) {
      if (s->state() == span_state::in_use) f(*s);
    }
  }
  /// The same, for changes, with free_span allowed.
  template <class F>
  void for_each_span(F&& f) {
    for (std::size_t i = 0; i < all_spans_.size(); ++i) {
      if (all_spans_[i]->state() == span_state::in_use) f(*all_spans_[i]);
    }
  }

 private:
  // A dead record is used again after this many others: a free of a stale pointer that is under way
  // meets a record whose slots are all free.
  static constexpr std::size_t quarantine = 64;

  std::byte* page_address(std::size_t page) const {
    return page < reserve_pages() ? base_ + page * page_size : map_.address_of(page);
  }
  std::size_t page_of(const mspan* s) const { return page_number(s->base()); }
  std::size_t most_pages() const { return most_bytes_ / page_size; }
  std::size_t table_pages() const;
  bool add_arenas(std::size_t pages);
  std::atomic<std::size_t>& manual_count(manual_use use) {
    return manual_pages_[static_cast<unsigned>(use)];
  }
  void set_owner(std::size_t first, std::size_t n, page_owner o);
  page_allocation alloc_host_pages(std::size_t n, page_stock& stock);
  mspan* take_record(page_stock& stock);
  mspan* new_record_locked();
  page_allocation alloc_pages(page_user user, std::size_t n, bool from_the_other = true);
  page_allocation mapped(page_allocation got, std::size_t n, std::size_t grown_before);
  page_cache alloc_page_cache();
  bool map_chunks(std::size_t first, std::size_t n);
  bool commit(page_allocation got, std::size_t n);
  bool make_room(std::size_t pages);
  std::size_t scavenge_locked(scavenge_cause cause, std::size_t most);
  // Frees pages of which some have no memory and can get none; the others give theirs back.
  void abandon(page_allocation got, std::size_t n);
  void abandon_locked(page_allocation got, std::size_t n);
  /// Frees a span's pages and record, and takes them off two figures.
  void end_span(mspan* s, std::atomic<std::size_t>& spans, std::atomic<std::size_t>& pages);
  mspan* make_span(page_allocation got, std::size_t n, unsigned span_class, span_status status,
                   page_stock& stock);
  void note_peak();
  void free_manual(mspan* s, manual_use use, bool scavenged);

  std::byte* const base_;
  const std::size_t reserve_bytes_;  // whole pages
  const std::size_t most_bytes_;     // whole arenas beyond the reservation
  const page_source source_;

  mutable std::mutex mutex_;  // guards what follows up to the figures; the innermost lock
  persistentalloc metadata_;
  heap_arenas arenas_;
  arena_map map_;                 // looked into without the lock
  std::byte* map_end_ = nullptr;  // where the last arenas in it end
  fixalloc span_alloc_;
  fixalloc tiny_mask_alloc_;
  span_list dead_;
  sys_vector<mspan*> all_spans_;  // every record ever made

  lazy_table<std::uintptr_t> owners_;
  page_states states_;
  lazy_table<std::uint8_t> mapped_;  // by chunk
  std::uint32_t sweepgen_ = 4;       // so that h - 2 is not what a new record has

  std::size_t prepared_ = 0;  // pages that prepare_tables has come to: its caller's, not the lock's

  // Figures. Relaxed: they publish nothing.
  sys_counter span_sys_{0};
  sys_counter tiny_sys_{0};
  sys_counter map_sys_{0};
  std::atomic<std::size_t> far_arenas_{0};
  std::atomic<std::size_t> spans_{0};  // without the unswept, as in the next
  std::atomic<std::size_t> pages_in_use_{0};
  std::atomic<std::size_t> unswept_spans_{0};
  std::atomic<std::size_t> unswept_pages_{0};
  std::atomic<std::size_t> device_pages_{0};
  std::atomic<std::size_t> peak_pages_{0};
  std::atomic<std::size_t> window_peak_{0};
  std::atomic<std::size_t> committed_pages_{0};
  std::atomic<std::size_t> memory_limit_{no_limit};
  std::array<std::atomic<std::uint64_t>, scavenge_causes> scavenged_ever_{};
  std::array<std::atomic<std::size_t>, manual_uses> manual_pages_{};
};

}  // namespace warpheap
