#include "host/mheap.hpp"

#include <algorithm>
#include <new>
#include <stdexcept>

#include <warpheap/bits.hpp>

namespace warpheap {

namespace {

std::size_t checked_pages(const std::byte* base, std::size_t reserve_bytes) {
  const std::size_t pages = reserve_bytes / page_size;
  if (base == nullptr || reinterpret_cast<std::uintptr_t>(base) % page_size != 0) {
    throw std::invalid_argument("warpheap: the heap's base is not aligned to a page");
  }
  if (pages < 2) throw std::invalid_argument("warpheap: the heap needs two pages at least");
  return pages;
}

/// The number of arenas that the heap may have beyond its reservation.
std::size_t more_arenas(const page_source& source, std::size_t reserve_bytes) {
  const std::size_t most = std::min(source.most_bytes, max_reserve_bytes);
  return source.reserve == nullptr || most <= reserve_bytes ? 0
                                                            : (most - reserve_bytes) / arena_bytes;
}

}  // namespace

mheap::mheap(std::byte* base, std::size_t reserve_bytes, const page_source& source)
    : base_(base),
      reserve_bytes_(checked_pages(base, reserve_bytes) * page_size),
      most_bytes_(reserve_bytes_ + more_arenas(source, reserve_bytes_) * arena_bytes),
      source_(source),
      arenas_(reserve_pages(), most_bytes_ == reserve_bytes_ ? 0 : table_pages()),
      map_(heap_arenas::first_far_page(reserve_pages()),
           (most_bytes_ - reserve_bytes_) / arena_bytes),
      owners_(table_pages()),
      states_(table_pages()),
      mapped_(bits::ceil_div(table_pages(), std::size_t{chunk_pages})) {
  static_assert(class_to_objects(tiny_class) == page_size / tiny_size);
  span_alloc_.init(
      metadata_, sizeof(mspan), alignof(mspan), span_sys_,
      [](void* self, void* record) {
        (void)static_cast<mheap*>(self)->all_spans_.push_back(new (record) mspan);
      },
      this, /*zero=*/false);
  tiny_mask_alloc_.init(
      metadata_, sizeof(tiny_mask_block), alignof(tiny_mask_block), tiny_sys_,
      [](void*, void* record) { new (record) tiny_mask_block; }, nullptr, /*zero=*/false);
}

/// The number of pages that have a number, now or later.
std::size_t mheap::table_pages() const {
  if (most_bytes_ == reserve_bytes_) return reserve_pages();
  return heap_arenas::first_far_page(reserve_pages()) + (most_bytes_ - reserve_bytes_) / page_size;
}

/// Gets address space for a run of `pages` pages from the source. mutex_ is held. (Go:
/// mheap.sysAlloc.)
bool mheap::add_arenas(std::size_t pages) {
  if (map_.room() == 0 || !arenas_.make_room_for_far()) return false;
  // One page more: the first page of a run of arenas is never handed out.
  const std::size_t wanted = bits::ceil_div(pages + 1, mapped_arena_pages);
  if (wanted > map_.room()) return false;
  const std::size_t bytes = wanted * arena_bytes;
  std::byte* const start = source_.reserve(source_.context, map_end_, bytes);
  if (start == nullptr) return false;
  if (!map_.add(start, wanted, metadata_, map_sys_)) {
    if (source_.unreserve != nullptr) source_.unreserve(source_.context, start, bytes);
    return false;
  }
  arenas_.add_far(wanted * mapped_arena_pages, start == map_end_);
  map_end_ = start + bytes;
  far_arenas_.fetch_add(wanted, std::memory_order_relaxed);
  return true;
}

void mheap::set_owner(std::size_t first, std::size_t n, page_owner o) {
  for (std::size_t i = first; i < first + n; ++i) {
    // Release, pairs with owner: a thread that finds the span here finds its record complete.
    std::atomic_ref(owners_[i]).store(o.bits(), std::memory_order_release);
  }
}

mspan* mheap::new_record_locked() {
  if (dead_.size() > quarantine) return dead_.pop_front();
  if (!all_spans_.reserve(all_spans_.size() + 1)) return nullptr;
  return static_cast<mspan*>(span_alloc_.alloc());
}

mspan* mheap::take_record(page_stock& stock) {
  if (stock.count == 0) {
    const std::scoped_lock lock(mutex_);
    while (stock.count < page_stock::max_records / 2) {
      mspan* s = new_record_locked();
      if (s == nullptr) break;
      stock.records[stock.count++] = s;
    }
    if (stock.count == 0) return nullptr;
  }
  return stock.records[--stock.count];
}

mspan* mheap::make_span(page_allocation got, std::size_t n, unsigned span_class, span_status status,
                        page_stock& stock) {
  mspan* s = take_record(stock);
  tiny_mask_block* masks = nullptr;
  if (s != nullptr && span_class == tiny_span_class) {
    const std::scoped_lock lock(mutex_);
    masks = static_cast<tiny_mask_block*>(tiny_mask_alloc_.alloc());
    if (masks == nullptr) {
      dead_.insert_back(s);
      s = nullptr;
    }
  }
  if (s == nullptr) {
    const std::scoped_lock lock(mutex_);
    arenas_.free(got.first, n);
    return nullptr;
  }
  s->init(page_address(got.first), n, span_class);
  s->reset_phase(sweepgen_);
  s->needzero = source_.needzero_after_decommit || got.scavenged != n;
  // Relaxed: set_owner publishes it.
  s->tiny_masks.store(masks, std::memory_order_relaxed);
  if (masks != nullptr) masks->clear();
  s->set_status(status);
  set_owner(got.first, n, page_owner::of(s));
  // Last: in the child of a fork that cut the making of a record short, the record is either dead
  // or complete. One not yet counted is counted by count_spans.
  s->set_state(span_state::in_use);
  spans_.fetch_add(1, std::memory_order_relaxed);
  pages_in_use_.fetch_add(n, std::memory_order_relaxed);
  note_peak();
  return s;
}

/// Pages for the host; if there is no run, the pages in the thread's stock are given back for it.
/// mutex_ is held.
page_allocation mheap::alloc_host_pages(std::size_t n, page_stock& stock) {
  page_allocation got = alloc_pages(page_user::host, n);
  if (!got && !stock.pages.empty()) {
    arenas_.flush(stock.pages);
    got = alloc_pages(page_user::host, n);
  }
  return got;
}

mspan* mheap::alloc_span(std::size_t n, unsigned span_class, span_status status,
                         page_stock& stock) {
  page_allocation got = stock.pages.alloc(n);
  if (!got) {
    const std::scoped_lock lock(mutex_);
    if (stock.pages.empty() && n <= page_stock::max_span_pages) {
      stock.pages = alloc_page_cache();
      got = stock.pages.alloc(n);
    }
    if (!got) got = alloc_host_pages(n, stock);
    if (!got) return nullptr;
  }
  if (!commit(got, n)) {
    abandon(got, n);
    return nullptr;
  }
  return make_span(got, n, span_class, status, stock);
}

mspan* mheap::alloc_large(std::size_t n, std::size_t align_pages, unsigned span_class,
                          page_stock& stock) {
  if (n > most_pages() || align_pages > most_pages()) return nullptr;
  page_allocation got;
  const std::size_t slack = align_pages - 1;
  const std::size_t longer = n + slack;
  {
    const std::scoped_lock lock(mutex_);
    got = alloc_host_pages(longer, stock);
  }
  if (!got) return nullptr;
  if (!commit(got, longer)) {
    abandon(got, longer);
    return nullptr;
  }
  if (slack > 0) {
    // The excess at both ends goes back at once. It was committed too, so that a page counts as
    // given back to the system only when it is.
    const auto address = reinterpret_cast<std::uintptr_t>(page_address(got.first));
    const std::size_t head =
        (bits::align_up(address, align_pages * page_size) - address) / page_size;
    const std::scoped_lock lock(mutex_);
    if (head > 0) arenas_.free(got.first, head);
    if (head < slack) arenas_.free(got.first + head + n, slack - head);
    // Counts as fresh only if all its pages are.
    got = {got.first + head, got.scavenged == longer ? n : 0};
  }
  return make_span(got, n, span_class, span_status::in(span_place::large, span_class), stock);
}

void mheap::free_span(mspan* s) { end_span(s, spans_, pages_in_use_); }
void mheap::free_swept_span(mspan* s) { end_span(s, unswept_spans_, unswept_pages_); }

void mheap::end_span(mspan* s, std::atomic<std::size_t>& spans, std::atomic<std::size_t>& pages) {
  const std::size_t first = page_of(s);
  const std::size_t n = s->npages();
  if (s->set() != nullptr) fatal("span is in a set");
  // A free through a stale record is answered "double free": all its slots are free.
  s->free_all();
  s->set_place(span_place::none);
  for (std::size_t i = 0; i < n; ++i) {
    set_owner(first + i, 1, page_owner::gone(s->span_class(), i));
  }
  const std::scoped_lock lock(mutex_);
  // A fork comes before or after all of this: a record in use is counted.
  s->set_state(span_state::dead);
  if (auto* masks = s->tiny_masks.exchange(nullptr, std::memory_order_relaxed); masks != nullptr) {
    tiny_mask_alloc_.free(masks);
  }
  arenas_.free(first, n);
  dead_.insert_back(s);
  pages.fetch_sub(n, std::memory_order_relaxed);
  spans.fetch_sub(1, std::memory_order_release);
}

void mheap::flush(page_stock& stock) {
  const std::scoped_lock lock(mutex_);
  arenas_.flush(stock.pages);
  while (stock.count > 0) dead_.insert_back(stock.records[--stock.count]);
}

page_run mheap::take_device_pages(std::uint32_t min_pages, std::uint32_t want_pages) {
  if (min_pages == 0) min_pages = 1;
  std::size_t n = 0;
  page_allocation got;
  {
    const std::scoped_lock lock(mutex_);
    // Pages in the host's arenas only when there are too few elsewhere.
    for (const bool from_the_host : {false, true}) {
      n = std::max(min_pages, want_pages);
      while (!(got = alloc_pages(page_user::device, n, from_the_host)) && n != min_pages)
        n = std::max<std::size_t>(min_pages, n / 2);
      if (got) break;
    }
  }
  if (!got) return {};
  if (!commit(got, n)) {
    abandon(got, n);
    // The memory limit may leave room for fewer.
    return n > min_pages ? take_device_pages(
               min_pages, std::max<std::uint32_t>(min_pages, static_cast<std::uint32_t>(n / 2)))
                         : page_run{};
  }
  set_owner(got.first, n, page_owner::device());
  device_pages_.fetch_add(n, std::memory_order_relaxed);
  note_peak();
  return {static_cast<page_index>(got.first), static_cast<std::uint32_t>(n)};
}

void mheap::give_back_device_pages(page_run run) {
  if (run.count == 0) return;
  for (std::size_t i = 0; i < run.count; ++i) {
    if (!is_device_page(run.first + i)) fatal("a page given back was not lent to the device");
  }
  set_owner(run.first, run.count, page_owner());
  device_pages_.fetch_sub(run.count, std::memory_order_relaxed);
  const std::scoped_lock lock(mutex_);
  arenas_.free(run.first, run.count);
}

bool mheap::has_room(std::size_t n, std::size_t first, std::size_t end) const {
  if (const std::size_t limit = memory_limit(); limit != no_limit) {
    // If more is committed than the limit allows, because it was lowered, free pages may already
    // have memory.
    const std::size_t most = limit / page_size;
    const std::size_t of_host = taken_pages() - device_pages_.load(std::memory_order_relaxed);
    if (committed_pages_.load(std::memory_order_relaxed) <= most && of_host + n > most)
      return false;
  }
  end = std::min(end, reserve_pages());
  const auto is_used = [&](std::size_t page) {
    const page_owner who = owner(page);
    return who.is_span() || who.is_manual();
  };
  // Checks each place from its end down: a page in use there rules out all places that contain it.
  // The pages from `first` up to `known` are known to be free from the place before.
  for (std::size_t known = first; first + n <= end;) {
    std::size_t p = first + n;
    while (p > known && !is_used(p - 1)) --p;
    if (p == known) return true;
    known = first + n;
    first = p;
  }
  return false;
}

bool mheap::prepare_tables(std::size_t pages) {
  const std::size_t n = std::min(reserve_pages() - prepared_, pages);
  owners_.populate(prepared_, n);
  states_.populate(prepared_, n);
  arenas_.populate(prepared_, n);
  prepared_ += n;
  return prepared_ < reserve_pages();
}

void mheap::next_sweep_cycle() {
  if (unswept_spans() != 0) fatal("a sweep cycle begins before the last one ended");
  unswept_spans_.store(spans_.exchange(0, std::memory_order_relaxed), std::memory_order_relaxed);
  unswept_pages_.store(pages_in_use_.exchange(0, std::memory_order_relaxed),
                       std::memory_order_relaxed);
  sweepgen_ += 2;
}

void mheap::count_spans() {
  std::size_t spans = 0, pages = 0;
  for_each_span([&](const mspan& s) {
    ++spans;
    pages += s.npages();
  });
  spans_.store(spans, std::memory_order_relaxed);
  pages_in_use_.store(pages, std::memory_order_relaxed);
}

void mheap::note_peak() {
  const std::size_t now = taken_pages();
  for (std::atomic<std::size_t>* highest : {&peak_pages_, &window_peak_}) {
    std::size_t peak = highest->load(std::memory_order_relaxed);
    while (now > peak && !highest->compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
    }
  }
}

mheap_stats mheap::stats() const {
  const std::scoped_lock lock(mutex_);
  mheap_stats st;
  st.unswept_spans = unswept_spans();
  st.unswept_pages = unswept_pages();
  st.spans = spans_.load(std::memory_order_relaxed);
  st.pages_in_use = pages_in_use_.load(std::memory_order_relaxed);
  st.device_pages = device_pages_.load(std::memory_order_relaxed);
  st.peak_pages = peak_pages_.load(std::memory_order_relaxed);
  st.grown_pages = arenas_.grown_pages();
  st.device_arenas = arenas_.arenas(page_user::device);
  st.host_arenas = arenas_.arenas(page_user::host);
  std::size_t taken = st.pages_in_use + st.device_pages;
  for (unsigned use = 0; use < manual_uses; ++use) {
    st.manual_pages[use] = manual_pages_[use].load(std::memory_order_relaxed);
    taken += st.manual_pages[use];
  }
  st.free_pages = st.grown_pages > taken ? st.grown_pages - taken : 0;
  st.scavenged_pages = arenas_.scavenged_pages();
  st.span_sys = span_sys_.load(std::memory_order_relaxed);
  st.tiny_sys = tiny_sys_.load(std::memory_order_relaxed);
  {
    // Read under this lock, the sum includes what was counted above for each kind of record.
    const std::scoped_lock records(metadata_);
    st.metadata_sys = metadata_.sys_bytes();
  }
  st.span_inuse = span_alloc_.inuse() - dead_.size() * sizeof(mspan);
  st.page_table_sys = bits::ceil_div(st.grown_pages, std::size_t{chunk_pages})
                      * (sizeof(chunk_bits) + sizeof(page_summary) + sizeof(mapped_[0])
                         + chunk_pages * (sizeof(page_owner) + sizeof(page_state)));
  st.committed_pages = committed_pages();
  for (unsigned c = 0; c < scavenge_causes; ++c)
    st.scavenged_ever[c] = scavenged_ever_[c].load(std::memory_order_relaxed);
  return st;
}

}  // namespace warpheap
