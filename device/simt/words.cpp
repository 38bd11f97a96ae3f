// Where the words of simt_words.hpp enter the executor.
#include "machine.hpp"

#include <stdexcept>

namespace warpheap::simt {
namespace detail {

namespace {
lane& running_lane() {
  auto* me = static_cast<lane*>(this_thread.lane);
  if (me == nullptr) [[unlikely]]
    not_in_a_kernel();
  return *me;
}
}  // namespace

void not_in_a_kernel() {
  throw std::logic_error("a word of device code was called by a thread that runs no kernel");
}

#ifdef WARPHEAP_SIMT_INLINE_SWITCH

lane_view* arrive(operation op, unsigned mask, std::uint64_t value, unsigned source,
                  const char* file, unsigned line) {
  lane& me = running_lane();
  return me.home->owner->arrive(me, op, mask, value, source, file, line);
}

lane_view* arrive_active_mask(operation op, const char* file, unsigned line) {
  lane& me = running_lane();
  // The same line can be in two places of the code, after inlining or in a template.
  const void* address = __builtin_return_address(0);
  return me.home->owner->arrive_active_mask(me, {op, 0, line, file, address});
}

void left() {
  lane& me = running_lane();
  me.home->owner->leave_if_aborting(me);
}

#else

std::uint64_t collective(operation op, unsigned mask, std::uint64_t value, unsigned source,
                         const char* file, unsigned line) {
  quiet_scope quiet;
  lane& me = running_lane();
  machine& here = *me.home->owner;
  if (lane* next = here.arrive(me, op, mask, value, source, file, line); next != nullptr) {
    machine::switch_lanes(me, *next);
    here.leave_if_aborting(me);
  }
  take(&me);
  return me.result;
}

unsigned active_mask(operation op, const char* file, unsigned line) {
  quiet_scope quiet;
  lane& me = running_lane();
  machine& here = *me.home->owner;
  const void* address = __builtin_return_address(0);
  const wait_site site{op, 0, line, file, address};
  if (lane* next = here.arrive_active_mask(me, site); next != nullptr) {
    machine::switch_lanes(me, *next);
    here.leave_if_aborting(me);
  }
  return static_cast<unsigned>(me.result);
}

#endif

int block_barrier(operation op, bool predicate, const char* file, unsigned line) {
  quiet_scope quiet;
  lane& me = running_lane();
  return me.home->owner->block_barrier(me, op, predicate, {op, 0, line, file, nullptr});
}

void sleep_lane(unsigned nanoseconds, const char* file, unsigned line) {
  quiet_scope quiet;
  lane& me = running_lane();
  me.home->owner->sleep(me, nanoseconds, {operation::nanosleep, 0, line, file, nullptr});
}

void trap(const char* file, unsigned line) {
  quiet_scope quiet;
  lane& me = running_lane();
  me.waits = {};
  me.home->owner->fail_lane(me, std::string("__trap() at ") + file + ":" + std::to_string(line));
}

void* dynamic_shared_memory() {
  quiet_scope quiet;
  return running_lane().home->of->dynamic_shared;
}

void full_fence() {
#ifdef WARPHEAP_SIMT_TSAN
  // The sanitizer does not model fences. A word that every fence modifies orders at least as much.
  static unsigned word = 0;
  __atomic_fetch_add(&word, 1u, __ATOMIC_ACQ_REL);
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

}  // namespace detail

std::uint64_t now_ns() {
  using namespace detail;
  quiet_scope quiet;
  if (auto* me = static_cast<lane*>(this_thread.lane); me != nullptr) {
    if (const chooser* choice = me->home->owner->choice()) return choice->now();
  }
  return steady_ns();
}

}  // namespace warpheap::simt
