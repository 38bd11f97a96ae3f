#include "host/refill_service.hpp"

#include <algorithm>

namespace warpheap {

namespace {

// The device writes and reads these words at system scope; each has one writer.
template <class T>
T load_acquire(const T& word) {
  return std::atomic_ref(const_cast<T&>(word)).load(std::memory_order_acquire);
}
template <class T>
T load_relaxed(const T& word) {
  return std::atomic_ref(const_cast<T&>(word)).load(std::memory_order_relaxed);
}
template <class T>
void store_release(T& word, T value) {
  std::atomic_ref(word).store(value, std::memory_order_release);
}
template <class T>
void store_relaxed(T& word, T value) {
  std::atomic_ref(word).store(value, std::memory_order_relaxed);
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
  store_release(queue_.service_alive, 1u);
}

void refill_service::stop() {
  if (!thread_.joinable()) return;
  store_release(queue_.service_alive, 0u);
  stop_ = true;
  thread_.join();
}

bool refill_service::poll_once() {
  const std::lock_guard lock(serving_);
  bool served = take_pages_home();
  for (unsigned box = 0; box < mailboxes; ++box) served = serve(box) || served;
  return served;
}

bool refill_service::serve(unsigned box) {
  bool served = false;
  refill_reply& reply = queue_.reply[box];
  // Acquire: the request's numbers were written before its seq.
  const std::uint32_t asked = load_acquire(queue_.request[box].seq);
  const std::uint32_t closed = load_relaxed(queue_.closed[box]);
  if (asked != reply.seq && reply.seq == closed) {
    const std::uint32_t least = load_relaxed(queue_.request[box].min_pages);
    const std::uint32_t want = std::max(least, load_relaxed(queue_.request[box].want_pages));
    // In this order: a free that comes too late for the search below sees `denied_` and moves the
    // epoch past the one in the reply.
    denied_.store(true);
    store_relaxed(reply.epoch, load_relaxed(queue_.host_epoch));
    granted_[box] = least == 0 ? page_run{} : pages_.take_device_pages(least, want);
    store_relaxed(reply.first, granted_[box].first);
    store_relaxed(reply.count, granted_[box].count);
    store_release(reply.seq, asked);
    served = true;
  }
  // Only the ack says whose the pages are; see mailbox.hpp.
  const std::uint64_t ack = load_acquire(queue_.ack[box].bits);
  if (closed != reply.seq && refill_ack::seq_of(ack) == reply.seq) {
    if (!refill_ack::took(ack) && granted_[box].count != 0) {
      pages_.give_back_device_pages(granted_[box]);
      move_epoch();
    }
    granted_[box] = {};
    store_release(queue_.closed[box], reply.seq);
    served = true;
  }
  return served;
}

bool refill_service::take_pages_home() {
  // Acquire: the runs were written before seq.
  const std::uint32_t sent = load_acquire(queue_.home.seq);
  if (sent == queue_.home_closed) return false;
  const std::uint32_t runs = load_relaxed(queue_.home.count);
  for (std::uint32_t i = 0; i < runs; ++i)
    pages_.give_back_device_pages(
        {load_relaxed(queue_.home.runs[i].first), load_relaxed(queue_.home.runs[i].count)});
  // Release: the device writes the box anew only when it has been read.
  store_release(queue_.home_closed, sent);
  if (denied_.exchange(false)) move_epoch();
  return true;
}

void refill_service::pages_came_free() {
  // Seen relaxed: the page allocator's lock orders the change of `denied_` before a search that
  // came before the free.
  if (!denied_.load(std::memory_order_relaxed)) return;
  pages_came_free(hold());
}

void refill_service::pages_came_free(const std::unique_lock<std::mutex>&) {
  if (denied_.exchange(false)) move_epoch();
}

/// serving_ is held.
void refill_service::move_epoch() {
  store_release(queue_.host_epoch, load_relaxed(queue_.host_epoch) + 1);
}

void refill_service::settle(const std::unique_lock<std::mutex>&) {
  bool served = true;
  while (served) {
    served = take_pages_home();
    for (unsigned box = 0; box < mailboxes; ++box) served = serve(box) || served;
  }
}

void refill_service::run() {
  using namespace std::chrono;
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
      if (idle_work_ && load_relaxed(queue_.host_frees_pending) != 0) idle_work_();
      // Pages come free in ways that nobody tells of, such as the end of a thread that had some in
      // its cache: now and then a denial is not taken for granted.
      pages_came_free();
      next = steady_clock::now() + interval;
    }
    // A burst of requests is answered at once, an idle heap costs next to nothing.
    if (++idle < spins) {
      std::this_thread::yield();
      continue;
    }
    const auto pause = microseconds(10) * (idle - spins + 1);
    std::this_thread::sleep_for(std::min<microseconds>(pause, longest_sleep_));
  }
}

}  // namespace warpheap
