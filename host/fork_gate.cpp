#include "host/fork_gate.hpp"

#include <sched.h>
#include <ctime>

namespace warpheap {

void fork_gate::rest(unsigned times) {
  if (times < yields) {
    sched_yield();
    return;
  }
  const timespec short_time{0, 50'000};
  nanosleep(&short_time, nullptr);
}

}  // namespace warpheap
