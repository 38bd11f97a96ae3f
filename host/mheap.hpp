#pragma once

// The owner of all pages: hands out runs of them to spans and to the device, and knows for each
// page what it belongs to. (Go: mheap.)

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

/// Where the memory of the reservation comes from. Called for whole pages, by any thread and with
/// locks of the heap held, so no function may use the heap or wait for a kernel.
struct page_source {
  void* context = nullptr;
  /// Prepares chunks, the last of which may be partial, so that commit can make their memory
  /// usable. Called once, before the first use of a page there. False when the system refuses.
  /// Null: all chunks are prepared. (Go: sysMap.)
  bool (*map)(void* context, std::byte* start, std::size_t bytes) = nullptr;
  /// Makes pages usable; false when the system has no memory. Null: pages always are.
  bool (*commit)(void* context, std::byte* start, std::size_t bytes) = nullptr;
  /// Gives back the memory of unused pages; false when the system refuses, and the pages keep it.
  /// Null: pages keep their memory.
  bool (*decommit)(void* context, std::byte* start, std::size_t bytes) = nullptr;
  /// Gives back the memory of unused pages and makes every access to them a signal; false when the
  /// system refuses, and the pages stay usable. Null: not supported.
  bool (*fault)(void* context, std::byte* start, std::size_t bytes) = nullptr;
  /// Undoes fault: the pages are as after decommit. False: they still cannot be accessed.
  bool (*unfault)(void* context, std::byte* start, std::size_t bytes) = nullptr;
  /// Address space for `bytes` more, a multiple of arena_bytes and aligned to it, directly behind
  /// `after` if possible; nullptr when there is none. The heap keeps it as long as it lives. Null:
  /// there is only the reservation.
  std::byte* (*reserve)(void* context, std::byte* after, std::size_t bytes) = nullptr;
  /// Takes back what `reserve` gave, if the heap cannot use it.
  void (*unreserve)(void* context, std::byte* start, std::size_t bytes) = nullptr;
  /// The most bytes that the heap may have, including what `reserve` gives; capped at
  /// max_reserve_bytes.
  std::size_t most_bytes = 0;
  /// Pages may hold anything after commit. False: fresh and decommitted pages read as zero.
  bool needzero_after_decommit = true;
};

/// What pages without objects are for: memory that is not freed by heap::free.
enum class manual_use : std::uint8_t {
  stacks,
  regions,
  quarantine,  ///< no use any more: they cannot be accessed
};
inline constexpr unsigned manual_uses = 3;

/// What a page belongs to, in one word: a span's address (positive), or a negative value. 0: never
/// used.
class page_owner {
 public:
  constexpr page_owner() = default;
  constexpr explicit page_owner(std::uintptr_t bits) : bits_(bits) {}
  static page_owner of(mspan* s) { return page_owner(reinterpret_cast<std::uintptr_t>(s)); }
  static constexpr page_owner device() { return page_owner(device_bits); }
  /// Page `index` of a span that is gone: pointers to its former objects can still be recognised.
  static constexpr page_owner gone(unsigned span_class, std::size_t index) {
    return page_owner(gone_bit | std::uintptr_t{span_class} | std::uintptr_t{index} << 8);
  }
  /// A span without objects. To code that frees or looks up objects it is no span.
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
  /// Each page of a span without objects has a bit for each quarter, for the code that divides it
  /// up. The bits are those of a record's address that are always 0.
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
  static constexpr std::uintptr_t manual_bit = gone_bit >> 1;  // above all addresses of a program
  static constexpr std::uintptr_t device_bits = ~std::uintptr_t{0};
  static constexpr std::uintptr_t parts_mask = (std::uintptr_t{1} << parts) - 1;
  static_assert(alignof(mspan) > parts_mask);
  std::uintptr_t bits_ = 0;  // never used
};

/// Pages and span records that one thread has, to take from without the heap's lock.
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
  std::size_t span_inuse = 0;      ///< bytes of records, except those of dead spans
  std::size_t page_table_sys = 0;  ///< bytes of tables for the pages grown so far
  std::array<std::size_t, manual_uses> manual_pages{};
  std::size_t committed_pages = 0;                              ///< pages that hold memory, or may
  std::array<std::uint64_t, scavenge_causes> scavenged_ever{};  ///< pages, by cause
};

/// The same pages counted one by one: what the figures of mheap_stats must equal.
struct page_recount {
  std::size_t grown = 0, free = 0, scavenged = 0;                  ///< by the bitmaps
  std::size_t owned_by_spans = 0, device = 0, owned_manually = 0;  ///< by the page owners
  std::array<std::size_t, page_state_count> by_state{};      ///< of all pages of the reservation
  std::size_t spans = 0, in_spans = 0, in_manual_spans = 0;  ///< by the span records
  std::size_t unswept_spans = 0, in_unswept_spans = 0;       ///< not included above
};

