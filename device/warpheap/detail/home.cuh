// Giving back while kernels run: pages that the stock has too many of go home to the host.
//
// The stock keeps as many pages as half of those in use (at least stock_floor). Above half more it
// sends the surplus home, the highest pages first, in one message to the service (mailbox.hpp). A
// request for pages brings the stock to 5/8 of those in use at most (next_demand), below the mark,
// so pages do not go to and fro. Nobody waits: a message on its way, or no service, and the pages
// stay until another surplus or the next trim.
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

/// Pages of one message: one lane clears the entries of all of them.
inline constexpr std::uint64_t home_pages_at_once = 8 * chunk_pages;

/// The runs of a message, while it is written.
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

/// Takes the highest pages of one word of the stock for the message; false when it has no room for
/// another run. The pages are nobody's from here on: their entries say so.
WARPHEAP_OUTLINED bool take_word_home(const heap_view& h, std::uint32_t w, std::uint64_t want,
                                      home_runs& to) {
  std::uint64_t* word = stock_of(h).word_address(w);
  // Acquire: the pages' entries and words as their last owner left them. Release: who finds the
  // pages gone sees that they are on their way.
  std::uint64_t got = atomic::fetch_and<order::acq_rel>(word, std::uint64_t{0});
  while (got != 0 && to.pages < want) {
    const auto above = static_cast<unsigned>(bits::countl_zero(got));
    const auto ones = static_cast<unsigned>(bits::countl_zero(~(got << above)));
    const unsigned lowest = 64 - above - ones;
    const page_run run{w * 64 + lowest, ones};
    if (to.run.count != 0 && run.first + ones == to.run.first) {
      to.run = {run.first, to.run.count + ones};
    } else {
      if (to.run.count != 0) write_home_run(h, to.written++, to.run);
      to.run = run;
    }
    got &= bits::low_mask(lowest);
    to.pages += ones;
    for (unsigned i = 0; i < ones; ++i) atomic::store<order::relaxed>(h.entry + run.first + i, 0u);
    if (to.written + 1 == home_message::most_runs) break;
  }
  // What is too much goes back, and whoever found no pages meanwhile looks again. Relaxed: nothing
  // was done in these pages, and read-modify-writes of the word hand on what others released in it.
  if (got != 0) {
    if (atomic::fetch_or<order::relaxed>(word, got) == 0) stock_of(h).raise(w);
    note_given(h);
  }
  return to.written + 1 < home_message::most_runs;
}

/// Takes what the stock has above `keep` pages, its highest, for the message.
WARPHEAP_OUTLINED void take_surplus_home(const heap_view& h, std::uint64_t keep, home_runs& runs) {
  const std::uint64_t free = atomic::load<order::relaxed>(&h.state->stock_pages.value);
  const std::uint64_t surplus = free > keep ? free - keep : 0;
  const std::uint64_t want = surplus < home_pages_at_once ? surplus : home_pages_at_once;
  const std::uint64_t high = atomic::load<order::relaxed>(&h.state->high_page.value);
  auto w = static_cast<std::uint32_t>(level_words(high, 0));
  while (runs.pages < want && w != 0) {
    w = stock_of(h).word_below(w);  // word 0 at last, which may be empty
    if (!take_word_home(h, w, want, runs)) break;
  }
}

/// Sends what the stock has above `keep` pages home, unless a message is on its way. True when it
/// has sent one.
WARPHEAP_SLOW_PATH bool send_home(const heap_view& h, std::uint64_t keep) {
  device_state& s = *h.state;
  std::uint64_t* state = &s.home_request.value;
  std::uint64_t now = atomic::load<order::relaxed>(state);
  const auto seq = static_cast<std::uint32_t>(now);
  if (now != request_state(stock_phase::idle, seq) || !service_alive(h)) return false;
  // The box may be written again only after the host has closed the last round. Acquire: it has
  // read the runs, and so all that the last writer of the box did is over too. Nobody but the
  // holder of this state moves seq on. Hence changes of the phase need no order of their own.
  if (atomic::load<order::acquire, scope::system>(&h.queue->home_closed) != seq) return false;
  if (!atomic::compare_exchange<order::relaxed>(state, now, busy_now(seq))) return false;
  home_runs runs;
  take_surplus_home(h, keep, runs);
  std::uint32_t next = seq;
  if (runs.pages != 0) {
    write_home_run(h, runs.written, runs.run);
    atomic::fetch_add<order::relaxed>(&s.stock_pages.value, 0 - std::uint64_t{runs.pages});
    atomic::fetch_add<order::relaxed>(&s.device_pages.value, 0 - std::uint64_t{runs.pages});
    count(s.home_pages, runs.pages);
    atomic::store<order::relaxed, scope::system>(&h.queue->home.count, runs.written + 1);
    // Release: the host that sees seq sees the runs, and their entries when it grants them anew.
    atomic::store<order::release, scope::system>(&h.queue->home.seq, ++next);
  }
  atomic::store<order::relaxed>(state, request_state(stock_phase::idle, next));
  return runs.pages != 0;
}

/// Gives pages that became free to the stock, and home what is too much there; not while a warp
/// collects pages because there were too few.
WARPHEAP_SLOW_PATH void release_pages(const heap_view& h, page_run run) {
  const bool wanted = atomic::load<order::relaxed>(&h.state->pressure.value) != 0
                      || atomic::load<order::relaxed>(&h.state->reclaiming.value) != 0;
  give_pages(h, run);
  if (wanted) return;
  const std::uint64_t keep = stock_to_keep(h);
  if (atomic::load<order::relaxed>(&h.state->stock_pages.value) > keep * 3 / 2) send_home(h, keep);
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
