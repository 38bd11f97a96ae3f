// Warp collectives: lanes gather in groups, and the last to arrive computes all results.
#include "machine.hpp"

#include <bit>

namespace warpheap::simt::detail {

namespace {

/// What a shuffle from a non-participating lane returns: undefined in CUDA, conspicuous here.
constexpr std::uint64_t undefined_value = 0xdeadbeefdeadbeefu;

template <class Visit>
void for_each_lane(unsigned mask, Visit visit) {
  for (; mask != 0; mask &= mask - 1) visit(static_cast<unsigned>(std::countr_zero(mask)));
}

template <class Combine>
std::uint64_t reduce(const warp& w, unsigned mask, Combine combine) {
  auto total = static_cast<std::uint32_t>(w.value[static_cast<unsigned>(std::countr_zero(mask))]);
  for_each_lane(mask & (mask - 1), [&](unsigned i) {
    total = combine(total, static_cast<std::uint32_t>(w.value[i]));
  });
  return total;
}

unsigned lanes_with(const warp& w, unsigned mask, std::uint64_t value) {
  unsigned same = 0;
  for (unsigned i = 0; i < warp_lanes; ++i) same |= static_cast<unsigned>(w.value[i] == value) << i;
  return same & mask;
}

void match_any(warp& w, unsigned mask) {
  while (mask != 0) {
    const auto first = static_cast<unsigned>(std::countr_zero(mask));
    const unsigned same = lanes_with(w, mask, w.value[first]);
    for_each_lane(same, [&](unsigned i) { w.lanes[i].result = same; });
    mask &= ~same;
  }
}

void shuffle(warp& w, unsigned mask) {
  for_each_lane(mask, [&](unsigned i) {
    const unsigned from = w.source[i];
    w.lanes[i].result = (mask >> from & 1u) != 0 ? w.value[from] : undefined_value;
  });
}

void shuffle_two(warp& w, unsigned mask) {
  // All are read before any is written: a lane's `second` is both operand and result.
  std::array<std::uint64_t, warp_lanes> second;
  for_each_lane(mask, [&](unsigned i) { second[i] = w.lanes[i].second; });
  shuffle(w, mask);
  for_each_lane(mask, [&](unsigned i) {
    const unsigned from = w.source[i];
    w.lanes[i].second = (mask >> from & 1u) != 0 ? second[from] : undefined_value;
  });
}

/// The result of operations that give every lane the same value.
std::uint64_t common_result(const warp& w, operation op, unsigned mask) {
  using u32 = std::uint32_t;
  using i32 = std::int32_t;
  switch (op) {
    case operation::ballot: return lanes_with(w, mask, 1);
    case operation::any: return lanes_with(w, mask, 1) != 0;
    case operation::all: return lanes_with(w, mask, 1) == mask;
    case operation::match_all: {
      const auto first = static_cast<unsigned>(std::countr_zero(mask));
      return lanes_with(w, mask, w.value[first]) == mask ? mask : 0;
    }
    case operation::reduce_add: return reduce(w, mask, [](u32 a, u32 b) { return a + b; });
    case operation::reduce_min: return reduce(w, mask, [](u32 a, u32 b) { return a < b ? a : b; });
    case operation::reduce_max: return reduce(w, mask, [](u32 a, u32 b) { return a < b ? b : a; });
    case operation::reduce_min_signed:
      return reduce(w, mask, [](u32 a, u32 b) { return i32(a) < i32(b) ? a : b; });
    case operation::reduce_max_signed:
      return reduce(w, mask, [](u32 a, u32 b) { return i32(a) < i32(b) ? b : a; });
    case operation::reduce_and: return reduce(w, mask, [](u32 a, u32 b) { return a & b; });
    case operation::reduce_or: return reduce(w, mask, [](u32 a, u32 b) { return a | b; });
    case operation::reduce_or_64: {
      std::uint64_t total = 0;
      for_each_lane(mask, [&](unsigned i) { total |= w.value[i]; });
      return total;
    }
    case operation::reduce_xor: return reduce(w, mask, [](u32 a, u32 b) { return a ^ b; });
    default: return 0;
  }
}

}  // namespace

group& machine::join_group(lane& me, operation op, unsigned mask, const char* file, unsigned line) {
  warp& w = *me.home;
  group* joined = nullptr;
  unsigned deadlocked_with = 0;
  for_each_lane(w.groups_used, [&](unsigned i) {
    group& g = w.groups[i];
    if (g.mask == mask && g.op == op) {
      joined = &g;
      w.recent_group = i;
    } else if ((g.mask & me.bit) != 0 && (g.arrived & mask) != 0) {
      deadlocked_with |= g.arrived & mask;
    }
  });
  if (joined != nullptr) return *joined;

  me.waits = {op, mask, line, file, nullptr};
  if ((mask & me.bit) == 0) fail_lane(me, "the lane is not in its own mask");
  // CUDA lets __syncwarp proceed without lanes that have exited. All other operations have a
  // result, which would be incomplete.
  if ((mask & w.exited) != 0 && op != operation::syncwarp)
    fail_lane(me, "a lane of the mask has exited");
  if (deadlocked_with != 0)
    fail_lane(me, "lanes that name each other call different operations or masks");

  w.recent_group = static_cast<unsigned>(std::countr_one(w.groups_used));
  w.groups_used |= 1u << w.recent_group;
  group& g = w.groups[w.recent_group];
  g.mask = mask;
  g.needed = mask & w.existing & ~w.exited;
  g.arrived = 0;
  g.op = op;
  return g;
}

void machine::complete(warp& w, group& g) {
  const unsigned mask = g.needed;
  switch (g.op) {
    case operation::syncwarp: break;
    case operation::shfl:
    case operation::shfl_up:
    case operation::shfl_down:
    case operation::shfl_xor: shuffle(w, mask); break;
    case operation::shfl_two: shuffle_two(w, mask); break;
    case operation::match_any: match_any(w, mask); break;
    default: {
      const std::uint64_t result = common_result(w, g.op, mask);
      for_each_lane(mask, [&](unsigned i) { w.lanes[i].result = result; });
    }
  }
#ifdef WARPHEAP_SIMT_TSAN
  for_each_lane(mask, [&](unsigned i) { take(&w.lanes[i]); });
  for_each_lane(mask, [&](unsigned i) { give(&w.lanes[i]); });
#endif
  w.groups_used &= ~(1u << static_cast<unsigned>(&g - w.groups.data()));
  g.arrived = 0;
  w.in_collective &= ~mask;
  w.runnable |= mask;
}

lane* machine::arrive(lane& me, operation op, unsigned mask, std::uint64_t value, unsigned source,
                      const char* file, unsigned line) {
  // How many collectives a warp may complete before another warp of the block gets a turn.
  constexpr unsigned completions_in_a_row = 1024;
  warp& w = *me.home;
  if (choice_ != nullptr && choice_->stops_at_collectives()) [[unlikely]]
    give_way(me);
  if (me.leaving || unwinding()) [[unlikely]] {
    leave_if_aborting(me);
    me.result = 0;
    return nullptr;
  }
  w.value[me.index] = value;
  w.source[me.index] = source;
  group* g = &w.groups[w.recent_group];
  if (g->arrived == 0 || g->mask != mask || g->op != op || (mask & me.bit) == 0)
    g = &join_group(me, op, mask, file, line);
  g->arrived |= me.bit;
  give(&me);
  if (g->arrived == g->needed) {
    complete(w, *g);
    if (++w.completions >= completions_in_a_row) [[unlikely]] {
      w.completions = 0;
      give_way(me);
    }
    return nullptr;
  }
  me.waits.op = op;
  me.waits.mask = mask;
  me.waits.file = file;
  me.waits.line = line;
  w.in_collective |= me.bit;
  w.runnable &= ~me.bit;
  lane* next = hand_over(me);
  if (next == nullptr) leave_if_aborting(me);
  return next;
}

lane* machine::arrive_active_mask(lane& me, const wait_site& site) {
  warp& w = *me.home;
  if (choice_ != nullptr && choice_->stops_at_collectives()) [[unlikely]]
    give_way(me);
  if (me.leaving || unwinding()) [[unlikely]] {
    leave_if_aborting(me);
    me.result = me.bit;
    return nullptr;
  }
  me.waits = site;
  w.in_activemask |= me.bit;
  w.runnable &= ~me.bit;
  if (choice_ != nullptr && choice_->answer_early()) [[unlikely]]
    answer_active_mask(w);
  lane* next = hand_over(me);
  if (next == nullptr) leave_if_aborting(me);
  return next;
}

void machine::answer_active_mask(warp& w) {
  unsigned waiting = w.in_activemask;
  w.in_activemask = 0;
  w.runnable |= waiting;
  while (waiting != 0) {
    const wait_site& place = w.lanes[static_cast<unsigned>(std::countr_zero(waiting))].waits;
    unsigned converged = 0;
    for_each_lane(waiting, [&](unsigned i) {
      if (w.lanes[i].waits.same_place(place)) converged |= 1u << i;
    });
    if (choice_ != nullptr) converged = choice_->converged_part(converged);
    if (place.op == operation::converged_match) {
      for_each_lane(converged, [&](unsigned i) { w.value[i] = w.lanes[i].second; });
      match_any(w, converged);
    } else {
      for_each_lane(converged, [&](unsigned i) { w.lanes[i].result = converged; });
    }
    waiting &= ~converged;
  }
}

}  // namespace warpheap::simt::detail