/// Thread-safe, unless said otherwise.
class mheap {
 public:
  /// base: aligned to a page, with at least two pages behind it (else std::invalid_argument).
  mheap(std::byte* base, std::size_t reserve_bytes, const page_source& source);
  mheap(const mheap&) = delete;
  mheap& operator=(const mheap&) = delete;

  /// The reservation. Its pages are numbered from the base, below reserve_pages. The fast paths and
  /// the device know only these.
  std::byte* base() const { return base_; }
  std::size_t reserve_pages() const { return reserve_bytes_ / page_size; }
  std::size_t reserve_bytes() const { return reserve_bytes_; }
  /// Bytes of the reservation and of the arenas added later; and the most there can be.
  std::size_t total_bytes() const {
    return reserve_bytes_ + far_arenas_.load(std::memory_order_relaxed) * arena_bytes;
  }
  std::size_t most_bytes() const { return most_bytes_; }
  /// The number of the page that holds p, wherever it lies; no_page if it is not the heap's.
  std::size_t page_number(const void* p) const {
    const std::size_t offset =
        reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(base_);
    return offset < reserve_bytes_ ? offset >> page_shift : map_.page_of(p);
  }
  static constexpr std::size_t no_page = arena_map::none;
  /// What the page that holds p belongs to; for no_page, the same as for a page never used.
  page_owner owner_at(const void* p) const {
    const std::size_t page = page_number(p);
    return page == no_page ? page_owner() : owner(page);
  }
  persistentalloc& metadata() { return metadata_; }

  /// What a page belongs to. Acquire, pairs with set_owner: a span's record is complete.
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
  /// A large object's span, with its address aligned to align_pages (a power of two) pages.
  mspan* alloc_large(std::size_t n, std::size_t align_pages, unsigned span_class,
                     page_stock& stock);
  /// Makes a large object's span longer, by the pages behind it, or shorter; only its owner may use
  /// it meanwhile. False, with nothing done, when those pages are not free or cannot have memory.
  bool grow_large(mspan* s, std::size_t npages);
  void shrink_large(mspan* s, std::size_t npages);
  /// Takes back a swept span without live objects, in no list and no cache; aborts if it is in a
  /// set.
  void free_span(mspan* s);
  /// Gives back the pages and records of a thread's stock.
  void flush(page_stock& stock);

  /// A span of n pages without objects, which the caller divides up itself, with the help of its
  /// free bits if it likes: initially no slot is free. To host_heap, addresses in it are no
  /// objects. nullptr when there is no room. Contents are indeterminate. (Go: allocManual,
  /// freeManual.)
  mspan* alloc_manual(std::size_t n, manual_use use);
  void free_manual(mspan* s, manual_use use);
  /// Changes the owner of a page from `seen`, which is updated to the current one on failure; for
  /// the bits of its parts.
  bool exchange_owner(std::size_t page, page_owner& seen, page_owner to);
  /// Moves a span of regions to the quarantine, where its pages cannot be accessed; false, with
  /// nothing done, if the page source cannot do that.
  bool quarantine_manual(mspan* s);
  /// Frees a quarantined span; false when the system refuses to make it usable: the span then stays
  /// as it is.
  bool end_quarantine(mspan* s);

  page_run take_device_pages(std::uint32_t min_pages, std::uint32_t want_pages);
  void give_back_device_pages(page_run run);
  /// Whether some n consecutive pages, all in [first, end), are in no span of the host (free, or
  /// lent to the device), and the memory limit allows that many beside the host's. Reads at most
  /// end - first owners, and few where spans lie close together.
  bool has_room(std::size_t n, std::size_t first, std::size_t end) const;
  /// Makes the system provide memory for the tables of the next `pages` pages; otherwise the first
  /// request for these pages waits for it, a millisecond per gigabyte. False when all have it. One
  /// thread at a time, concurrently with any use of the heap.
  bool prepare_tables(std::size_t pages);

  /// heap_arenas::take_new_arenas
  heap_arenas::arena_run take_new_arenas() {
    const std::scoped_lock lock(mutex_);
    return arenas_.take_new_arenas();
  }

  /// Gives the memory of at most `most` free pages back to the source, the highest addresses first.
  /// Returns their number.
  std::size_t scavenge(scavenge_cause cause, std::size_t most = page_allocation::npos);
  /// Bytes of memory that pages and records may have together. Before an allocation exceeds the
  /// limit, free pages give up their memory; if that is not enough, there is no room. Lowering the
  /// limit takes no page in use from anyone. May be called at any time.
  void set_memory_limit(std::size_t bytes) {
    memory_limit_.store(bytes, std::memory_order_relaxed);
  }
  std::size_t memory_limit() const { return memory_limit_.load(std::memory_order_relaxed); }
  static constexpr std::size_t no_limit = ~std::size_t{0};
  /// Pages that have an owner: spans other than unswept ones, the device, stacks, regions.
  std::size_t taken_pages() const;
  /// Those of spans. Relaxed: a figure, by which threads decide when to look for idle spans.
  std::size_t span_pages() const { return pages_in_use_.load(std::memory_order_relaxed); }
  /// Whether an eighth of the reservation and of the memory limit is left: pages may then be traded
  /// for time.
  bool has_plenty() const {
    const std::size_t most = std::min(reserve_pages(), memory_limit() / page_size);
    return taken_pages() < most - most / 8;
  }
  /// The largest number of taken pages at once since the last call.
  std::size_t take_window_peak() {
    return window_peak_.exchange(taken_pages(), std::memory_order_relaxed);
  }
  /// Pages that hold memory, or may.
  std::size_t committed_pages() const { return committed_pages_.load(std::memory_order_relaxed); }

