// The scheduler of an exploration.
#include "machine.hpp"

#include <algorithm>
#include <bit>
#include <deque>
#include <limits>
#include <stdexcept>
#include <warpheap/simt_explore.hpp>

namespace warpheap::simt {
namespace detail {
namespace {

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere for the same seed.
class random_source {
 public:
  explicit random_source(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// Uniform below `bound`, which is small enough for the bias to be negligible.
  std::uint64_t below(std::uint64_t bound) {
    return ((next() >> 32) * (bound & 0xffffffffu)) >> 32;
  }

 private:
  std::uint64_t state_;
};

}  // namespace

class explorer final : public chooser {
 public:
  explorer(machine& here, const explore_options& options,
           const std::vector<explored_kernel>& kernels, const std::vector<actor>& actors);

  exploration run();

  lane* choose(lane& current) override;
  unsigned converged_part(unsigned members) override;
  bool stops_at_collectives() override { return options_.how != strategy::bounded; }
  bool answer_early() override { return haste_ != 0 && random_.below(haste_) == 0; }
  std::uint64_t now() const override { return now_; }
  void failed(block& where) override;

 private:
  struct actor_lane {
    std::function<void()> body;
    block where;
  };

  void add_block(block& where, unsigned budget);
  void act(const actor& who);
  /// Makes at least one lane runnable, or returns false: none is left.
  bool find_work();
  void wake();
  lane* pick_random(unsigned runnable);
  lane* pick_highest();
  lane* pick_planned(const lane& current, unsigned runnable);
  lane* pick_any();
  unsigned count_runnable() const;
  bool kernels_live() const;
  void give_up(const std::string& what);
  void stop();

