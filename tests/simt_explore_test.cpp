// Exploration: the same seed gives the same run, and planted bugs are found and replayed.
#include <gtest/gtest.h>
#include <algorithm>
#include <atomic>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>
#include <warpheap/simt_explore.hpp>

#include "tests/full_warp.hpp"
#include "tests/unwatched.hpp"

namespace {

using warpheap::simt::actor;
using warpheap::simt::bounded_by;
using warpheap::simt::execution_error;
using warpheap::simt::exploration;
using warpheap::simt::explore;
using warpheap::simt::explore_options;
using warpheap::simt::explored;
using warpheap::simt::schedule_space;
using warpheap::simt::strategy;

using warpheap::testing::full;

__global__ void mixed_work(unsigned* words) {
  const unsigned lane = threadIdx.x % 32;
  for (int i = 0; i < 5; ++i) {
    atomicAdd(words + lane % 3, 1u);
    const unsigned mask = __activemask();
    if (lane % 2 == 0) __nanosleep(50);
    atomicMax(words + 3, __popc(mask) + 0u);
    __syncthreads();
    atomicAdd(words + 4 + threadIdx.x, __reduce_add_sync(full, lane));
  }
}

exploration explore_mixed(const explore_options& options, std::vector<unsigned>& words) {
  words.assign(4 + 64, 0);
  return explore(options, {explored(1, 64, mixed_work, words.data()),
                           explored(2, 4, mixed_work, words.data())});
}

TEST(simt_explore, same_seed_same_run) {
  for (const strategy how : {strategy::random, strategy::pct}) {
    std::set<std::uint64_t> traces;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const explore_options options{.seed = seed, .how = how};
      std::vector<unsigned> words;
      std::vector<unsigned> again;
      const exploration first = explore_mixed(options, words);
      const exploration second = explore_mixed(options, again);
      EXPECT_EQ(first.trace, second.trace);
      EXPECT_EQ(first.steps, second.steps);
      EXPECT_EQ(first.virtual_ns, second.virtual_ns);
      EXPECT_EQ(words, again);
      EXPECT_EQ(words[0] + words[1] + words[2], 5u * 72);
      traces.insert(first.trace);
    }
    EXPECT_EQ(traces.size(), 20u);
  }
}

/// The order in which four lanes came by.
__global__ void order(unsigned* next, unsigned* seen) { seen[atomicAdd(next, 1u)] = threadIdx.x; }

TEST(simt_explore, all_orders_are_reached) {
  for (const strategy how : {strategy::random, strategy::pct}) {
    std::set<std::vector<unsigned>> orders;
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
      unsigned next = 0;
      std::vector<unsigned> seen(4);
      explore({.seed = seed, .how = how}, {explored(1, 4, order, &next, seen.data())});
      orders.insert(seen);
    }
    EXPECT_EQ(orders.size(), 24u);
  }
}

__global__ void unprotected_increment(unsigned* counter) {
  const unsigned old = atomicAdd(counter, 0u);
  atomicExch(counter, old + 1);
}

TEST(simt_explore, finds_a_lost_update_and_replays_it) {
  for (const strategy how : {strategy::random, strategy::pct}) {
    const auto final_value = [how](std::uint64_t seed) {
      unsigned counter = 0;
      explore({.seed = seed, .how = how, .depth = 2, .expected_steps = 10},
              {explored(1, 1, unprotected_increment, &counter),
               explored(1, 1, unprotected_increment, &counter)});
      return counter;
    };
    std::optional<std::uint64_t> failing;
    bool correct = false;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
      if (final_value(seed) == 2) {
        correct = true;
      } else if (!failing) {
        failing = seed;
      }
    }
    EXPECT_TRUE(correct);
    ASSERT_TRUE(failing);
    EXPECT_EQ(final_value(*failing), 1u);
  }
}

/// A bug of depth 3: the reader must fall between the two writes, twice.
__global__ void torn_writer(unsigned* a, unsigned* b) {
  atomicExch(a, 1u);
  atomicExch(b, 1u);
}
__global__ void torn_reader(const unsigned* a, const unsigned* b) {
  const unsigned seen_a = atomicAdd(const_cast<unsigned*>(a), 0u);
  const unsigned seen_b = atomicAdd(const_cast<unsigned*>(b), 0u);
  if (seen_a == 1 && seen_b == 0) __trap();
}

