#pragma once

// Slow paths wait here while a thread forks, so that the child finds no half-changed list.

#include "host/barrier_for_all.hpp"
#include "host/last_cache.hpp"
#include "host/span_sync.hpp"

namespace warpheap {

namespace detail {

// Identifies the forking thread: the address of a thread_local of its own, which is the same in the
// child.
inline constinit span_atomic<const void*> fork_gate_closed_by{nullptr};

}  // namespace detail

/// A thread announces that it is in a slow path (mcache::call), then looks at the gate; the forking
/// thread closes the gate, then looks for threads in slow paths. A fence separates each one's two
/// steps: in the slow path the compiler's suffices, as the forking thread makes all threads execute
/// one. So either the thread is seen and waited for, or it sees the gate closed.
class fork_gate {
 public:
  /// As this thread sees it: open for the forking thread. The program's fork handlers run between
  /// close and fork, and may make heap calls that take no lock.
  static bool is_closed() {
    const void* const by = detail::fork_gate_closed_by.load(std::memory_order_relaxed);
    return by != nullptr && by != this_thread(&last_used);
  }
  /// By one thread at a time. Any thread that does not see the gate closed is seen in its slow
  /// path.
  static void close() {
    detail::fork_gate_closed_by.store(this_thread(&last_used), std::memory_order_relaxed);
    barrier_for_all();
  }
  static void open() { detail::fork_gate_closed_by.store(nullptr, std::memory_order_relaxed); }
  /// For a thread in no slow path: returns when the gate is open.
  static void wait() {
    for (unsigned k = 0; is_closed(); k += k < yields) rest(k);
  }
  /// For the thread that closed it: calls done() until it returns true, for half a second at most,
  /// as something outside the heap may hold a thread for longer.
  template <class F>
  static void wait_until(F&& done) {
    for (unsigned k = 0; k < most_rests && !done(); ++k) rest(k);
  }

 private:
  static constexpr unsigned yields = 100, most_rests = yields + 5000;
  /// Yields at first, then sleeps: a thread of higher priority keeps the processor in a yield.
  static void rest(unsigned times);
};

}  // namespace warpheap
