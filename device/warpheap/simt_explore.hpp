// Exploration: the test bench for lock-free device code on the SIMT executor.
//
// The lanes of all given kernels run on the calling thread, one step at a time, in an order drawn
// from a seed. A step ends at each atomic, collective, barrier, __activemask() and __nanosleep().
// Exploration covers interleavings; memory is sequentially consistent.
//
// Strategies: a uniform choice at each step, and probabilistic concurrency testing (Burckhardt,
// Kothari, Musuvathi, Nagarakatti: "A randomized scheduler with probabilistic guarantees of finding
// bugs", ASPLOS 2010), which finds a bug of depth d among n lanes and k steps with a probability of
// at least 1/(n k^(d-1)). Both are drawn from a seed. The third enumerates all schedules that
// differ from a plain one in a few places: `schedule_space`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>
#include <warpheap/launch.cuh>

namespace warpheap::simt {

enum class strategy {
  random,   ///< any runnable lane, at each step
  pct,      ///< the lane of highest priority, until one of depth - 1 change points lowers it
  bounded,  ///< what `explore_options::space` says
};

namespace detail {
class explorer;
}

/// What a bounded exploration counts.
enum class bounded_by {
  /// Switches away from a lane that could continue, as CHESS counts (Musuvathi, Qadeer: "Iterative
  /// context bounding for systematic testing of multithreaded programs", PLDI 2007). The choice of
  /// the next lane when one waits or ends is not counted. For a few warps of one lane.
  preemptions,
  /// Each place where the next lane is not the plain choice (the same lane again or, when it waits
  /// or has ended, the next in a circle); similar to delay bounding (Emmi, Qadeer, Rakamaric, POPL
  /// 2011). The lanes of a warp wait for each other at every collective: with all orders free,
  /// there would be far too many.
  deviations,
};

/// All schedules of given kernels within a bound, by depth-first search: each exploration follows
/// the choices of the previous one up to a point, and differs there.
///
///   schedule_space space(bounded_by::preemptions, 2);
///   do explore({.how = strategy::bounded, .space = &space}, kernels); while (space.next());
///
/// The kernels must be deterministic for a given schedule. Lanes switch at atomics, and where they
/// must wait; not at collectives, as nothing that a lane does between two atomics is visible to
/// others. Answering lanes that ask for their active mask with one lane alone counts as one
/// difference.
class schedule_space {
 public:
  schedule_space(bounded_by what, unsigned bound) : what_(what), bound_(bound) {}

  /// Goes on to the next schedule; false when there is none left within the bound.
  bool next();
  /// Number of the schedule, from 1.
  std::uint64_t number() const { return number_; }
  /// After the last schedule: whether there are no others at all, under any bound.
  bool complete() const { return !cut_; }

  /// Where the schedule differs from the plain one, for `replay`.
  std::string text() const;
  /// Makes the next exploration follow a text() of the same kernels and `bounded_by`. Throws
  /// std::invalid_argument when it is malformed.
  void replay(const std::string& text);

 private:
  friend class detail::explorer;
  struct choice {
    unsigned taken, options;
    bool counts;
  };

  /// Called by the exploration: one of `options`, of which 0 is the plain one.
  unsigned choose(unsigned options, bool counts);
  bool may_differ(const choice& c) const { return !c.counts || c.taken != 0 || spent_ < bound_; }

  bounded_by what_;
  unsigned bound_;
  std::vector<choice> path_;
  std::size_t at_ = 0;  // choices of the present exploration
  unsigned spent_ = 0;  // of the bound, in all of path_
  bool cut_ = false;
  std::uint64_t number_ = 1;
};

struct explore_options {
  std::uint64_t seed = 0;
  strategy how = strategy::random;
  /// For pct: number of ordered events that the bug needs.
  unsigned depth = 3;
  /// For pct: change points fall within this many steps.
  std::uint64_t expected_steps = 1000;
  std::uint64_t max_steps = 10'000'000;
  /// Virtual nanoseconds that a step takes.
  std::uint64_t step_ns = 10;
  /// Whether a failure removes lanes even from `unbroken` steps, as if the machine were gone.
  bool breaks_steps = false;
  /// For bounded.
  schedule_space* space = nullptr;
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

/// A part of the host, say one poll of a service, scheduled like a lane as long as kernels run.
struct actor {
  /// Returns whether it did anything; if not, it is not run for a while. Must not block.
  std::function<bool()> step;
  /// Whether its own atomics are switch points. It must then not hold across any of them a lock
  /// that anyone else takes.
  bool preemptible = false;
};

/// The result of a run. Equal for equal seed, options, kernels and actors.
struct exploration {
  std::uint64_t steps = 0;
  std::uint64_t trace = 0;  ///< a hash of the order in which lanes ran
  std::uint64_t virtual_ns = 0;
};

/// Runs all kernels to their end. Throws launch_error for a bad shape, and execution_error, with
/// the seed or the schedule in its text, when a lane or actor throws, a collective can never
/// complete, or `max_steps` are exceeded.
///
/// Limits: `__shared__` variables belong to the OS thread, so kernels that have any must be
/// explored with one block; a loop without a switch point never ends.
exploration explore(const explore_options& options, const std::vector<explored_kernel>& kernels,
                    const std::vector<actor>& actors = {});

}  // namespace warpheap::simt
