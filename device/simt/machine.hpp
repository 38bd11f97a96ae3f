// Lanes, warps, blocks, and the machine that runs them on one OS thread.
#pragma once

#include "fiber.hpp"

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>
#include <warpheap/simt.hpp>
#include <warpheap/simt_words.hpp>

namespace warpheap::simt::detail {

inline constexpr unsigned warp_lanes = 32;
/// Atomics that a lane may do without a switch before others get a turn.
inline constexpr unsigned switch_points_in_a_row = 512;

class machine;
struct block;
struct warp;

/// Thrown to make a lane of a failed block leave its kernel. Visible outside the executor only to a
/// catch-all handler in a kernel.
struct lane_unwind {};

/// What a waiting lane waits for.
struct wait_site {
  operation op = operation::syncwarp;
  unsigned mask = 0;
  unsigned line = 0;
  const char* file = "";
  const void* address = nullptr;

  bool same_place(const wait_site& other) const {
    return address == other.address && line == other.line && file == other.file;
  }
};

struct lane : lane_view {
  fiber context{frame};
  warp* home = nullptr;
  unsigned bit = 0;
  /// Initial value of `thread_state::countdown` when the lane gets the thread.
  unsigned budget = 0;
  wait_site waits;
  std::uint64_t deadline = 0;
  unsigned overtime = 0;  ///< turns that it got after its block had failed
  /// For explorations: higher runs first.
  std::uint64_t priority = 0;
};

/// Lanes that wait for each other in one collective.
struct group {
  unsigned mask = 0;
  unsigned needed = 0;   ///< lanes of the mask that take part
  unsigned arrived = 0;  ///< 0: the record is unused
  operation op = operation::syncwarp;
};

/// A lane is in exactly one of the masks; in `runnable` also while it runs.
struct warp {
  machine* owner = nullptr;
  block* of = nullptr;
  unsigned index = 0;  ///< in its block
  unsigned existing = 0;
  unsigned exited = 0;
  unsigned runnable = 0;
  unsigned in_collective = 0;
  unsigned in_activemask = 0;
  unsigned at_barrier = 0;
  unsigned sleeping = 0;
  unsigned groups_used = 0;
  unsigned recent_group = 0;
  unsigned completions = 0;
  unsigned turn = warp_lanes - 1;  ///< the lane that gave way last
  std::array<group, warp_lanes> groups;
  std::array<std::uint64_t, warp_lanes> value{};
  std::array<unsigned, warp_lanes> source{};
  std::array<lane, warp_lanes> lanes;
  std::unique_ptr<stack_pool> stacks;

  /// The runnable lane after `lane_index`, in a circle; there must be one.
  lane& next_runnable(unsigned lane_index) {
    const unsigned start = (lane_index + 1) % warp_lanes;
    const auto distance =
        static_cast<unsigned>(std::countr_zero(std::rotr(runnable, static_cast<int>(start))));
    return lanes[(start + distance) % warp_lanes];
  }
};

struct block : block_view {
  std::vector<warp*> warps;
  unsigned live = 0;
  unsigned sleepers = 0;
  const std::function<void()>* body = nullptr;
  const std::atomic<bool>* cancelled = nullptr;  ///< whether another block of the launch has failed
  const void* begin = nullptr;                   ///< ThreadSanitizer: what happened before
  const void* end = nullptr;                     ///< ThreadSanitizer: for what happens after
  const void* all_ends = nullptr;                ///< the same for all streams
  void* dynamic_shared = nullptr;
  bool aborting = false;
  bool breaks_steps = false;  ///< a failure removes lanes even from `unbroken` steps
  std::exception_ptr error;
  std::string name;  ///< for reports of explorations

  unsigned barrier_arrived = 0;
  unsigned barrier_true = 0;
  operation barrier_op = operation::syncthreads;
  int barrier_result = 0;
};

/// Chooses the lane that runs next; an exploration has its own.
class chooser {
 public:
  virtual ~chooser() = default;
  /// The lane to run after `current`, which may be able to continue; nullptr: return to the thread.
  virtual lane* choose(lane& current) = 0;
  /// The non-empty part of `members`, including its lowest lane, that is told it is converged.
  virtual unsigned converged_part(unsigned members) = 0;
  /// Whether another lane may run first when a lane reaches a collective or a barrier.
  virtual bool stops_at_collectives() = 0;
  /// Whether lanes that ask for the active mask are answered before all others have arrived.
  virtual bool answer_early() = 0;
  virtual std::uint64_t now() const = 0;
  virtual void failed(block& where) = 0;
};

class machine {
 public:
  /// `first_warp_slot` is the cache slot of the machine's first warp.
  explicit machine(unsigned first_warp_slot);
  ~machine();
  machine(const machine&) = delete;
  machine& operator=(const machine&) = delete;

