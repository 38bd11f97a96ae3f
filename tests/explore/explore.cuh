// What explorations share: many seeds of one scenario, the count of what was explored, and kernels
// that allocate and free.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "small_heap.cuh"
#include "test_scale.hpp"

namespace warpheap {

/// Schedules and steps explored by this process. Said at its end, and added as a line to the file
/// that WARPHEAP_EXPLORE_TALLY names, for whoever runs several processes.
class tally {
 public:
  static tally& get() {
    static tally the;
    return the;
  }
  void add(const simt::exploration& run) {
    ++schedules_;
    steps_ += run.steps;
  }
  tally(const tally&) = delete;
  tally& operator=(const tally&) = delete;

 private:
  tally() = default;
  ~tally() {
    std::cout << "explored " << schedules_ << " schedules, " << steps_ << " steps\n";
    if (const char* file = std::getenv("WARPHEAP_EXPLORE_TALLY"))
      std::ofstream(file, std::ios::app)
          << std::to_string(schedules_) + " " + std::to_string(steps_) + "\n";
  }
  std::uint64_t schedules_ = 0, steps_ = 0;
};

/// Explores the schedule of `o` and counts it.
inline void run_schedule(const simt::explore_options& o,
                         const std::vector<simt::explored_kernel>& kernels,
                         const std::vector<simt::actor>& actors = {}) {
  tally::get().add(simt::explore(o, kernels, actors));
}

/// What comes before and after an exploration: one thread, one schedule, not counted.
inline void alone(const std::function<void()>& body) {
  simt::explore_options o;
  o.max_steps = 40'000'000;
  simt::explore(o, {{{1, 1, 0}, body, "preparation"}});
}

/// Runs a scenario under many seeds, half of them with random scheduling and half with PCT.
/// WARPHEAP_EXPLORE_SEED runs one of them again. The sanitizers get a quarter.
inline void explore_seeds(std::uint64_t seeds,
                          const std::function<void(simt::explore_options)>& scenario) {
  const char* replay = std::getenv("WARPHEAP_EXPLORE_SEED");
  const std::uint64_t first = replay != nullptr ? std::strtoull(replay, nullptr, 0) : 1;
  if (testing::sanitized) seeds /= 4;
  const std::uint64_t last = replay != nullptr ? first : testing::scaled(seeds);
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    simt::explore_options o;
    o.seed = seed;
    o.how = seed % 2 == 0 ? simt::strategy::random : simt::strategy::pct;
    o.depth = 2 + static_cast<unsigned>(seed / 2 % 4);
    o.expected_steps = 400;
    o.max_steps = 4'000'000;
    try {
      scenario(o);
    } catch (const std::exception& error) {
      FAIL() << error.what() << "\nreplay with WARPHEAP_EXPLORE_SEED=" << seed;
    }
  }
}

/// Runs a scenario under all schedules with no more than 0, 1, ... `bound` preemptions or
/// deviations, the first sequence that fails being one of the shortest; stops early when there are
/// no others at all. A sanitizer gets one less, and one at most; WARPHEAP_TEST_SCALE=4 and more one
/// more. WARPHEAP_EXPLORE_SCHEDULE runs one schedule again.
inline void explore_all(simt::bounded_by what, unsigned bound,
                        const std::function<void(simt::explore_options)>& scenario) {
  const char* replay = std::getenv("WARPHEAP_EXPLORE_SCHEDULE");
  // Each preemption more takes several times as long.
  if (testing::sanitized) bound = std::min(bound - 1, 1u);
  if (testing::test_scale() >= 4) ++bound;
  for (unsigned least = replay != nullptr ? bound : 0; least <= bound; ++least) {
    simt::schedule_space space(what, least);
    if (replay != nullptr) space.replay(replay);
    simt::explore_options o;
    o.how = simt::strategy::bounded;
    o.max_steps = 100'000;
    o.space = &space;
    try {
      do scenario(o);
      while (replay == nullptr && space.next());
    } catch (const std::exception& error) {
      FAIL() << error.what() << "\nreplay with WARPHEAP_EXPLORE_SCHEDULE=" << space.text();
    }
    if (replay != nullptr) return;
    std::cout << "up to " << least
              << (what == simt::bounded_by::preemptions ? " preemptions: " : " deviations: ")
              << space.number() << " schedules" << (space.complete() ? ", all there are\n" : "\n");
    if (space.complete()) return;
  }
}

/// Each lane takes and frees objects of a class, `keep` at a time.
inline __global__ void take_and_free(device_heap heap, ownership* owners, std::size_t size,
                                     unsigned rounds, unsigned keep) {
  void* mine[4] = {};
  for (unsigned r = 0; r < rounds; ++r) {
    for (unsigned k = 0; k < keep; ++k) {
      mine[k] = heap.malloc(size);
      if (mine[k] != nullptr) owners->take(mine[k], size);
    }
    for (unsigned k = 0; k < keep; ++k) {
      if (mine[k] == nullptr) continue;
      owners->give(mine[k], size);
      heap.free(mine[k]);
    }
  }
}

/// A warp of so many lanes that does this, with the hints of `d`.
inline simt::explored_kernel churning(small_heap& h, const device_heap& d, unsigned lanes,
                                      std::size_t size, unsigned rounds, unsigned keep) {
  return simt::explored(1, lanes, take_and_free, d, h.owners(), size, rounds, keep);
}
inline simt::explored_kernel churning(small_heap& h, unsigned lanes, std::size_t size,
                                      unsigned rounds, unsigned keep) {
  return churning(h, h.device(), lanes, size, rounds, keep);
}

inline __global__ void malloc_one(device_heap heap, std::size_t size, void** out) {
  *out = heap.malloc(size);
}

inline __global__ void free_pointer(device_heap heap, void* p) { heap.free(p); }

/// A warp of so many lanes, each of which frees `p`.
inline simt::explored_kernel freeing(const small_heap& h, void* p, unsigned lanes = 1) {
  return simt::explored(1, lanes, free_pointer, h.device(), p);
}

/// Ends an exploration that has gone wrong.
inline void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

/// Checks what has to hold at rest, before and after it takes everything there is of a class and
/// frees it: nothing may be out of reach.
inline void exhaust(small_heap& h, std::size_t size, std::uint64_t expected) {
  h.check_at_rest();
  std::vector<void*> all;
  alone([&] {
    const device_heap heap = h.device();
    while (void* p = heap.malloc(size)) all.push_back(p);
    for (void* p : all) heap.free(p);
  });
  if (all.size() != expected)
    throw std::runtime_error("of " + std::to_string(expected) + " slots, "
                             + std::to_string(all.size()) + " can be had");
  h.check_at_rest();
}

/// Allocates one object before the exploration, to be kept over its end.
inline void keep_one(small_heap& h, std::size_t size) {
  alone([&] { h.kept.push_back(h.device().malloc(size)); });
}

/// Lets the device look at what the host has granted in the meantime, and closes all rounds.
inline void settle(small_heap& h) {
  for (int i = 0; i < 4; ++i) {
    h.service().poll_once();
    core::poll_stock_reply(h.view());
  }
}

}  // namespace warpheap
