// Exploration: the test bench for lock-free device code on the SIMT executor.
//
// The lanes of all given kernels run on the calling thread, one step at a time, in an order drawn
// from a seed. A step ends at each atomic, collective, barrier, __activemask() and __nanosleep().
// What is explored are interleavings; the memory is sequentially consistent.
//
// Strategies: a uniform choice at each step, and probabilistic concurrency testing (Burckhardt,
// Kothari, Musuvathi, Nagarakatti: "A randomized scheduler with probabilistic guarantees of finding
// bugs", ASPLOS 2010), which finds a bug of depth d among n lanes and k steps with a probability of
// at least 1/(n k^(d-1)).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>
#include <warpheap/launch.cuh>

namespace warpheap::simt {

enum class strategy {
  random,  ///< any lane that can run, at each step
  pct,     ///< the lane of highest priority, until one of depth - 1 change points lowers it
};

struct explore_options {
  std::uint64_t seed = 0;
  strategy how = strategy::random;
  /// Of pct: number of ordered events the bug needs.
  unsigned depth = 3;
  /// Of pct: change points fall within this many steps.
  std::uint64_t expected_steps = 1000;
  std::uint64_t max_steps = 10'000'000;
  /// Virtual nanoseconds that a step takes.
  std::uint64_t step_ns = 10;
};

struct explored_kernel {
  launch_shape shape;
  std::function<void()> body;  ///< what each lane calls
  std::string name;            ///< for error texts
};

/// The kernel as `launch` would start it, arguments copied.
template <class... Parameters, class... Arguments>
explored_kernel explored(words::dim3 grid, words::dim3 block, void (*kernel)(Parameters...),
                         Arguments&&... arguments) {
  return {{grid, block, 0},
          launch_detail::bind_kernel(kernel, std::forward<Arguments>(arguments)...),
          {}};
}

/// A part of the host, say one poll of a service, scheduled like a lane for as long as kernels run.
struct actor {
  /// Returns whether it did anything; if not, it is left alone for a while. Must not block.
  std::function<bool()> step;
  /// Whether its own atomics are switch points. It must then hold no lock over any of them.
  bool preemptible = false;
};

/// What a run was. Equal for equal seed, options, kernels and actors.
struct exploration {
  std::uint64_t steps = 0;
  std::uint64_t trace = 0;  ///< a hash of the order in which lanes ran
  std::uint64_t virtual_ns = 0;
};

/// Runs all kernels to their end. Throws launch_error for a bad shape, and execution_error, with
/// the seed in its text, when a lane or actor throws, a collective can never complete, or
/// `max_steps` are exceeded.
///
/// Limits: `__shared__` variables belong to the OS thread, hence kernels that have any must be
/// explored with one block; a loop without any switch point never ends.
exploration explore(const explore_options& options, const std::vector<explored_kernel>& kernels,
                    const std::vector<actor>& actors = {});

}  // namespace warpheap::simt
