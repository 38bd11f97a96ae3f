#include "host/refill_service.hpp"

#include <algorithm>
#include <new>

#include "host/mailbox_server.hpp"

namespace warpheap {

namespace {

// The device reads and writes the queue's words too; each word has one writer. Words outside the
// rounds order nothing: relaxed.
template <class T>
T load_word(const T& word) {
  return atomic::load<order::relaxed, scope::system>(&word);
}
template <class T>
void store_word(T& word, T value) {
  atomic::store<order::relaxed, scope::system>(&word, value);
}

}  // namespace

refill_service::refill_service(refill_queue& queue, host_heap& pages,
                               std::function<void()> idle_work,
                               std::chrono::microseconds longest_sleep)
    : queue_(queue),
      pages_(pages),
      idle_work_(std::move(idle_work)),
      longest_sleep_(longest_sleep) {}

refill_service::~refill_service() { stop(); }

void refill_service::start() {
  if (thread_.joinable()) return;
  stop_ = false;
  thread_ = std::thread([this] { run(); });
  store_word(queue_.service_alive, 1u);
}

void refill_service::stop() {
  if (!thread_.joinable()) return;
  store_word(queue_.service_alive, 0u);
  stop_ = true;
  thread_.join();
}

void refill_service::forget_thread() {
  // Not by assignment, which would end the process because of a thread that was not joined.
  new (&thread_) std::thread;
}

bool refill_service::poll_once() {
  const std::lock_guard lock(serving_);
  return serve_all();
}

/// Looks at every mailbox. Priorities: first pages that come home, as mallocs wait for them; then
/// the stock, from which all warps live, again after each large request that was served. Large
/// requests take turns: none is served twice before all others were looked at, and a pass begins
/// after the one that the previous pass answered first, which had the best of what there was.
/// serving_ is held.
bool refill_service::serve_all() {
  static_assert(stock_mailbox == 0);
  constexpr unsigned large = mailboxes - 1;
  bool served = take_pages_home();
  served = serve(stock_mailbox) || served;
  answered_first_ = 0;
  for (unsigned i = 0; i < large; ++i) {
    if (!serve(1 + (turn_ + i) % large)) continue;
    served = true;
    serve(stock_mailbox);
  }
  if (answered_first_ != 0) turn_ = answered_first_ % large;
  return served;
}

/// serving_ is held.
bool refill_service::serve(unsigned box) {
  struct {
    refill_service& service;
    unsigned box;
    page_run take(std::uint32_t least, std::uint32_t want) {
      if (service.answered_first_ == 0) service.answered_first_ = box;
      // Nothing is denied while pages that left before the request are still on their way back: a
      // kernel that looks at the denial after they have come would take it for an answer. (The
      // request was acquired, so the message home and the ack of a holder that declined are visible
      // here.)
      const page_run run = search(least, want);
      if (run.count != 0) return run;
      const bool came_home = service.take_pages_home();
      return service.take_back_declined() || came_home ? search(least, want) : run;
    }
    page_run search(std::uint32_t least, std::uint32_t want) {
      // Set before the search: a free that comes too late for the search sees it and moves the
      // epoch.
      service.denied_.store(true);
      return service.pages_.take_device_pages(least, want);
    }
    bool has_room(std::uint32_t n, page_index first, page_index end) {
      return service.pages_.has_room(n, first, end);
    }
    void take_back(page_run run) { service.take_back(run); }
  } pages{*this, box};
  return serve_mailbox(queue_, box, granted_[box], pages);
}

/// Takes back pages that were granted but not taken. serving_ is held.
void refill_service::take_back(page_run run) {
  pages_.give_back_device_pages(run);
  move_epoch();
}

/// Ends the rounds in which pages were granted and the holder has answered; true if there were any.
/// serving_ is held.
bool refill_service::take_back_declined() {
  struct {
    refill_service& service;
    void take_back(page_run run) { service.take_back(run); }
  } pages{*this};
  bool closed = false;
  for (unsigned box = 0; box < mailboxes; ++box)
    closed = (granted_[box].count != 0 && close_round(queue_, box, granted_[box], pages)) || closed;
  return closed;
}

/// serving_ is held.
bool refill_service::take_pages_home() {
  struct {
    refill_service& service;
    void take_home(page_run run) { service.pages_.give_back_device_pages(run); }
    void came_home() {
      if (service.denied_.exchange(false)) service.move_epoch();
    }
  } pages{*this};
  return read_home_message(queue_, pages);
}

void refill_service::pages_came_free() {
  // Relaxed: if a search preceded the free, the page allocator's lock makes its store to `denied_`
  // visible here.
  if (!denied_.load(std::memory_order_relaxed)) return;
  pages_came_free(hold());
}

void refill_service::pages_came_free(const std::unique_lock<std::mutex>&) {
  if (denied_.exchange(false)) move_epoch();
}

/// serving_ is held.
void refill_service::move_epoch() {
  store_word(queue_.host_epoch, load_word(queue_.host_epoch) + 1);
}

void refill_service::settle(const std::unique_lock<std::mutex>&) {
  while (serve_all()) {
  }
}

/// Sweeps what a reset left, in pieces that keep no request waiting. False when nothing is left.
bool refill_service::sweep_a_little() {
  constexpr unsigned spans = 16;
  // As for a request: a holder of the service's lock has the heap to itself.
  const std::lock_guard lock(serving_);
  return pages_.sweep_some(spans);
}

/// The same for tables. No lock: only this thread prepares them.
bool refill_service::prepare_a_little() {
  constexpr std::size_t pages = 8192;  // some twenty pages of the system
  return prepares_ && (prepares_ = pages_.prepare_tables(pages));
}

void refill_service::run() {
  using namespace std::chrono;
  served_here = this;
  constexpr int spins = 200;
  constexpr auto interval = milliseconds(1);
  auto next = steady_clock::now();
  int idle = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    if (poll_once()) {
      idle = 0;
      continue;
    }
    if (steady_clock::now() >= next) {
      if (idle_work_ && load_word(queue_.host_frees_pending) != 0) idle_work_();
      // Pages come free in ways that are not reported here, such as the end of a thread that had
      // some in its cache: so a denial is reconsidered now and then.
      pages_came_free();
      if (interval_work_) interval_work_();
      next = steady_clock::now() + interval;
    }
    if (sweep_a_little() || prepare_a_little()) continue;
    // A burst of requests is answered at once, and an idle heap costs next to nothing. No yields:
    // for each, the system may put the thread back by a time slice, and on a busy machine the next
    // request would wait for all of them.
    if (++idle < spins) continue;
    const auto pause = microseconds(10) * (idle - spins + 1);
    std::this_thread::sleep_for(std::min<microseconds>(pause, longest_sleep_));
  }
}

}  // namespace warpheap
