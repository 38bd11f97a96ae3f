// Objects above 32 KiB: whole pages, one object, one lane at a time. Also kernels' frees of
// pointers that are not the device's.
#pragma once

#include <warpheap/detail/room.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// Runs of up to this many pages come by way of the stock, longer ones straight from the host.
inline constexpr std::uint32_t stock_run_limit = chunk_pages;

/// Makes n pages that the caller owns into one object. Inner pages keep the entry of a free page,
/// so that a pointer into the object is never taken for an object.
WARPHEAP_OUTLINED void* make_large(const heap_view& h, page_index p, std::uint32_t n) {
  // Release: a thread that sees the pages in use sees the caller's earlier gives (room.cuh).
  atomic::store<order::release>(h.entry + p, page_entry::make(large_class, n).bits);
  count(h.state->large_objects);
  count(h.state->large_pages, n);
  return h.base + (std::uint64_t{p} << page_shift);
}

/// Waits until no page is on its way home; false when the time is up.
WARPHEAP_OUTLINED bool await_home(const heap_view& h, host_wait& w) {
  unsigned pause = 64;
  for (;;) {
    const bool late = is_late(h, w);
    if (!pages_on_their_way(h)) return true;
    if (late) return false;
    back_off(pause);
  }
}

/// A search for the pages of a large object, with its state.
struct run_search {
  search_state looks;
  std::uint32_t n;      ///< pages of the run
  std::uint32_t keeps;  ///< pages of the object; the others go back
  std::uint64_t align;  ///< of the object's first byte, at least a page's
  void* object = nullptr;
  std::uint64_t sent = 0;  ///< pages_sent before its last look
  unsigned rounds = 0;
  unsigned gathers = 0;  ///< how often it has sent the stock home
  unsigned unclear = 0;  ///< how often pages were given while it saw no room
  bool room = true;      ///< whether the run would be possible if all pages came together

  __device__ bool ends_go_back() const { return n != keeps; }
};

/// A run straight from the host; when there is none, s.room says whether gathering pages may help.
///
/// Sending the stock home for a run that is impossible anyway would make all others pay for it:
/// they have to ask for their next pages again. Fifty mallocs of more than there was, each followed
/// by one of 300,000 bytes, took 150 requests and sent 25,000 to 99,000 pages home. Now they take 3
/// where kernels' objects leave no room, 1 where the host's do, 59 where both do, and send none
/// home.
WARPHEAP_OUTLINED page_run ask_for_run(const heap_view& h, run_search& s) {
  s.room = true;
  if (!service_alive(h) || unanswered(h)) return {};
  run_denial known = known_denial(h, s.n);
  if (known == run_denial::unknown) {
    const page_run run = request_run(h, s.n, {1, h.pages});
    if (run.count != 0) return run;
    known = run.first != 0 ? run_denial::denied : run_denial::no_room;
  }
  s.room = false;
  if (known == run_denial::no_room) return {};
  const page_window window = room_for(h, s.n);
  if (window.end == 0) return {};
  const page_run run = request_run(h, s.n, window);
  s.room = run.first != 0;
  return run;
}

/// A run too long for the stock's requests, from the stock or straight from the host; 0 when
/// neither has one. The run is in hand, even before the request if its ends will go back, as other
/// warps are denied because of it.
WARPHEAP_OUTLINED page_index look_for_long_run(const heap_view& h, run_search& s) {
  s.looks.gives = gives_so_far(h);
  if (const page_index p = take_pages(h, s.n)) return p;
  if (s.ends_go_back()) take_in_hand(h);
  const page_run run = ask_for_run(h, s);
  if (run.count == 0) {
    if (s.ends_go_back()) keep_in_hand(h);
    return scan_stock(h, s.n);
  }
  mark_device_pages(h, run);
  count(h.state->device_pages, run.count);
  if (!s.ends_go_back()) take_in_hand(h);
  return run.first;
}

/// Brings pages together for another look, or waits for pages that move. False when there are none.
WARPHEAP_OUTLINED bool gather(const heap_view& h, run_search& s) {
  if (s.looks.reclaims++ < max_reclaims && reclaim_or_await(h, s.looks.seen)) return true;
  if (s.n <= stock_run_limit || is_late(h, s.looks.host)) return false;
  // Pages that went home meanwhile were neither in the stock nor the host's.
  if (s.sent != pages_sent(h) || pages_on_their_way(h)) return await_home(h, s.looks.host);
  // The host may have the rest of the run. Each message home has a limit of its own.
  return s.gathers++ < max_reclaims && send_home(h, 0);
}

