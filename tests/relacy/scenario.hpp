// What the weak-memory checks share: a scenario of a few threads, run under relacy.
#pragma once

#include <cstdint>
#include <functional>

#include "relacy/weak_heap.hpp"

namespace warpheap::weak {

/// What executions work on: a heap, or parts of one.
struct world {
  template <class Heap>
  world(Heap& heap) : begin_execution([&heap] { heap.begin_execution(); }) {}
  std::function<void()> begin_execution;
};

struct scenario {
  world heap;
  std::function<void()> threads[max_threads];
  std::function<void()> at_end;
  std::function<void()> at_begin = {};
  /// The second thread stands still once, before one of its first operations, so many; see
  /// memory::pause_once. 0: never.
  unsigned pause_within = 0;
};

/// Runs so many executions of the scenario (times the tests' scale); fails the test, with relacy's
/// history, at the first one that is wrong.
void explore(std::uint64_t executions, const scenario& what);

}  // namespace warpheap::weak
