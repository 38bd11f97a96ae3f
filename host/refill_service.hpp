// The host's end of the refill queue (mailbox.hpp): a thread that gives kernels pages.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <warpheap/mailbox.hpp>

#include "host/host_heap.hpp"

namespace warpheap {

/// Serves one heap's queue. It calls nothing that can wait for a kernel: only the page allocator,
/// plain loads and stores on pinned memory, and `idle_work`, which has to keep to the same rule.
class refill_service {
 public:
  /// The thread calls `idle_work` now and then while frees of host objects by kernels are pending;
  /// empty = never. `longest_sleep` bounds the time until a first request is answered.
  refill_service(refill_queue& queue, host_heap& pages, std::function<void()> idle_work,
                 std::chrono::microseconds longest_sleep);
  ~refill_service();
  refill_service(const refill_service&) = delete;
  refill_service& operator=(const refill_service&) = delete;

  /// Makes the thread call f about every millisecond; f keeps to the same rule. Before start.
  void each_interval(std::function<void()> f) { interval_work_ = std::move(f); }

  /// Makes the thread prepare the heap's tables for large requests when it has nothing else to do.
  /// Before start.
  void prepare_ahead() { prepares_ = true; }

  void start();
  /// Ends the thread after telling kernels not to wait any longer.
  void stop();

  /// Whether the caller is the service's thread, which must not wait for kernels: they may be
  /// waiting for it.
  bool on_own_thread() const { return served_here == this; }

  /// Looks at every mailbox once; true when something was done. Called by the thread, and by tests
  /// that schedule the service themselves.
  bool poll_once();

  /// Keeps the thread from serving as long as the lock lives, for operations on the heap at rest.
  std::unique_lock<std::mutex> hold() { return std::unique_lock(serving_); }

  /// For a fork: nothing is served between lock and unlock. A child has no such thread, and forgets
  /// it.
  void lock() { serving_.lock(); }
  void unlock() { serving_.unlock(); }
  void forget_thread();

  /// Carries every round to its end: answers requests, closes acked ones, takes back the pages of
  /// declined ones. For a device at rest whose requests are all acked; `held` is from hold().
  void settle(const std::unique_lock<std::mutex>& held);

  /// Pages have come free on the host: denials no longer hold. Cheap when there were none.
  void pages_came_free();
  void pages_came_free(const std::unique_lock<std::mutex>& held);

 private:
  void run();
  bool serve(unsigned box);
  bool serve_all();
  bool sweep_a_little();
  bool prepare_a_little();
  bool take_pages_home();
  bool take_back_declined();
  void take_back(page_run run);
  void move_epoch();

  static inline thread_local const refill_service* served_here = nullptr;

  refill_queue& queue_;
  host_heap& pages_;
  std::function<void()> idle_work_;
  std::function<void()> interval_work_;
  std::chrono::microseconds longest_sleep_;
  bool prepares_ = false;  ///< there are still tables to prepare
  std::mutex serving_;
  std::array<page_run, mailboxes> granted_{};
  unsigned turn_ = 0;            ///< where the next pass over large requests begins
  unsigned answered_first_ = 0;  ///< the mailbox of the pass's first large request; 0: none so far
  std::atomic<bool> denied_{false};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace warpheap
