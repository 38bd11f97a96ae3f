// How the lanes of a block take turns, start, exit and fail.
#include "machine.hpp"

#include <cxxabi.h>
#include <sched.h>
#include <algorithm>
#include <bit>
#include <chrono>
#include <limits>
#include <thread>
#include <utility>

namespace warpheap::simt::detail {

namespace {
constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();
}

std::uint64_t steady_ns() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                        std::chrono::steady_clock::now().time_since_epoch())
                                        .count());
}

machine::machine(unsigned first_warp_slot) : first_warp_slot_(first_warp_slot) {
  move_to_this_thread();
}

void machine::move_to_this_thread() {
  // This layout is part of the C++ ABI, shared by all its compilers, though no header declares it.
  struct exception_state {
    void* caught;
    unsigned uncaught;
  };
  uncaught_ = &reinterpret_cast<exception_state*>(abi::__cxa_get_globals())->uncaught;
}

machine::~machine() {
  quiet_scope quiet;
  warps_.clear();
}

void machine::set_up(block& where, unsigned first_warp, unsigned budget) {
  const dim3 size = where.block_size;
  const unsigned threads = size.x * size.y * size.z;
  const unsigned warps = (threads + warp_lanes - 1) / warp_lanes;
  while (warps_.size() < first_warp + warps) {
    auto fresh = std::make_unique<warp>();
    fresh->owner = this;
    fresh->stacks = std::make_unique<stack_pool>(warp_lanes);
    for (unsigned i = 0; i < warp_lanes; ++i) {
      lane& l = fresh->lanes[i];
      l.home = fresh.get();
      l.index = i;
      l.bit = 1u << i;
      l.warp_slot = first_warp_slot_ + static_cast<unsigned>(warps_.size());
      l.context.prepare((*fresh->stacks)[i], i, &machine::lane_entry);
    }
    warps_.push_back(std::move(fresh));
  }

  where.warps.clear();
  where.live = threads;
  where.sleepers = 0;
  where.aborting = false;
  where.error = nullptr;
  where.barrier_arrived = where.barrier_true = 0;
  for (unsigned i = 0; i < warps; ++i) {
    warp& w = *warps_[first_warp + i];
    const unsigned lanes = std::min(warp_lanes, threads - i * warp_lanes);
    w.of = &where;
    w.index = i;
    w.existing = lanes == warp_lanes ? ~0u : (1u << lanes) - 1u;
    w.runnable = w.existing;
    w.exited = w.in_collective = w.in_activemask = w.at_barrier = w.sleeping = 0;
    w.groups_used = w.recent_group = w.completions = 0;
    w.turn = warp_lanes - 1;
    for (group& g : w.groups) g.arrived = 0;
    for (unsigned j = 0; j < lanes; ++j) {
      const unsigned thread = i * warp_lanes + j;
      lane& l = w.lanes[j];
      l.block = &where;
      l.budget = budget;
      l.leaving = false;
      l.unbroken = l.overtime = 0;
      l.thread_index = {thread % size.x, thread / size.x % size.y, thread / (size.x * size.y)};
    }
    where.warps.push_back(&w);
  }
}

void machine::run(lane& first, chooser* choice) {
  choice_ = choice;
  uncaught_before_ = *uncaught_;
  std::swap(before_, after_);
  thread_.context.adopt_thread();
  this_thread.expired = [] {
    quiet_scope quiet;
    auto* me = static_cast<lane*>(this_thread.lane);
    if (me == nullptr) return;
    this_thread.countdown = me->budget;
    me->home->owner->give_way(*me);
  };
  switch_lanes(thread_, *take_thread(&first));
  choice_ = nullptr;
}

void machine::lane_entry() {
  for (;;) {
    lane* me = nullptr;
    lane* next = nullptr;
    {
      quiet_scope quiet;
      me = static_cast<lane*>(this_thread.lane);
    }
    run_kernel(*me);
    {
      quiet_scope quiet;
      next = me->home->owner->exit_lane(*me);
    }
    switch_lanes(*me, *next);
  }
}