TEST(simt_explore, error_text_has_seed_and_replays) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const auto run = [seed]() -> std::string {
      unsigned a = 0;
      unsigned b = 0;
      try {
        explore({.seed = seed},
                {explored(1, 1, torn_writer, &a, &b), explored(1, 1, torn_reader, &a, &b)});
      } catch (const execution_error& e) {
        return e.what();
      }
      return {};
    };
    const std::string text = run();
    if (text.empty()) continue;
    EXPECT_NE(text.find("seed " + std::to_string(seed) + ","), std::string::npos) << text;
    EXPECT_NE(text.find("__trap()"), std::string::npos) << text;
    EXPECT_EQ(run(), text);
    return;
  }
  FAIL() << "no seed found the torn read";
}

__global__ void active_groups(unsigned* masks) { masks[threadIdx.x] = __activemask(); }

TEST(simt_explore, active_mask_splits_a_warp_in_many_ways) {
  std::set<std::vector<unsigned>> partitions;
  bool whole = false;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::vector<unsigned> masks(32);
    explore({.seed = seed}, {explored(1, 32, active_groups, masks.data())});
    unsigned total = 0;
    for (unsigned i = 0; i < 32; ++i) {
      EXPECT_NE(masks[i] >> i & 1, 0u);
      for (unsigned j = 0; j < 32; ++j) {
        if ((masks[i] >> j & 1) != 0) {
          EXPECT_EQ(masks[j], masks[i]);
        }
      }
      total |= masks[i];
    }
    EXPECT_EQ(total, full);
    whole = whole || masks[0] == full;
    partitions.insert(masks);
  }
  EXPECT_TRUE(whole);
  EXPECT_GT(partitions.size(), 100u);
}

__global__ void asks_a_service(unsigned* request, unsigned* answer, unsigned* failures) {
  atomicExch(request, 1u);
  const std::uint64_t begin = warpheap::simt::now_ns();
  while (atomicAdd(answer, 0u) == 0) {
    __nanosleep(100);
    if (warpheap::simt::now_ns() - begin > 1'000'000) {
      atomicAdd(failures, 1u);
      return;
    }
  }
}

TEST(simt_explore, actors_take_turns_with_lanes) {
  for (const bool preemptible : {false, true}) {
    for (const strategy how : {strategy::random, strategy::pct}) {
      for (std::uint64_t seed = 0; seed < 50; ++seed) {
        unsigned request = 0;
        unsigned answer = 0;
        unsigned failures = 0;
        const actor service{[&] {
                              if (atomicExch(&request, 0u) == 0) return false;
                              atomicExch(&answer, 1u);
                              return true;
                            },
                            preemptible};
        explore({.seed = seed, .how = how},
                {explored(1, 8, asks_a_service, &request, &answer, &failures)}, {service});
        EXPECT_EQ(failures, 0u);
        EXPECT_EQ(answer, 1u);
      }
    }
  }
}

TEST(simt_explore, a_dead_service_costs_virtual_time_only) {
  unsigned request = 0;
  unsigned answer = 0;
  unsigned failures = 0;
  const exploration run =
      explore({}, {explored(1, 4, asks_a_service, &request, &answer, &failures)});
  EXPECT_EQ(failures, 4u);
  EXPECT_GT(run.virtual_ns, 1'000'000u);
}

__global__ void spin_lock(unsigned* lock, unsigned* counter) {
  while (atomicCAS(lock, 0u, 1u) != 0) {
  }
  __threadfence();
  const unsigned old = *counter;
  warpheap::simt::switch_point();
  *counter = old + 1;
  __threadfence();
  atomicExch(lock, 0u);
}

TEST(simt_explore, spinning_lanes_do_not_stop_the_owner_of_the_lock) {
  for (const strategy how : {strategy::random, strategy::pct}) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      unsigned lock = 0;
      unsigned counter = 0;
      explore({.seed = seed, .how = how}, {explored(2, 16, spin_lock, &lock, &counter)});
      EXPECT_EQ(counter, 32u);
    }
  }
}

