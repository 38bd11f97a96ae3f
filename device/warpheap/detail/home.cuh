// Giving pages back while kernels run: the stock's surplus goes home, that is, to the host.
//
// The stock keeps half as many pages as are in use (at least stock_floor, a chunk or more). If it
// exceeds that by half (the mark), it sends the surplus home, the highest pages first, in one
// message to the service (mailbox.hpp). No warp waits for this: while another message is on its
// way, or no service is alive, the pages stay until the next surplus or trim.
//
// Pages must not oscillate. A stock that runs low asks for at most what brings it to 5/7 of the
// pages in use, or to 5/4 of a chunk (next_demand): below the mark. A long run, requested because
// the stock has only shorter ones, may bring it above. Being the highest, the run would go home
// before the warp that waits for it looks, and the warp would ask again until its time is up. So no
// pages go home while a warp waits.
#pragma once

#include <warpheap/detail/refill.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// Pages that the stock keeps when it sends some home.
__device__ inline std::uint64_t stock_to_keep(const heap_view& h) {
  const std::uint64_t all = atomic::load<order::relaxed>(&h.state->device_pages.value);
  const std::uint64_t free = atomic::load<order::relaxed>(&h.state->stock_pages.value);
  const std::uint64_t half_used = all > free ? (all - free) / 2 : 0;
  return half_used > h.stock_floor ? half_used : h.stock_floor;
}

/// Limit on the pages of one message, as one lane clears all of their entries.
inline constexpr std::uint64_t home_pages_at_once = 8 * chunk_pages;

/// The runs of a message while it is being written.
struct home_runs {
  page_run run{};  ///< the last one, which may still grow downwards
  unsigned written = 0;
  std::uint32_t pages = 0;
};

__device__ inline void write_home_run(const heap_view& h, unsigned i, page_run run) {
  home_message& box = h.queue->home;
  atomic::store<order::relaxed, scope::system>(&box.runs[i].first, run.first);
  atomic::store<order::relaxed, scope::system>(&box.runs[i].count, run.count);
}

/// Adds a run of pages, below those added before, to the message. From here on the pages belong to
/// nobody, and their entries say so.
WARPHEAP_OUTLINED void add_home_run(const heap_view& h, page_run run, home_runs& to) {
  to.pages += run.count;
  WARPHEAP_ROLLED
  for (unsigned i = 0; i < run.count; ++i)
    atomic::store<order::relaxed>(h.entry + run.first + i, 0u);
  if (to.run.count != 0 && run.first + run.count == to.run.first) {
    to.run = {run.first, to.run.count + run.count};
    return;
  }
  if (to.run.count != 0) write_home_run(h, to.written++, to.run);
  to.run = run;
}

/// Adds the highest run among the pages of word w to the message; returns the word without it.
WARPHEAP_OUTLINED std::uint64_t add_highest_run(const heap_view& h, std::uint32_t w,
                                                std::uint64_t pages, home_runs& to) {
  const auto above = static_cast<unsigned>(bits::countl_zero(pages));
  const auto ones = static_cast<unsigned>(bits::countl_zero(~(pages << above)));
  const unsigned lowest = 64 - above - ones;
  add_home_run(h, {w * 64 + lowest, ones}, to);
  return pages & bits::low_mask(lowest);
}

/// Takes the highest pages of one word of the stock for the message; false when the message has no
/// room for another run.
WARPHEAP_OUTLINED bool take_word_home(const heap_view& h, std::uint32_t w, std::uint32_t want,
                                      home_runs& to) {
  // Acquire: the pages' entries and words are as their last owner left them. Release: a thread that
  // finds the pages gone also sees that they are on their way (the busy phase).
  std::uint64_t got =
      atomic::fetch_and<order::acq_rel>(stock_of(h).word_address(w), std::uint64_t{0});
  while (got != 0 && to.pages < want) {
    got = add_highest_run(h, w, got, to);
    if (to.written + 1 == home_message::most_runs) break;
  }
  // The excess goes back; note_given makes threads that found no pages meanwhile look again.
  // Relaxed: nothing was done in these pages, and the read-modify-writes continue the word's
  // release sequences.
  if (got != 0) {
    if (atomic::fetch_or<order::relaxed>(stock_of(h).word_address(w), got) == 0)
      stock_of(h).raise(w);
    note_given(h);
  }
  return to.written + 1 < home_message::most_runs;
}