void machine::run_kernel(lane& me) {
  const std::function<void()>* body = nullptr;
  {
    quiet_scope quiet;
    const block& where = *me.home->of;
    if (where.aborting) return;
    body = where.body;
    take(where.begin);
    // Blocks run by one worker share its __shared__ variables, one after the other.
    take(me.home->owner->before_);
  }
  const auto fail_with = [&me](const std::string& what) {
    quiet_scope quiet;
    me.waits = {};
    me.home->owner->fail(*me.home->of, what);
  };
  try {
    (*body)();
  } catch (const lane_unwind&) {
  } catch (const std::exception& e) {
    fail_with(std::string("an exception left the kernel: ") + e.what());
  } catch (...) {
    fail_with("an exception left the kernel");
  }
  quiet_scope quiet;
  const block& where = *me.home->of;
  give(where.end);
  if (where.all_ends != nullptr) give(where.all_ends);
  give(me.home->owner->after_);
}

lane* machine::exit_lane(lane& me) {
  warp& w = *me.home;
  block& where = *w.of;
  w.exited |= me.bit;
  w.runnable &= ~me.bit;
  --where.live;
  for (unsigned used = w.groups_used; used != 0; used &= used - 1) {
    group& g = w.groups[static_cast<unsigned>(std::countr_zero(used))];
    if ((g.mask & me.bit) == 0) continue;
    if (g.op != operation::syncwarp) {
      fail(where, "a lane has exited that others wait for");
      break;
    }
    g.needed &= ~me.bit;
    if (g.arrived == g.needed) complete(w, g);
  }
  if (where.barrier_arrived != 0 && where.barrier_arrived == where.live) release_barrier(where);
  return hand_over(me);
}

void machine::settle(warp& w) {
  if (w.in_activemask != 0) {
    answer_active_mask(w);
  } else if (w.in_collective != 0 && w.sleeping == 0) {
    // Only lanes of this warp can complete its collectives, and none of them will run again.
    fail(*w.of, w.at_barrier != 0
                    ? "deadlock: lanes wait at a barrier, others of their warp at a collective"
                    : "deadlock: each lane of the warp waits for others");
  }
}

lane* machine::hand_over_elsewhere(lane& me) {
  warp& w = *me.home;
  if (w.runnable == 0) settle(w);
  lane* next = choice_ != nullptr ? choice_->choose(me) : next_lane(me);
  return next != &me ? take_thread(next) : nullptr;
}

void machine::wait(lane& me) {
  if (lane* next = hand_over(me); next != nullptr) switch_lanes(me, *next);
}

lane* machine::next_lane(lane& me) {
  warp& w = *me.home;
  if ((w.runnable & me.bit) != 0) return &me;
  if (w.runnable != 0) return &w.next_runnable(me.index);
  block& where = *w.of;
  for (;;) {
    lane* next = next_warp_lane(where, w.index);
    if (next != nullptr || where.live == 0) return next;
    if (where.sleepers != 0) {
      idle(where);
    } else {
      fail(where, "deadlock: no lane of the block can run");
    }
  }
}

lane* machine::next_warp_lane(block& where, unsigned after_warp) {
  const auto count = static_cast<unsigned>(where.warps.size());
  for (unsigned i = 1; i <= count; ++i) {
    warp& w = *where.warps[(after_warp + i) % count];
    if (w.runnable != 0) return &w.next_runnable(w.turn);
  }
  return nullptr;
}

void machine::give_way(lane& me) {
  warp& w = *me.home;
  block& where = *w.of;
  if (!where.aborting
      && where.cancelled != nullptr
      // Only a hint to stop early; the reason is published by the end of the launch.
      && where.cancelled->load(std::memory_order_relaxed))
    abort(where);
  leave_if_unheld(me);
  if (where.aborting && unwinding()) return;
  lane* next = nullptr;
  if (choice_ != nullptr) {
    next = choice_->choose(me);
  } else {
    if (where.sleepers != 0) wake_sleepers(where, steady_ns());
    // The lane may wait for one that asks which lanes are active.
    if (w.in_activemask != 0) answer_active_mask(w);
    w.turn = me.index;
    next = next_warp_lane(where, w.index);
    // Alone in its block, it waits for a lane on another OS thread.
    if (next == &me) sched_yield();
  }
  if (next != &me) switch_lanes(me, *take_thread(next));
  leave_if_unheld(me);
}

