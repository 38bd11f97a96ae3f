#pragma once

// How far a span is in the sweep cycle of its heap. (Go: mspan.sweepgen.)
//
// The heap's sweepgen h grows by 2 in each cycle, which makes every span unswept (h - 2), and every
// cached one stale (h + 1), at once. h - 1: being swept; h: swept; h + 3: swept, cached. The bits
// of an unswept span are out of date: nothing is taken from it or freed in it before it is swept,
// and only one thread gets to sweep it (begin_sweep). Release and acquire on the word: a thread
// that finds the span swept sees what the sweep did.

#include <cstdint>

#include "host/persistentalloc.hpp"
#include "host/span_sync.hpp"

namespace warpheap {

enum class sweep_phase : std::uint8_t { unswept, sweeping, swept, stale_cached, cached };

class span_sweepgen {
 public:
  sweep_phase phase(std::uint32_t h) const {
    switch (value_.load(std::memory_order_acquire) - h) {
      case unswept: return sweep_phase::unswept;
      case sweeping: return sweep_phase::sweeping;
      case swept: return sweep_phase::swept;
      case stale_cached: return sweep_phase::stale_cached;
      case cached: return sweep_phase::cached;
      default: fatal("span's sweepgen out of step with the heap's");
    }
  }
  /// The span's bits are those of this cycle. For a dead record the answer means nothing.
  bool is_swept(std::uint32_t h) const {
    const std::uint32_t ahead = value_.load(std::memory_order_acquire) - h;
    return ahead == swept || ahead == cached;
  }
  /// Changes `from`, unswept or stale_cached, to sweeping: the caller sweeps the span. False when
  /// the span is no longer in phase `from`.
  bool begin_sweep(std::uint32_t h, sweep_phase from) {
    if (from != sweep_phase::unswept && from != sweep_phase::stale_cached) {
      fatal("bad sweepgen change");
    }
    std::uint32_t expected = h + (from == sweep_phase::unswept ? unswept : stale_cached);
    // Acquire: sees what was done to the span in the cycle before.
    return value_.compare_exchange_strong(expected, h + sweeping, std::memory_order_acq_rel);
  }
  /// Changes the phase along a legal edge: unswept or stale_cached -> sweeping -> swept <-> cached.
  /// Aborts on any other. The caller must have the span to itself.
  void set_phase(std::uint32_t h, sweep_phase to) {
    // By numbers: a constant `to` leaves few comparisons.
    const std::uint32_t from = value_.load(std::memory_order_acquire) - h;
    const bool legal = to == sweep_phase::sweeping ? from == unswept || from == stale_cached
                       : to == sweep_phase::swept  ? from == sweeping || from == cached
                       : to == sweep_phase::cached ? from == swept
                                                   : false;
    if (!legal) [[unlikely]] {
      (void)phase(h);
      fatal("bad sweepgen change");
    }
    value_.store(h
                     + (to == sweep_phase::sweeping ? sweeping
                        : to == sweep_phase::swept  ? swept
                                                    : cached),
                 std::memory_order_release);
  }
  /// A new span counts as swept.
  void reset(std::uint32_t h) { value_.store(h, std::memory_order_release); }
  std::uint32_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  // How far the span is ahead of h.
  static constexpr std::uint32_t unswept = ~0u - 1, sweeping = ~0u, swept = 0, stale_cached = 1,
                                 cached = 3;
  span_atomic<std::uint32_t> value_{0};
};

}  // namespace warpheap
