// __syncthreads and its reductions.
//
// As on Volta and later, the barrier waits for every thread of the block that has not exited.
#include "machine.hpp"

namespace warpheap::simt::detail {

int machine::block_barrier(lane& me, operation op, bool predicate, const wait_site& site) {
  warp& w = *me.home;
  block& where = *w.of;
  if (choice_ != nullptr && choice_->stops_at_collectives()) give_way(me);
  if (where.aborting || unwinding()) {
    leave_if_aborting(me);
    return 0;
  }
  me.waits = site;
  if (where.barrier_arrived == 0) {
    where.barrier_op = op;
    where.barrier_true = 0;
  } else if (where.barrier_op != op) {
    fail_lane(me, std::string("the lane calls ") + name_of(op) + ", others of the block wait at "
                      + name_of(where.barrier_op));
  }
  ++where.barrier_arrived;
  where.barrier_true += predicate;
  give(&where);
  if (where.barrier_arrived == where.live) {
    release_barrier(where);
  } else {
    w.at_barrier |= me.bit;
    w.runnable &= ~me.bit;
    wait(me);
    leave_if_aborting(me);
  }
  take(&where);
  return where.barrier_result;
}

void machine::release_barrier(block& where) {
  switch (where.barrier_op) {
    case operation::syncthreads_count:
      where.barrier_result = static_cast<int>(where.barrier_true);
      break;
    case operation::syncthreads_and:
      where.barrier_result = where.barrier_true == where.barrier_arrived;
      break;
    case operation::syncthreads_or: where.barrier_result = where.barrier_true != 0; break;
    default: where.barrier_result = 0;
  }
  where.barrier_arrived = 0;
  for (warp* w : where.warps) {
    w->runnable |= w->at_barrier;
    w->at_barrier = 0;
  }
}

}  // namespace warpheap::simt::detail
