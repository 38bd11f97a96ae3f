#pragma once

// Slow paths wait here while a thread forks, so that the child finds no list half changed.

#include "host/barrier_for_all.hpp"
#include "host/last_cache.hpp"
#include "host/span_sync.hpp"

namespace warpheap {

namespace detail {

// What the thread that forks is known by: of its own, and in the child at the same address.
inline constinit span_atomic<const void*> fork_gate_closed_by{nullptr};

}  // namespace detail

/// A thread says that it is in a slow path (mcache::call), then looks here; who forks closes the
/// gate, and then looks who is in one. Between the two of each lies a fence: the compiler's alone
/// in the slow path, as the other has all threads execute one. So either the thread is seen, and
/// waited for, or it sees the gate closed.
class fork_gate {
 public:
  /// For this thread: for who forks it is open. Handlers of a program run between close and fork,
  /// and may call a heap as far as that takes no lock.
  static bool is_closed() {
    const void* const by = detail::fork_gate_closed_by.load(std::memory_order_relaxed);
    return by != nullptr && by != this_thread(&last_used);
  }
  /// By one thread at a time. Any thread that does not see it closed is seen in its slow path.
  static void close() {
    detail::fork_gate_closed_by.store(this_thread(&last_used), std::memory_order_relaxed);
    barrier_for_all();
  }
  static void open() { detail::fork_gate_closed_by.store(nullptr, std::memory_order_relaxed); }
  /// For a thread that is in no slow path: comes back when the gate is open.
  static void wait() {
    for (unsigned k = 0; is_closed(); k += k < yields) rest(k);
  }
  /// Calls done() until it answers true, or for half a second: a thread may be held for longer by
  /// what is not the heap's. For who has closed it.
  template <class F>
  static void wait_until(F&& done) {
    for (unsigned k = 0; k < most_rests && !done(); ++k) rest(k);
  }

 private:
  static constexpr unsigned yields = 100, most_rests = yields + 5000;
  /// Longer when it was not enough before: a thread that runs at a higher priority keeps the
  /// processor in a yield.
  static void rest(unsigned times);
};

}  // namespace warpheap
