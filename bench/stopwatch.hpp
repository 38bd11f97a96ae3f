// The clock of everything that is timed on the CPU.
#pragma once

#include <chrono>
#include <ctime>
#include <optional>

namespace warpheap::bench {

/// How long something took, and how long the threads of this process ran in the meantime.
struct elapsed {
  double ns = 0;
  std::optional<double> cpu_ns = {};  // of all threads together; nothing for work on a GPU

  elapsed& operator+=(const elapsed& other) {
    ns += other.ns;
    if (cpu_ns && other.cpu_ns)
      *cpu_ns += *other.cpu_ns;
    else
      cpu_ns.reset();
    return *this;
  }
};

/// Runs from its construction on: the steady clock, and that of the process's CPU time, which
/// stands still while other programs have the processors. Thread-safe.
class stopwatch {
 public:
  elapsed read() const {
    const double cpu_ns = process_ns() - cpu_begin_;
    return {
        std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin_).count(),
        cpu_ns};
  }

 private:
  static double process_ns() {
    std::timespec now{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return 1e9 * static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec);
  }

  double cpu_begin_ = process_ns();
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace warpheap::bench
