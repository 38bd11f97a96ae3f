// The host's side of the queue for the weak-memory checks: some pages, and a service that works
// with the product's own rounds (mailbox_server.hpp).
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include "host/mailbox_server.hpp"
#include "relacy/weak_heap.hpp"

namespace warpheap::weak {

/// The host: some pages, and a service that looks at a few mailboxes.
class weak_host {
 public:
  /// Grants no more than `most` pages at once, however many are wanted.
  weak_host(weak_heap& heap, std::uint32_t most) : heap_(heap), most_(most) {}

  /// `lent`: so many pages from the first on are the device's.
  void begin_execution(unsigned devices, std::uint32_t lent = 0) {
    std::fill(std::begin(lent_), std::end(lent_), false);
    std::fill_n(lent_, lent, true);
    std::fill(std::begin(granted_), std::end(granted_), page_run{});
    denied_ = true;  // some scenarios begin after a denial
    devices_ = devices;
  }
  void device_is_done() { --devices_; }

  /// Serves until the devices are done, or dies after so many looks.
  void serve(unsigned looks = ~0u) {
    for (; devices_ > 0 && looks > 0; --looks)
      if (!look()) yield();
  }
  bool look() {
    bool served = read_home_message(*heap_.view().queue, *this);
    for (unsigned box = 0; box < boxes; ++box)
      served = serve_mailbox(*heap_.view().queue, box, granted_[box], *this) || served;
    return served;
  }

  page_run take(std::uint32_t least, std::uint32_t want) {
    const page_run run = search(least, want);
    if (run.count != 0) return run;
    bool came = read_home_message(*heap_.view().queue, *this);
    for (unsigned box = 0; box < boxes; ++box)
      if (granted_[box].count != 0)
        came = close_round(*heap_.view().queue, box, granted_[box], *this) || came;
    return came ? search(least, want) : run;
  }
  page_run search(std::uint32_t least, std::uint32_t want) {
    denied_ = true;
    want = std::max(least, std::min(want, most_));
    for (std::uint32_t n = want; n >= least; --n)
      for (std::uint32_t i = 0; i + n <= heap_.host_pages(); ++i)
        if (std::none_of(lent_ + i, lent_ + i + n, [](bool lent) { return lent; })) {
          std::fill_n(lent_ + i, n, true);
          const page_run run{heap_.first_host_page() + i, n};
          check_entries(run);
          use(run);
          return run;
        }
    return {};
  }
  bool has_room(std::uint32_t, page_index, page_index) const { return true; }
  void take_back(page_run run) {
    take_home(run);
    move_epoch();
  }
  void take_home(page_run run) {
    use(run);
    check_entries(run);
    for (std::uint32_t i = 0; i < run.count; ++i)
      if (!std::exchange(lent_[run.first + i - heap_.first_host_page()], false))
        fail("a page came home twice");
  }
  void came_home() {
    if (std::exchange(denied_, false)) move_epoch();
  }
  void move_epoch() {
    std::uint32_t* epoch = &heap_.view().queue->host_epoch;
    atomic::store<order::relaxed>(epoch, atomic::load<order::relaxed>(epoch) + 1);
  }
  /// Writes to the pages, as whoever owns them does.
  void use(page_run run) {
    for (std::uint32_t i = 0; i < run.count; ++i) {
      const std::uint64_t offset = std::uint64_t{run.first + i} << page_shift;
      heap_.bytes.take(offset, 64);
      heap_.bytes.give(offset, 64);
    }
  }

  /// Carries all rounds to their end and looks at who has the pages. `held`: by threads.
  void check_at_rest(std::span<const page_run> held = {}) {
    for (int i = 0; i < 4; ++i) {
      core::poll_stock_reply(heap_.view());
      look();
    }
    bool kept[most_pages] = {};
    for (const page_run run : held)
      for (std::uint32_t i = 0; i < run.count; ++i)
        if (std::exchange(kept[run.first + i - heap_.first_host_page()], true))
          fail("a page was granted twice");
    for (std::uint32_t i = 0; i < heap_.host_pages(); ++i) {
      const page_entry e{the_memory.latest(heap_.view().entry[heap_.first_host_page() + i])};
      if (lent_[i] != (kept[i] || e.cls() != no_class)) fail("a page has two owners or none");
    }
    const refill_queue& q = *heap_.view().queue;
    if (the_memory.latest(q.home_closed) != the_memory.latest(q.home.seq)
        || the_memory.latest(heap_.view().state->home_request.value)
               != core::request_state(stock_phase::idle, the_memory.latest(q.home.seq)))
      fail("a message home was left open");
    for (unsigned box = 0; box < boxes; ++box)
      if (the_memory.latest(q.closed[box]) != the_memory.latest(q.request[box].seq))
        fail("a round was left open");
    if (the_memory.latest(heap_.view().state->free_mailboxes.value) != free_at_rest)
      fail("a mailbox is lost");
  }

  static constexpr unsigned boxes = 2;
  static constexpr std::uint64_t free_at_rest = 2;

 private:
  static constexpr unsigned most_pages = 16;

  /// Of pages that the host has: nobody else may change them, and no late value be seen.
  void check_entries(page_run run) {
    for (std::uint32_t i = 0; i < run.count; ++i)
      if (page_entry{atomic::load<order::relaxed>(heap_.view().entry + run.first + i)}.cls()
          != no_class)
        fail("a page of the host with an entry of the device's");
  }

  weak_heap& heap_;
  std::uint32_t most_;
  bool lent_[most_pages] = {};
  page_run granted_[boxes];
  bool denied_ = true;
  unsigned devices_ = 0;
};

}  // namespace warpheap::weak