  /// To be called when a thread other than the one that made the machine is to run it.
  void move_to_this_thread();

  /// Gives `where` fresh warps, from number `first_warp` on, with all lanes ready to start.
  void set_up(block& where, unsigned first_warp, unsigned budget);
  /// Runs what was set up, on the calling thread, until all lanes have exited.
  void run(lane& first, chooser* choice);

  // Called by lanes.
  lane* arrive(lane& me, operation op, unsigned mask, std::uint64_t value, unsigned source,
               const char* file, unsigned line);
  lane* arrive_active_mask(lane& me, const wait_site& site);
  /// Leaves the kernel by an exception if the block has failed.
  void leave_if_aborting(lane& me);
  /// The same, except for a lane within an `unbroken` step, which it must complete.
  void leave_if_unheld(lane& me);
  /// `me` cannot run now: returns the lane to run instead, which then has the thread; null if `me`
  /// can.
  lane* hand_over(lane& me) {
    warp& w = *me.home;
    if (choice_ == nullptr && w.runnable != 0 && (w.runnable & me.bit) == 0) [[likely]]
      return take_thread(&w.next_runnable(me.index));
    return hand_over_elsewhere(me);
  }
  static void switch_lanes(lane& from, lane& to) { from.context.switch_to(to.context); }
  int block_barrier(lane& me, operation op, bool predicate, const wait_site& site);
  void sleep(lane& me, unsigned nanoseconds, const wait_site& site);
  void give_way(lane& me);
  [[noreturn]] void fail_lane(lane& me, const std::string& what);

  chooser* choice() const { return choice_; }
  /// Ends the block early: every lane that is inside the kernel leaves it by an exception.
  void abort(block& where);
  /// Makes lanes whose deadline has passed runnable; returns the earliest deadline of the others.
  static std::uint64_t wake_sleepers(block& where, std::uint64_t now);

 private:
  static void lane_entry();
  static void run_kernel(lane& me);
  /// Returns the lane that runs next.
  lane* exit_lane(lane& me);

  group& join_group(lane& me, operation op, unsigned mask, const char* file, unsigned line);
  void complete(warp& w, group& g);
  void answer_active_mask(warp& w);
  void release_barrier(block& where);
  /// Handles a warp none of whose lanes can run.
  void settle(warp& w);
  /// `me` cannot run now: runs others until it can.
  void wait(lane& me);
  lane* next_lane(lane& me);
  lane* next_warp_lane(block& where, unsigned after_warp);
  void idle(block& where);
  lane* take_thread(lane* next) {
    this_thread.lane = next;
    this_thread.countdown = next != nullptr ? next->budget : 0;
    return next != nullptr ? next : &thread_;
  }
  lane* hand_over_elsewhere(lane& me);
  void fail(block& where, const std::string& what);

  unsigned first_warp_slot_;
  std::vector<std::unique_ptr<warp>> warps_;
  lane thread_;  ///< the context that called run()
  chooser* choice_ = nullptr;
  /// Exceptions in flight on this thread. A lane that leaves its kernel by an exception may reach a
  /// collective in a destructor. It gets no answer there and never makes way for another lane, as
  /// the C++ runtime keeps exception state per thread.
  bool unwinding() const { return *uncaught_ != uncaught_before_; }

  /// ThreadSanitizer: what the lanes of the last run have done, and what those of this run do.
  const char order_[2] = {};
  const char* before_ = &order_[0];
  const char* after_ = &order_[1];
  const unsigned* uncaught_;
  unsigned uncaught_before_ = 0;
  std::uint64_t last_idle_ = 0;
  unsigned idle_rounds_ = 0;
};

/// The text of an execution_error: what went wrong, and where each lane of the block is.
std::string describe(const block& where, const std::string& what);
const char* name_of(operation op);
std::uint64_t steady_ns();

}  // namespace warpheap::simt::detail
