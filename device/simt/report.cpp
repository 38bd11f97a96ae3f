// The text of an execution_error.
#include "machine.hpp"

#include <bit>
#include <cstdio>

namespace warpheap::simt::detail {

const char* name_of(operation op) {
  switch (op) {
    case operation::syncwarp: return "__syncwarp";
    case operation::ballot: return "__ballot_sync";
    case operation::any: return "__any_sync";
    case operation::all: return "__all_sync";
    case operation::shfl: return "__shfl_sync";
    case operation::shfl_up: return "__shfl_up_sync";
    case operation::shfl_down: return "__shfl_down_sync";
    case operation::shfl_xor: return "__shfl_xor_sync";
    case operation::match_any: return "__match_any_sync";
    case operation::shfl_two: return "shuffle_two";
    case operation::reduce_or_64: return "reduce_or_64";
    case operation::converged_match: return "converged_match";
    case operation::match_all: return "__match_all_sync";
    case operation::reduce_add: return "__reduce_add_sync";
    case operation::reduce_min:
    case operation::reduce_min_signed: return "__reduce_min_sync";
    case operation::reduce_max:
    case operation::reduce_max_signed: return "__reduce_max_sync";
    case operation::reduce_and: return "__reduce_and_sync";
    case operation::reduce_or: return "__reduce_or_sync";
    case operation::reduce_xor: return "__reduce_xor_sync";
    case operation::activemask: return "__activemask";
    case operation::syncthreads: return "__syncthreads";
    case operation::syncthreads_count: return "__syncthreads_count";
    case operation::syncthreads_and: return "__syncthreads_and";
    case operation::syncthreads_or: return "__syncthreads_or";
    case operation::nanosleep: return "__nanosleep";
  }
  return "?";
}

namespace {

enum class status { exited, collective, activemask, barrier, sleeping, runnable, running, refused };

struct row {
  status state;
  wait_site site;

  bool waits() const {
    return state != status::exited && state != status::runnable && state != status::running;
  }
  bool operator==(const row& other) const {
    return state == other.state
           && (!waits()
               || (site.op == other.site.op && site.mask == other.site.mask
                   && site.same_place(other.site)));
  }
};

row look_at(const lane& l) {
  const warp& w = *l.home;
  const auto in = [&](unsigned mask) { return (mask & l.bit) != 0; };
  status state = status::runnable;
  if (in(w.exited)) {
    state = status::exited;
  } else if (in(w.in_collective)) {
    state = status::collective;
  } else if (in(w.in_activemask)) {
    state = status::activemask;
  } else if (in(w.at_barrier)) {
    state = status::barrier;
  } else if (in(w.sleeping)) {
    state = status::sleeping;
  } else if (this_thread.lane == &l) {
    // A lane that fails where it would have to wait has recorded that place.
    state = *l.waits.file != '\0' ? status::refused : status::running;
  }
  row found{state, l.waits};
  // From an earlier __activemask, unless in one now: other operations leave the address unchanged.
  if (state != status::activemask) found.site.address = nullptr;
  return found;
}

const char* name_of(status state) {
  switch (state) {
    case status::exited: return "exited";
    case status::collective: return "waits";
    case status::activemask: return "waits";
    case status::barrier: return "waits";
    case status::sleeping: return "sleeps";
    case status::runnable: return "runnable";
    case status::running: return "runs";
    case status::refused: return "refused";
  }
  return "?";
}

std::string lane_list(unsigned mask) {
  std::string text;
  while (mask != 0) {
    const auto first = static_cast<unsigned>(std::countr_zero(mask));
    const auto count = static_cast<unsigned>(std::countr_one(mask >> first));
    if (!text.empty()) text += ',';
    text += std::to_string(first);
    if (count > 1) text += '-' + std::to_string(first + count - 1);
    mask &= count == warp_lanes ? 0u : ~(((1u << count) - 1u) << first);
  }
  return text;
}

std::string to_text(unsigned warp_index, unsigned lanes, const row& r) {
  char columns[160];
  std::snprintf(columns, sizeof columns, "\n  %4u  %-20s  %-8s", warp_index,
                lane_list(lanes).c_str(), name_of(r.state));
  std::string text = columns;
  if (!r.waits()) return text;
  std::snprintf(columns, sizeof columns, "  %-19s  ", name_of(r.site.op));
  text += columns;
  if (r.site.mask != 0) {
    std::snprintf(columns, sizeof columns, "0x%08x", r.site.mask);
    text += columns;
  } else {
    text += "          ";
  }
  if (*r.site.file != '\0') {
    text += "  ";
    text += r.site.file;
    text += ':' + std::to_string(r.site.line);
  }
  return text;
}

}  // namespace

std::string describe(const block& where, const std::string& what) {
  const auto& at = where.block_index;
  std::string text = "SIMT executor: " + what + "\nblock (" + std::to_string(at.x) + ","
                     + std::to_string(at.y) + "," + std::to_string(at.z) + ")";
  if (!where.name.empty()) text += " of " + where.name;
  text += "\n  warp  lanes                 state     operation            mask        location";
  for (const warp* w : where.warps) {
    for (unsigned rest = w->existing; rest != 0;) {
      const row first = look_at(w->lanes[static_cast<unsigned>(std::countr_zero(rest))]);
      unsigned alike = 0;
      for (unsigned i = 0; i < warp_lanes; ++i) {
        if ((rest >> i & 1u) != 0 && look_at(w->lanes[i]) == first) alike |= 1u << i;
      }
      text += to_text(w->index, alike, first);
      rest &= ~alike;
    }
  }
  return text;
}

}  // namespace warpheap::simt::detail
