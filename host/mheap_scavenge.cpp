// Which pages hold memory. A page gets memory at its first use. Free pages give it back to the
// system, the highest addresses first: by trim; when the heap grows although it has free pages in
// other places, as many as it grew by; before an allocation would exceed the memory limit; and
// after having been free for a while (scavenge_pacer.hpp). Spans and large objects that threads
// keep in their caches count as in use. (Go: mheap.grow, scavenge.)
#include <algorithm>

#include "host/mheap.hpp"

namespace warpheap {

/// Mapped pages for a user. mutex_ is held.
page_allocation mheap::alloc_pages(page_user user, std::size_t n, bool from_the_other) {
  const std::size_t before = arenas_.grown_pages();
  const bool may_add = user == page_user::host && map_.room() != 0;
  page_allocation got = arenas_.alloc(user, n, from_the_other && !may_add);
  // Further arenas come before those of the other user.
  if (!got && may_add) {
    (void)add_arenas(n);
    got = arenas_.alloc(user, n, from_the_other);
  }
  return mapped(got, n, before);
}

/// Maps pages taken from the arenas, or abandons them. If the heap had to grow for them although it
/// has free pages with memory in other places, as many of those give it up. mutex_ is held.
page_allocation mheap::mapped(page_allocation got, std::size_t n, std::size_t grown_before) {
  if (const std::size_t grown = arenas_.grown_pages(); grown != grown_before)
    (void)scavenge_locked(scavenge_cause::growth, grown - grown_before);
  if (!got || map_chunks(got.first, n)) return got;
  abandon_locked(got, n);
  return {};
}

/// Counts `pages` more as committed, unless the limit forbids it.
bool mheap::make_room(std::size_t pages) {
  std::size_t now = committed_pages_.load(std::memory_order_relaxed);
  for (;;) {
    const std::size_t limit = memory_limit();
    if (limit != no_limit) {
      const std::size_t records = metadata_.sys_bytes();
      const std::size_t most = limit > records ? (limit - records) / page_size : 0;
      if (now + pages > most) {
        if (pages > most || scavenge(scavenge_cause::limit, now + pages - most) == 0) return false;
        now = committed_pages_.load(std::memory_order_relaxed);
        continue;
      }
    }
    // Relaxed: a figure; its own modification order is enough to keep it within the limit.
    if (committed_pages_.compare_exchange_weak(now, now + pages, std::memory_order_relaxed))
      return true;
  }
}

/// 64 mapped pages for a thread's spans, or fewer. mutex_ is held.
page_cache mheap::alloc_page_cache() {
  page_cache pages = arenas_.alloc_to_cache(page_user::host);
  if (!pages.empty() && !map_chunks(pages.base(), 1)) arenas_.flush(pages);
  return pages;
}

/// Maps those chunks of n pages that are used for the first time. mutex_ is held.
bool mheap::map_chunks(std::size_t first, std::size_t n) {
  const std::size_t end = (first + n - 1) / chunk_pages + 1;
  for (std::size_t chunk = first / chunk_pages; chunk < end; ++chunk) {
    if (mapped_[chunk] != 0) continue;
    std::size_t last = chunk + 1;
    while (last < end && mapped_[last] == 0) ++last;
    const std::size_t from = chunk * chunk_pages;
    const std::size_t most = from < reserve_pages() ? reserve_pages() : table_pages();
    const std::size_t pages = std::min(last * chunk_pages, most) - from;
    if (source_.map != nullptr
        && !source_.map(source_.context, page_address(from), pages * page_size)) {
      return false;
    }
    states_.map(from, pages);
    std::fill(mapped_.data() + chunk, mapped_.data() + last, std::uint8_t{1});
    chunk = last;
  }
  return true;
}

/// Makes usable those of n pages that had been given back or were never used.
bool mheap::commit(page_allocation got, std::size_t n) {
  if (got.scavenged == 0) return true;
  if (!make_room(got.scavenged)) return false;
  if (source_.commit == nullptr
      || source_.commit(source_.context, page_address(got.first), n * page_size)) {
    states_.used(got.first, n, got.scavenged);
    return true;
  }
  committed_pages_.fetch_sub(got.scavenged, std::memory_order_relaxed);
  return false;
}

void mheap::abandon(page_allocation got, std::size_t n) {
  const std::scoped_lock lock(mutex_);
  abandon_locked(got, n);
}

void mheap::abandon_locked(page_allocation got, std::size_t n) {
  const std::size_t end = got.first + n;
  for (std::size_t first = got.first; first < end;) {
    const bool has_memory = states_.get(first) == page_state::ready;
    std::size_t last = first + 1;
    while (last < end && (states_.get(last) == page_state::ready) == has_memory) ++last;
    const std::size_t here = last - first;
    bool scavenged = !has_memory;
    // Pages whose memory cannot be given back keep it, and stay counted: their contents are not
    // zero.
    if (has_memory && source_.decommit != nullptr
        && source_.decommit(source_.context, page_address(first), here * page_size)) {
      states_.unused(first, here);
      committed_pages_.fetch_sub(here, std::memory_order_relaxed);
      scavenged_ever_[static_cast<unsigned>(scavenge_cause::limit)].fetch_add(
          here, std::memory_order_relaxed);
      scavenged = true;
    }
    arenas_.free(first, here, scavenged);
    first = last;
  }
}

std::size_t mheap::scavenge(scavenge_cause cause, std::size_t most) {
  const std::scoped_lock lock(mutex_);
  return scavenge_locked(cause, most);
}

/// mutex_ is held, so that no page is used while it loses its memory.
std::size_t mheap::scavenge_locked(scavenge_cause cause, std::size_t most) {
  if (source_.decommit == nullptr || arenas_.idle_pages() == 0) return 0;
  const std::size_t released = arenas_.scavenge(
      [&](std::size_t first, std::size_t n) {
        if (!source_.decommit(source_.context, page_address(first), n * page_size)) return false;
        states_.unused(first, n);
        return true;
      },
      most);
  committed_pages_.fetch_sub(released, std::memory_order_relaxed);
  scavenged_ever_[static_cast<unsigned>(cause)].fetch_add(released, std::memory_order_relaxed);
  return released;
}

std::size_t mheap::taken_pages() const {
  std::size_t n =
      pages_in_use_.load(std::memory_order_relaxed) + device_pages_.load(std::memory_order_relaxed);
  for (const auto& pages : manual_pages_) n += pages.load(std::memory_order_relaxed);
  return n;
}

}  // namespace warpheap