  machine& here_;
  const explore_options& options_;
  random_source random_;
  std::deque<block> blocks_;  // of the kernels
  std::deque<actor_lane> actors_;
  std::vector<block*> all_;
  std::vector<warp*> warps_;
  std::vector<std::uint64_t> changes_;  // steps at which pct lowers a priority, descending
  std::vector<std::vector<std::byte>> shared_;
  const lane* last_ = nullptr;
  std::uint64_t in_a_row_ = 0;
  std::uint64_t lowest_ = std::uint64_t{1} << 62;
  std::uint64_t now_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t trace_ = 0;
  std::uint64_t wake_at_ = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t haste_ = 0;  // one in so many arrivals at __activemask() is answered; 0: none
  bool stopping_ = false;
  std::string error_;
  char begin_ = 0;
  char end_ = 0;
};

namespace {
/// A lane's pct priority is above this until the lane is demoted.
constexpr std::uint64_t demoted_below = std::uint64_t{1} << 63;
constexpr unsigned idle_actor_ns = 500;
/// A lane that takes so many steps although nothing can stop it evidently waits for another lane.
constexpr std::uint64_t patience = 1000;

const char* name_of(strategy how) {
  return how == strategy::pct ? "pct" : how == strategy::random ? "random" : "bounded";
}
}  // namespace

explorer::explorer(machine& here, const explore_options& options,
                   const std::vector<explored_kernel>& kernels, const std::vector<actor>& actors)
    : here_(here), options_(options), random_(options.seed) {
  quiet_scope quiet;
  for (const explored_kernel& kernel : kernels) {
    const words::dim3 grid = kernel.shape.grid;
    for (unsigned z = 0; z < grid.z; ++z) {
      for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
          block& where = blocks_.emplace_back();
          where.block_index = {x, y, z};
          where.block_size = kernel.shape.block;
          where.grid_size = grid;
          where.body = &kernel.body;
          where.name = kernel.name;
          where.breaks_steps = options.breaks_steps;
          shared_.emplace_back(kernel.shape.dynamic_shared_bytes);
          where.dynamic_shared = shared_.back().data();
          add_block(where, 1);
        }
      }
    }
  }
  for (const actor& who : actors) {
    actor_lane& made = actors_.emplace_back();
    made.body = [this, &who] { act(who); };
    made.where.body = &made.body;
    made.where.name = "an actor";
    add_block(made.where, who.preemptible ? 1 : 0);
  }
  for (unsigned i = 1; i < options.depth; ++i)
    changes_.push_back(1 + random_.below(std::max<std::uint64_t>(options.expected_steps, 1)));
  constexpr std::uint64_t hastes[] = {0, 4, 16, 64};
  if (options.how != strategy::bounded) haste_ = hastes[random_.below(std::size(hastes))];
  std::sort(changes_.begin(), changes_.end(), std::greater<>());
}

void explorer::add_block(block& where, unsigned budget) {
  where.begin = &begin_;
  where.end = &end_;
  here_.set_up(where, static_cast<unsigned>(warps_.size()), budget);
  const unsigned slots = warp_slots();
  for (warp* w : where.warps) {
    for (lane& l : w->lanes) {
      l.warp_slot = static_cast<unsigned>(warps_.size()) % slots;
      l.priority = random_.next() | demoted_below;
    }
    warps_.push_back(w);
  }
  all_.push_back(&where);
}

void explorer::act(const actor& who) {
  const wait_site site{operation::nanosleep, 0, 0, "", nullptr};
  while (!stopping_) {
    const bool busy = who.step();
    quiet_scope quiet;
    auto& me = *static_cast<lane*>(this_thread.lane);
    if (stopping_) break;
    if (busy) {
      here_.give_way(me);
    } else {
      here_.sleep(me, idle_actor_ns, site);
    }
  }
}

exploration explorer::run() {
  give(&begin_);
  {
    quiet_scope quiet;
    lane* first = choose(warps_.front()->lanes.front());
    if (first != nullptr) here_.run(*first, this);
  }
  take(&end_);
  if (!error_.empty()) {
    const std::string which = options_.how == strategy::bounded
                                  ? "schedule " + options_.space->text()
                                  : "seed " + std::to_string(options_.seed);
    throw execution_error("exploration with " + which + ", strategy " + name_of(options_.how)
                          + ", failed after " + std::to_string(steps_) + " steps\n" + error_);
  }
  return {steps_, trace_, now_};
}

lane* explorer::choose(lane& current) {
  ++steps_;
  now_ += options_.step_ns;
  if ((current.home->exited & current.bit) != 0 && !stopping_ && !kernels_live()) stop();
  if (steps_ > options_.max_steps && !stopping_) give_up("more steps than max_steps");
  // A lane that has just gone to sleep may be the first to wake. Sleeping also lowers its priority:
  // lanes that poll must not starve an actor of low priority.
  if ((current.home->sleeping & current.bit) != 0) {
    wake_at_ = std::min(wake_at_, current.deadline);
    if (options_.how == strategy::pct) current.priority = --lowest_;
  }
  if (now_ >= wake_at_) wake();
  lane* next = nullptr;
  if (stopping_) {
    if (count_runnable() != 0 || find_work()) next = pick_any();
  } else {
    if (!changes_.empty() && steps_ >= changes_.back()) {
      changes_.pop_back();
      current.priority = --lowest_;
    }
    unsigned runnable = count_runnable();
    if (runnable == 0 && find_work()) runnable = count_runnable();
    if (runnable == 0) return nullptr;
    next = stopping_                           ? pick_any()
           : options_.how == strategy::random  ? pick_random(runnable)
           : options_.how == strategy::bounded ? pick_planned(current, runnable)
                                               : pick_highest();
  }
  if (next == nullptr) return nullptr;
  const std::uint64_t who = (std::uint64_t{next->home->lanes[0].warp_slot} << 5) | next->index;
  trace_ = (trace_ ^ (who + 1)) * 0x100000001b3u + (trace_ >> 47);
  in_a_row_ = next == last_ ? in_a_row_ + 1 : 0;
  last_ = next;
  return next;
}

lane* explorer::pick_random(unsigned runnable) {
  auto rest = static_cast<unsigned>(random_.below(runnable));
  for (warp* w : warps_) {
    unsigned mask = w->runnable;
    const auto count = static_cast<unsigned>(std::popcount(mask));
    if (rest >= count) {
      rest -= count;
      continue;
    }
    for (; rest != 0; --rest) mask &= mask - 1;
    return &w->lanes[static_cast<unsigned>(std::countr_zero(mask))];
  }
  return nullptr;
}

lane* explorer::pick_highest() {
  if (in_a_row_ >= patience) {
    const_cast<lane*>(last_)->priority = --lowest_;
    in_a_row_ = 0;
  }
  lane* best = nullptr;
  for (warp* w : warps_) {
    for (unsigned mask = w->runnable; mask != 0; mask &= mask - 1) {
      lane& candidate = w->lanes[static_cast<unsigned>(std::countr_zero(mask))];
      if (best == nullptr || candidate.priority > best->priority) best = &candidate;
    }
  }
  return best;
}

lane* explorer::pick_planned(const lane& current, unsigned runnable) {
  const bool can_go_on = (current.home->runnable & current.bit) != 0 && in_a_row_ < patience;
  const bool begun = last_ != nullptr;
  const bool counts = (can_go_on && begun) || options_.space->what_ == bounded_by::deviations;
  unsigned rest = options_.space->choose(runnable, counts);
  // Lanes in a circle that starts with or just after the current one, first the rest of its warp.
  const auto home = static_cast<std::size_t>(std::find(warps_.begin(), warps_.end(), current.home)
                                             - warps_.begin());
  const unsigned from = can_go_on ? current.bit : current.bit << 1;
  for (std::size_t i = 0; i <= warps_.size(); ++i) {
    warp& w = *warps_[(home + i) % warps_.size()];
    unsigned mask = w.runnable;
    if (i == 0) mask &= ~(from - 1) & (from == 0 ? 0 : ~0u);
    if (i == warps_.size()) mask &= from - 1;
    for (; mask != 0; mask &= mask - 1, --rest)
      if (rest == 0) return &w.lanes[static_cast<unsigned>(std::countr_zero(mask))];
  }
  return nullptr;
}

lane* explorer::pick_any() {
  for (warp* w : warps_) {
    if (w->runnable != 0) return &w->lanes[static_cast<unsigned>(std::countr_zero(w->runnable))];
  }
  return nullptr;
}

unsigned explorer::count_runnable() const {
  unsigned count = 0;
  for (const warp* w : warps_) count += static_cast<unsigned>(std::popcount(w->runnable));
  return count;
}

bool explorer::kernels_live() const {
  return std::any_of(blocks_.begin(), blocks_.end(), [](const block& b) { return b.live != 0; });
}

void explorer::wake() {
  wake_at_ = std::numeric_limits<std::uint64_t>::max();
  for (block* where : all_) wake_at_ = std::min(wake_at_, machine::wake_sleepers(*where, now_));
}

bool explorer::find_work() {
  std::uint64_t earliest = std::numeric_limits<std::uint64_t>::max();
  for (block* where : all_) earliest = std::min(earliest, machine::wake_sleepers(*where, now_));
  if (count_runnable() == 0 && earliest != std::numeric_limits<std::uint64_t>::max()) {
    now_ = std::max(now_, earliest);
    wake();
  }
  if (count_runnable() != 0) return true;
  if (kernels_live()) give_up("deadlock: no lane can run");
  return count_runnable() != 0;
}

unsigned explorer::converged_part(unsigned members) {
  const unsigned lowest = members & (~members + 1u);
  if (options_.how == strategy::bounded)
    return members == lowest || options_.space->choose(2, true) == 0 ? members : lowest;
  if (random_.below(4) == 0) return members;
  return (members & static_cast<unsigned>(random_.next() >> 32)) | lowest;
}

void explorer::stop() {
  stopping_ = true;
  for (actor_lane& a : actors_)
    machine::wake_sleepers(a.where, std::numeric_limits<std::uint64_t>::max());
}

void explorer::failed(block& where) {
  if (stopping_) return;
  try {
    std::rethrow_exception(where.error);
  } catch (const std::exception& e) {
    error_ = e.what();
  }
  for (block& b : blocks_) {
    if (!b.aborting) here_.abort(b);
  }
  stop();
}

void explorer::give_up(const std::string& what) {
  error_ = what;
  for (const block* where : all_) error_ += "\n" + describe(*where, "state of the lanes");
  for (block& b : blocks_) here_.abort(b);
  stop();
}

}  // namespace detail

exploration explore(const explore_options& options, const std::vector<explored_kernel>& kernels,
                    const std::vector<actor>& actors) {
  if (detail::this_thread.lane != nullptr) throw std::logic_error("explore was called by a kernel");
  for (const explored_kernel& kernel : kernels) validate(kernel.shape);
  if (kernels.empty()) return {};
  if ((options.how == strategy::bounded) != (options.space != nullptr))
    throw std::logic_error("a bounded exploration, and no other, has a space of schedules");
  // Fibers are kept from one exploration of a thread to the next.
  thread_local detail::machine here(0);
  return detail::explorer(here, options, kernels, actors).run();
}

}  // namespace warpheap::simt