/// Takes the stock's highest pages, those in excess of `keep`, for the message.
WARPHEAP_OUTLINED void take_surplus_home(const heap_view& h, std::uint64_t keep, home_runs& runs) {
  const std::uint64_t free = atomic::load<order::relaxed>(&h.state->stock_pages.value);
  const std::uint64_t surplus = free > keep ? free - keep : 0;
  const auto want =
      static_cast<std::uint32_t>(surplus < home_pages_at_once ? surplus : home_pages_at_once);
  const std::uint64_t high = atomic::load<order::relaxed>(&h.state->high_page.value);
  auto w = static_cast<std::uint32_t>(level_words(high, 0));
  while (runs.pages < want && w != 0) {
    w = stock_of(h).word_below(w);  // ends with word 0, which may be empty
    if (!take_word_home(h, w, want, runs)) break;
  }
}

/// Makes the caller the writer of the message after `seq`; false while that one is on its way or
/// another warp writes, or when no service is alive to read it.
WARPHEAP_OUTLINED bool begin_home(const heap_view& h, std::uint32_t seq) {
  std::uint64_t idle = request_state(stock_phase::idle, seq);
  if (pages_sent(h) != idle || !service_alive(h)) return false;
  // The box may be written again only after the host has closed the last round. Acquire: the host
  // has read the runs, so all that the box's last writer did is over, too. Only the holder of the
  // phase moves seq on. Hence changes of the phase need no order of their own.
  if (atomic::load<order::acquire, scope::system>(&h.queue->home_closed) != seq) return false;
  return atomic::compare_exchange<order::relaxed>(&h.state->home_request.value, idle,
                                                  busy_now(seq));
}

/// Hands the message to the host.
WARPHEAP_OUTLINED void post_home(const heap_view& h, const home_runs& runs, std::uint32_t seq) {
  write_home_run(h, runs.written, runs.run);
  atomic::fetch_add<order::relaxed>(&h.state->stock_pages.value, 0 - std::uint64_t{runs.pages});
  atomic::fetch_add<order::relaxed>(&h.state->device_pages.value, 0 - std::uint64_t{runs.pages});
  count(h.state->home_pages, runs.pages);
  atomic::store<order::relaxed, scope::system>(&h.queue->home.count, runs.written + 1);
  // Release: a host that sees seq sees the runs, and the entries when it grants these pages again.
  atomic::store<order::release, scope::system>(&h.queue->home.seq, seq);
}

/// Sends what the stock has above `keep` pages home, unless a message is on its way. True when it
/// has sent one.
WARPHEAP_SLOW_PATH bool send_home(const heap_view& h, std::uint64_t keep) {
  const auto seq = static_cast<std::uint32_t>(pages_sent(h));
  if (!begin_home(h, seq)) return false;
  home_runs runs;
  take_surplus_home(h, keep, runs);
  if (runs.pages != 0) post_home(h, runs, seq + 1);
  atomic::store<order::relaxed>(&h.state->home_request.value,
                                request_state(stock_phase::idle, seq + (runs.pages != 0)));
  return runs.pages != 0;
}

/// Gives pages that became free to the stock, and sends a surplus home, except while a stock that
/// ran dry fills up again, or a warp collects pages for it or waits for the host's. `waiting` is
/// read last, as the pages that bring the stock above the mark may be the ones that a warp waits
/// for. Relaxed: a thread that misses the waiting warp sends its pages home, and that warp asks
/// once more.
WARPHEAP_SLOW_PATH void release_pages(const heap_view& h, page_run run) {
  const bool wanted = atomic::load<order::relaxed>(&h.state->pressure.value) != 0
                      || atomic::load<order::relaxed>(&h.state->reclaiming.value) != 0;
  give_pages(h, run);
  if (wanted) return;
  const std::uint64_t keep = stock_to_keep(h);
  if (atomic::load<order::relaxed>(&h.state->stock_pages.value) > keep * 3 / 2
      && atomic::load<order::relaxed>(&h.state->waiting.value) == 0)
    send_home(h, keep);
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