  /// Changes only while no call is in flight.
  std::uint32_t sweepgen() const { return sweepgen_; }
  /// Makes every span unswept, or stale if it is cached. Aborts if there are unswept spans already.
  void next_sweep_cycle();
  /// Spans and pages still to be swept in this cycle. Acquire, pairs with note_swept: when it finds
  /// 0, it sees all that the sweeps did.
  std::size_t unswept_spans() const { return unswept_spans_.load(std::memory_order_acquire); }
  std::size_t unswept_pages() const { return unswept_pages_.load(std::memory_order_relaxed); }
  /// Called after the sweep of a span that stays.
  void note_swept(const mspan& s) {
    pages_in_use_.fetch_add(s.npages(), std::memory_order_relaxed);
    spans_.fetch_add(1, std::memory_order_relaxed);
    unswept_pages_.fetch_sub(s.npages(), std::memory_order_relaxed);
    unswept_spans_.fetch_sub(1, std::memory_order_release);
  }
  /// Called after the sweep of a span that holds nothing: frees it without ever counting it as in
  /// use.
  void free_swept_span(mspan* s);
  /// Recounts spans in use, none of which may be unswept: for the child of a fork that came between
  /// the making of a span and its count. No call may be in flight.
  void count_spans();
  /// Pages that belong to nothing, not even to an unswept span.
  std::size_t room_pages() const {
    const std::size_t taken = taken_pages() + unswept_pages();
    const std::size_t all = total_bytes() / page_size;
    return taken < all ? all - taken : 0;
  }

  mheap_stats stats() const;
  /// O(pages). Exact while no call is in flight; pages that threads keep for spans to come are not
  /// among the free ones.
  page_recount recount() const;

  /// For a fork: no other thread is in here between the two.
  void lock() {
    mutex_.lock();
    metadata_.lock();
  }
  void unlock() {
    metadata_.unlock();
    mutex_.unlock();
  }

  /// Calls f(span) for each span in use; not while spans come and go.
  template <class F>
  void for_each_span(F&& f) const {
    for (const mspan* s : all_spans_) {
      if (s->state() == span_state::in_use) f(*s);
    }
  }
  /// The same with write access; f may call free_span.
  template <class F>
  void for_each_span(F&& f) {
    for (std::size_t i = 0; i < all_spans_.size(); ++i) {
      if (all_spans_[i]->state() == span_state::in_use) f(*all_spans_[i]);
    }
  }

 private:
  // A dead record is reused only after this many others, so that a free of a stale pointer that is
  // under way meets a record whose slots are all free.
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
  // Frees pages some of which have no memory and can get none; the others give theirs back.
  void abandon(page_allocation got, std::size_t n);
  void abandon_locked(page_allocation got, std::size_t n);
  /// Frees a span's pages and record, and subtracts them from the two figures.
  void end_span(mspan* s, std::atomic<std::size_t>& spans, std::atomic<std::size_t>& pages);
  mspan* make_span(page_allocation got, std::size_t n, unsigned span_class, span_status status,
                   page_stock& stock);
  void note_peak();
  void free_manual(mspan* s, manual_use use, bool scavenged);

  std::byte* const base_;
  const std::size_t reserve_bytes_;  // whole pages
  const std::size_t most_bytes_;     // whole arenas beyond the reservation
  const page_source source_;

  mutable std::mutex mutex_;  // guards what follows, up to the figures; the innermost lock
  persistentalloc metadata_;
  heap_arenas arenas_;
  arena_map map_;                 // read without the lock
  std::byte* map_end_ = nullptr;  // where the last arenas in it end
  fixalloc span_alloc_;
  fixalloc tiny_mask_alloc_;
  span_list dead_;
  sys_vector<mspan*> all_spans_;  // every record ever made

  lazy_table<std::uintptr_t> owners_;
  page_states states_;
  lazy_table<std::uint8_t> mapped_;  // by chunk
  std::uint32_t sweepgen_ = 4;       // so that h - 2 is not the value of a new record

  std::size_t prepared_ = 0;  // pages prepare_tables has reached: its caller's, not the lock's

  // Figures. Relaxed: they publish nothing.
  sys_counter span_sys_{0};
  sys_counter tiny_sys_{0};
  sys_counter map_sys_{0};
  std::atomic<std::size_t> far_arenas_{0};
  std::atomic<std::size_t> spans_{0};  // without unswept ones, like the next
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
