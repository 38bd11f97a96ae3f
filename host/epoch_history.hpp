#pragma once

// When the heap was reset, and how long that took. (Go: pause_ns, pause_end and so on.)

#include <chrono>
#include <cstdint>

#include <warpheap/memory_stats.hpp>

namespace warpheap {

/// Not thread-safe: guarded by the heap's lock.
class epoch_history {
 public:
  void record(std::uint64_t end_unix_ns, std::uint64_t duration_ns) {
    const std::uint64_t slot = s_.count % epoch_stats::ring_slots;
    s_.duration_ns[slot] = duration_ns;
    s_.end_unix_ns[slot] = end_unix_ns;
    s_.total_ns += duration_ns;
    ++s_.count;
  }
  const epoch_stats& stats() const { return s_; }

  /// Records the time from its construction to its destruction.
  class recording {
   public:
    explicit recording(epoch_history& h) : history_(h) {}
    ~recording() {
      using namespace std::chrono;
      const auto ns = [](auto duration) {
        return static_cast<std::uint64_t>(duration_cast<nanoseconds>(duration).count());
      };
      history_.record(ns(system_clock::now().time_since_epoch()), ns(steady_clock::now() - start_));
    }
    recording(const recording&) = delete;
    recording& operator=(const recording&) = delete;

   private:
    epoch_history& history_;
    const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  };

 private:
  epoch_stats s_;
};

}  // namespace warpheap