/// After a look that saw no room: false when no pages were given during it, or after enough such
/// looks.
WARPHEAP_OUTLINED bool is_unclear(const heap_view& h, run_search& s) {
  s.room = gives_so_far(h) != s.looks.gives;
  return s.room && s.unclear++ < max_reclaims;
}

/// After a failed look: whether to look again. Before that, gathers pages or waits for pages that
/// move.
WARPHEAP_OUTLINED bool look_again(const heap_view& h, run_search& s) {
  if (!s.room && is_unclear(h, s)) return true;
  if (s.room && gather(h, s)) return true;
  return !nothing_was_in_hand(h, s.looks.hands) && await_hands(h, s.looks);
}

/// Number of pages from p to the first one whose address is a multiple of `align`.
WARPHEAP_OUTLINED std::uint32_t pages_to_aligned(const heap_view& h, page_index p,
                                                 std::uint64_t align) {
  const std::uint64_t address =
      reinterpret_cast<std::uint64_t>(h.base) + (std::uint64_t{p} << page_shift);
  return static_cast<std::uint32_t>((bits::align_up(address, align) - address) >> page_shift);
}

/// Gives the ends of a run in hand back, keeping n pages after the first `head`.
WARPHEAP_OUTLINED void release_ends(const heap_view& h, page_run run, std::uint32_t head,
                                    std::uint32_t n) {
  if (head != 0) release_pages(h, {run.first, head});
  if (head + n < run.count) release_pages(h, {run.first + head + n, run.count - head - n});
  let_go(h);
}

/// Makes the object from the run in hand that starts at page p. The ends go back.
WARPHEAP_OUTLINED void* make_found(const heap_view& h, page_index p, const run_search& s) {
  if (!s.ends_go_back()) {
    keep_in_hand(h);
    return make_large(h, p, s.n);
  }
  const std::uint32_t head = pages_to_aligned(h, p, s.align);
  void* const object = make_large(h, p + head, s.keeps);
  release_ends(h, {p, s.n}, head, s.keeps);
  return object;
}

/// One look for the run, and what follows from it. True when the search is over. A lane that has
/// found a run makes its object here, before lanes reconverge (warp.cuh): siblings without one wait
/// for what is in hand.
WARPHEAP_OUTLINED bool look_once(const heap_view& h, run_search& s) {
  s.looks.hands = hands_before(h);
  s.sent = pages_sent(h);
  const page_index p = s.n <= stock_run_limit ? get_pages(h, s.n) : look_for_long_run(h, s);
  if (p != 0) s.object = make_found(h, p, s);
  // Not p: lanes reconverge here, and siblings look again only when the object is made.
  return s.object != nullptr || !look_again(h, s);
}

/// An object of `keeps` pages at a multiple of `align` within a run of n, by all available means:
/// stock, host, empty spans, and for a long run the host after the stock has been sent home.
/// nullptr: out of memory.
WARPHEAP_SLOW_PATH void* search_run(const heap_view& h, std::uint32_t n, std::uint32_t keeps,
                                    std::uint64_t align) {
  run_search s{{begin_host_wait(h), gives_so_far(h), 0, 0}, n, keeps, align};
  while (s.rounds++ < max_search_rounds && !look_once(h, s)) {
  }
  return s.object;
}

/// Pages for `size` bytes; 0 if that is more than any heap has.
WARPHEAP_OUTLINED std::uint32_t pages_for(const heap_view& h, std::uint64_t size) {
  const std::uint64_t pages = size / page_size + (size % page_size != 0);
  return pages < h.pages && pages <= page_entry::max_value ? static_cast<std::uint32_t>(pages) : 0;
}

/// The same plus what may precede a multiple of `align`, a power of two above a page.
WARPHEAP_OUTLINED std::uint32_t pages_for_aligned(const heap_view& h, std::uint64_t size,
                                                  std::uint64_t align) {
  return align > h.bytes || size > h.bytes ? 0 : pages_for(h, size + align - page_size);
}

/// Whole pages for `size` bytes, nullptr when there are none.
WARPHEAP_SLOW_PATH void* malloc_pages(const heap_view& h, std::uint64_t size) {
  [[maybe_unused]] const unbroken step;
  const std::uint32_t n = pages_for(h, size);
  return n != 0 ? search_run(h, n, n, page_size) : nullptr;
}