void machine::sleep(lane& me, unsigned nanoseconds, const wait_site& site) {
  warp& w = *me.home;
  block& where = *w.of;
  leave_if_unheld(me);
  if (unwinding()) return;
  if (nanoseconds == 0) return give_way(me);
  me.waits = site;
  me.deadline = (choice_ != nullptr ? choice_->now() : steady_ns()) + nanoseconds;
  w.sleeping |= me.bit;
  w.runnable &= ~me.bit;
  ++where.sleepers;
  wait(me);
  leave_if_unheld(me);
}

std::uint64_t machine::wake_sleepers(block& where, std::uint64_t now) {
  std::uint64_t earliest = never;
  if (where.sleepers == 0) return earliest;
  for (warp* w : where.warps) {
    for (unsigned rest = w->sleeping; rest != 0; rest &= rest - 1) {
      lane& l = w->lanes[static_cast<unsigned>(std::countr_zero(rest))];
      if (l.deadline > now) {
        earliest = std::min(earliest, l.deadline);
      } else {
        w->sleeping &= ~l.bit;
        w->runnable |= l.bit;
        --where.sleepers;
      }
    }
  }
  return earliest;
}

void machine::idle(block& where) {
  // Every lane sleeps: the thread is left to those they wait for. Yielding suffices if there is a
  // core for everyone; after some rounds in a row there evidently is not.
  constexpr unsigned patient_rounds = 64;
  constexpr std::uint64_t same_wait_ns = 20'000;
  constexpr std::uint64_t nap_ns = 50'000;
  std::uint64_t now = steady_ns();
  idle_rounds_ = now - last_idle_ < same_wait_ns ? idle_rounds_ + 1 : 0;
  for (;;) {
    if (!where.aborting && where.cancelled != nullptr
        && where.cancelled->load(std::memory_order_relaxed))
      return abort(where);
    const std::uint64_t earliest = wake_sleepers(where, now);
    const bool awake = std::any_of(where.warps.begin(), where.warps.end(),
                                   [](const warp* w) { return w->runnable != 0; });
    if (awake) break;
    const std::uint64_t rest = earliest - now;
    if (idle_rounds_ > patient_rounds || rest > nap_ns) {
      std::this_thread::sleep_for(std::chrono::nanoseconds(std::min(rest, nap_ns)));
    } else {
      sched_yield();
    }
    now = steady_ns();
  }
  last_idle_ = now;
}

void machine::fail(block& where, const std::string& what) {
  if (where.aborting) return;
  where.error = std::make_exception_ptr(execution_error(describe(where, what)));
  abort(where);
  if (choice_ != nullptr) choice_->failed(where);
}

void machine::fail_lane(lane& me, const std::string& what) {
  const auto& at = me.thread_index;
  fail(*me.home->of, what + " (thread " + std::to_string(at.x) + "," + std::to_string(at.y) + ","
                         + std::to_string(at.z) + ", lane " + std::to_string(me.index) + " of warp "
                         + std::to_string(me.home->index) + ")");
  throw lane_unwind();
}

void machine::abort(block& where) {
  where.aborting = true;
  where.sleepers = 0;
  where.barrier_arrived = 0;
  for (warp* w : where.warps) {
    w->runnable = w->existing & ~w->exited;
    w->in_collective = w->in_activemask = w->at_barrier = w->sleeping = 0;
    w->groups_used = 0;
    for (lane& l : w->lanes) l.leaving = true;
  }
}

void machine::leave_if_aborting(lane& me) {
  if (me.home->of->aborting && !unwinding()) throw lane_unwind();
}

void machine::leave_if_unheld(lane& me) {
  // Enough for every step that ends at all.
  constexpr unsigned most_overtime = 1u << 20;
  const block& where = *me.home->of;
  if (!where.aborting || (me.unbroken != 0 && !where.breaks_steps && me.overtime++ < most_overtime))
    return;
  leave_if_aborting(me);
}

}  // namespace warpheap::simt::detail
