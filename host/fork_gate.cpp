#include "host/fork_gate.hpp"

#include <sched.h>
#include <ctime>

#include "host/barrier_for_all.hpp"

namespace warpheap {

void fork_gate::close() {
  closed_by_.store(&last_used, std::memory_order_relaxed);
  barrier_for_all();
}

void fork_gate::rest(unsigned times) {
  if (times < yields) {
    sched_yield();
    return;
  }
  const timespec short_time{0, 50'000};
  nanosleep(&short_time, nullptr);
}

void fork_gate::wait() {
  for (unsigned k = 0; is_closed(); k += k < yields) rest(k);
}

}  // namespace warpheap