/// The same with the first byte at a multiple of `align`, a power of two above a page: takes a
/// longer run, whose ends go to the stock.
WARPHEAP_SLOW_PATH void* malloc_pages_aligned(const heap_view& h, std::uint64_t size,
                                              std::uint64_t align) {
  [[maybe_unused]] const unbroken step;
  const std::uint32_t n = pages_for_aligned(h, size, align);
  return n != 0 ? search_run(h, n, pages_for(h, size), align) : nullptr;
}

/// Gives a run in hand back to the stock.
WARPHEAP_OUTLINED void put_back(const heap_view& h, page_run run) {
  release_pages(h, run);
  let_go(h);
}

/// Changes the length of the large object with head p to n pages, if its entry is still `from`.
WARPHEAP_OUTLINED bool change_entry(const heap_view& h, page_index p, page_entry from,
                                    std::uint32_t n) {
  const std::uint32_t old = from.value();
  if (!atomic::compare_exchange<order::relaxed>(h.entry + p, from.bits,
                                                page_entry::make(large_class, n).bits))
    return false;
  if (n > old) keep_in_hand(h);
  count(h.state->large_pages, std::uint64_t{n} - old);
  return true;
}

/// Resizes the large object with head p and entry e to n pages in place; false when the pages after
/// it are not free. Nothing else may use the object meanwhile. Pages that the object loses are the
/// caller's.
WARPHEAP_SLOW_PATH bool resize_large(const heap_view& h, page_index p, page_entry e,
                                     std::uint32_t n) {
  const std::uint32_t old = e.value();
  if (n > old && (h.pages - p < n || !take_run(h, p + old, n - old))) return false;
  if (change_entry(h, p, e, n)) return true;
  // Another thread has freed the object during this call.
  if (n > old) put_back(h, {p + old, n - old});
  return false;
}

/// Frees the large object whose first page is p. The compare-and-swap of the entry has one winner,
/// which gets true.
WARPHEAP_SLOW_PATH bool free_large(const heap_view& h, page_index p, page_entry e,
                                   std::uint64_t address) {
  std::uint32_t expected = e.bits;
  // Release: the owner's writes happen before the pages' next use (with give_pages' release).
  if (!atomic::compare_exchange<order::release>(h.entry + p, expected,
                                                page_entry::make(stock_class, 0).bits)) {
    report(h, error_kind::double_free, address);
    return false;
  }
  atomic::fetch_add<order::relaxed>(&h.state->large_objects.value, ~std::uint64_t{0});
  atomic::fetch_add<order::relaxed>(&h.state->large_pages.value, 0 - std::uint64_t{e.value()});
  release_pages(h, {p, e.value()});
  return true;
}

/// Frees a pointer into pages that are the host's, or nobody's: the host decides what it is. The
/// free becomes a bit, one for each byte address, in the page's mask words, which are unused as the
/// page is not a device span; list 0 says which pages have such bits. There is no queue, so no free
/// is ever refused or waits, and a second free is detected at once (false) until the first is
/// collected. Not detected: a free of a dead object that finds the page the host's but sets its bit
/// when the page has become one of tiny objects. The block there is then not used again, and the
/// next free of the same address passes for a correct one.
WARPHEAP_SLOW_PATH bool free_host_object(const heap_view& h, std::uint64_t offset) {
  const auto page = static_cast<page_index>(offset >> page_shift);
  const std::uint32_t bit = 1u << (offset & 31);
  // Release: the kernel's writes to the object happen before the host's next use of it.
  const std::uint32_t old = atomic::fetch_or<order::release>(h.tiny_mask + offset / 32, bit);
  if ((old & bit) != 0) {
    report(h, error_kind::double_free, reinterpret_cast<std::uint64_t>(h.base) + offset);
    return false;
  }
  summary(h.has_free_of(no_class), h.pages).set(page);
  // First the mark, then the look at the flag; the host first clears the flag, then looks for
  // marks. Without both fences, each could miss what the other does.
  atomic::fence();
  std::uint32_t* pending = &h.queue->host_frees_pending;
  if (atomic::load<order::relaxed, scope::system>(pending) == 0)
    atomic::store<order::relaxed, scope::system>(pending, 1u);
  return true;
}

/// The host's part, before it looks for pages with marks: frees after this set the flag again.
WARPHEAP_HD inline void begin_collecting(const heap_view& h) {
  atomic::store<order::relaxed, scope::system>(&h.queue->host_frees_pending, 0u);
  atomic::fence();
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