__global__ void forever(unsigned* word) {
  while (atomicAdd(word, 0u) == 0) {
  }
}
__global__ void mismatch() {
  if (threadIdx.x % 2 == 0) {
    __any_sync(full, 1);
  } else {
    __all_sync(full, 1);
  }
}
__global__ void lone_barrier() {
  if (threadIdx.x < 8)
    __syncthreads();
  else
    __syncwarp(0xffff'ff00u | 1u << 7);
}

TEST(simt_explore, failures_end_the_run_and_the_next_one_works) {
  unsigned word = 0;
  const auto text_of = [](const std::vector<warpheap::simt::explored_kernel>& kernels,
                          const std::vector<actor>& actors = {}) -> std::string {
    try {
      explore({.seed = 12, .max_steps = 20'000}, kernels, actors);
    } catch (const execution_error& e) {
      return e.what();
    }
    return {};
  };
  EXPECT_NE(text_of({explored(2, 8, forever, &word)}).find("max_steps"), std::string::npos);
  EXPECT_NE(text_of({explored(1, 32, mismatch)}).find("__all_sync"), std::string::npos);
  EXPECT_NE(text_of({explored(1, 32, lone_barrier)}).find("deadlock"), std::string::npos);
  const actor thrower{[]() -> bool { throw std::runtime_error("actor gone"); }};
  EXPECT_NE(text_of({explored(1, 32, forever, &word)}, {thrower}).find("actor gone"),
            std::string::npos);
  unsigned next = 0;
  std::vector<unsigned> seen(4);
  EXPECT_NO_THROW(explore({}, {explored(1, 4, order, &next, seen.data())}));
  EXPECT_EQ(next, 4u);
  EXPECT_THROW(explore({}, {explored(0, 4, order, &next, seen.data())}), warpheap::launch_error);
}

__global__ void in_two_steps(unsigned* pair) {
  for (int i = 0; i < 4; ++i) {
    const warpheap::simt::unbroken step;
    atomicAdd(&pair[0], 1u);
    __nanosleep(100);
    atomicAdd(&pair[1], 1u);
  }
}
__global__ void unbroken_forever(unsigned* word) {
  const warpheap::simt::unbroken step;
  forever(word);
}
__global__ void unbroken_at_a_collective(unsigned* after) {
  const warpheap::simt::unbroken step;
  if (threadIdx.x == 0) __trap();
  __syncwarp();
  *after = 1;
}

TEST(simt_explore, an_unbroken_step_is_done_to_its_end) {
  unsigned cut = 0, broken = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    for (const bool breaks : {false, true}) {
      unsigned pair[2] = {};
      warpheap::simt::explore_options o{.seed = seed, .max_steps = seed, .breaks_steps = breaks};
      try {
        explore(o, {explored(2, 4, in_two_steps, pair)});
      } catch (const execution_error&) {
        ++cut;
      }
      broken += pair[0] != pair[1];
      if (!breaks) {
        EXPECT_EQ(pair[0], pair[1]) << "seed " << seed;
      }
    }
  }
  EXPECT_GT(cut, 100u);
  EXPECT_GT(broken, 50u);
}

TEST(simt_explore, an_unbroken_step_without_an_end_ends_with_its_block) {
  unsigned word = 0, after = 0;
  EXPECT_THROW(explore({.seed = 1, .max_steps = 100}, {explored(1, 1, unbroken_forever, &word)}),
               execution_error);
  EXPECT_THROW(explore({.seed = 1}, {explored(1, 4, unbroken_at_a_collective, &after)}),
               execution_error);
  EXPECT_EQ(after, 0u);
}

__global__ void slots(unsigned* out) {
  if (threadIdx.x % 32 == 0) out[threadIdx.x / 32] = warpheap::simt::warp_slot();
}

TEST(simt_explore, warp_slots_are_dense) {
  std::vector<unsigned> out(5, ~0u);
  explore({}, {explored(1, 64, slots, out.data()), explored(1, 96, slots, out.data() + 2)});
  EXPECT_EQ(out, (std::vector<unsigned>{0, 1, 2, 3, 4}));
}

/// Sequences of the remaining parts of two lanes with no more than `bound` switches away from one
/// that could go on.
unsigned count_sequences(unsigned a, unsigned b, int running, unsigned bound) {
  if (a == 0 && b == 0) return 1;
  unsigned count = 0;
  if (a > 0) {
    const unsigned cost = running == 1 && b > 0;
    if (cost <= bound) count += count_sequences(a - 1, b, 0, bound - cost);
  }
  if (b > 0) {
    const unsigned cost = running == 0 && a > 0;
    if (cost <= bound) count += count_sequences(a, b - 1, 1, bound - cost);
  }
  return count;
}

TEST(simt_explore, bounded_goes_through_each_schedule_once) {
  // Each lane has three parts: up to the first atomic, up to the second, and to the end.
  for (unsigned bound = 0; bound <= 5; ++bound) {
    schedule_space space(bounded_by::preemptions, bound);
    std::set<std::uint64_t> traces;
    std::set<unsigned> results;
    do {
      unsigned counter = 0;
      const exploration run = explore({.how = strategy::bounded, .space = &space},
                                      {explored(1, 1, unprotected_increment, &counter),
                                       explored(1, 1, unprotected_increment, &counter)});
      traces.insert(run.trace);
      results.insert(counter);
    } while (space.next());
    EXPECT_EQ(space.number(), count_sequences(3, 3, -1, bound)) << bound;
    EXPECT_EQ(traces.size(), space.number());
    EXPECT_EQ(space.complete(), bound >= 4) << "as often as they can alternate";
    EXPECT_EQ(results.count(1), bound > 0 ? 1u : 0u) << "the lost update needs one preemption";
  }
}

TEST(simt_explore, bounded_reaches_all_orders_of_a_warp) {
  for (const bounded_by what : {bounded_by::preemptions, bounded_by::deviations}) {
    std::set<std::vector<unsigned>> orders;
    schedule_space space(what, 3);
    do {
      unsigned next = 0;
      std::vector<unsigned> seen(4);
      explore({.how = strategy::bounded, .space = &space},
              {explored(1, 4, order, &next, seen.data())});
      orders.insert(seen);
    } while (space.next());
    EXPECT_EQ(orders.size(), 24u);
  }
}

__global__ void ask_who_is_here(std::vector<unsigned>* masks) {
  const unsigned here = __activemask();
  const warpheap::testing::unwatched notes;
  masks->push_back(here);
}

TEST(simt_explore, bounded_splits_converged_lanes) {
  std::set<std::vector<unsigned>> answers;
  schedule_space space(bounded_by::deviations, 4);
  do {
    std::vector<unsigned> masks;
    explore({.how = strategy::bounded, .space = &space}, {explored(1, 3, ask_who_is_here, &masks)});
    std::sort(masks.begin(), masks.end());
    answers.insert(masks);
  } while (space.next());
  EXPECT_EQ(answers, (std::set<std::vector<unsigned>>{{7, 7, 7}, {1, 6, 6}, {1, 2, 4}}));
}

TEST(simt_explore, bounded_says_the_schedule_and_replays_it) {
  const auto run = [](schedule_space& space) -> std::string {
    unsigned a = 0, b = 0;
    try {
      explore({.how = strategy::bounded, .space = &space},
              {explored(1, 1, torn_reader, &a, &b), explored(1, 1, torn_writer, &a, &b)});
    } catch (const execution_error& error) {
      return error.what();
    }
    return {};
  };
  schedule_space space(bounded_by::preemptions, 2);
  std::string error;
  do error = run(space);
  while (error.empty() && space.next());
  ASSERT_NE(error.find("schedule " + space.text() + ","), std::string::npos) << error;
  EXPECT_NE(error.find("__trap()"), std::string::npos);

  schedule_space again(bounded_by::preemptions, 2);
  again.replay(space.text());
  EXPECT_EQ(run(again), error);
  again.replay("plain");
  EXPECT_EQ(run(again), "");
  for (const char* text : {"1", "1:", "x", "2:1,1:1", "1:1;"})
    EXPECT_THROW(again.replay(text), std::invalid_argument) << text;
}

}  // namespace
