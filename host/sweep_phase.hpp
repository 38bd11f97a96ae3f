#pragma once

// How far a span is in the sweep cycle of its heap. (Go: mspan.sweepgen.)
//
// The heap's sweepgen h grows by 2 a cycle, which makes every span unswept (h - 2), and every
// cached one stale (h + 1), at once. h - 1: being swept; h: swept; h + 3: swept, cached. What an
// unswept span's bits say is out of date: nothing is taken from it or freed in it before it is
// swept, and one thread only gets to sweep it (begin_sweep). Release and acquire on the word hand
// what the sweep did to whoever finds the span swept.

#include <cstdint>

#include "host/persistentalloc.hpp"
#include "host/span_sync.hpp"

namespace warpheap {

enum class sweep_phase : std::uint8_t { unswept, sweeping, swept, stale_cached, cached };

class span_sweepgen {
 public:
  sweep_phase phase(std::uint32_t h) const {
    switch (static_cast<std::int32_t>(value_.load(std::memory_order_acquire) - h)) {
      case -2: return sweep_phase::unswept;
      case -1: return sweep_phase::sweeping;
      case 0: return sweep_phase::swept;
      case 1: return sweep_phase::stale_cached;
      case 3: return sweep_phase::cached;
      default: fatal("span's sweepgen out of step with the heap's");
    }
  }
  /// The span's bits are those of this cycle. A record that is dead may answer anything.
  bool is_swept(std::uint32_t h) const {
    const std::uint32_t ahead = value_.load(std::memory_order_acquire) - h;
    return ahead == 0 || ahead == 3;
  }
  /// From `from`, unswept or stale_cached, to sweeping: the caller sweeps the span. False when it
  /// is in another phase by now.
  bool begin_sweep(std::uint32_t h, sweep_phase from) {
    if (from != sweep_phase::unswept && from != sweep_phase::stale_cached) {
      fatal("bad sweepgen change");
    }
    std::uint32_t expected = from == sweep_phase::unswept ? h - 2 : h + 1;
    // Acquire: what was done to the span in the cycle before.
    return value_.compare_exchange_strong(expected, h - 1, std::memory_order_acq_rel);
  }
  /// Along a legal edge: unswept or stale_cached -> sweeping -> swept <-> cached. Aborts otherwise.
  /// For whoever has the span to itself.
  void set_phase(std::uint32_t h, sweep_phase to) {
    const sweep_phase from = phase(h);
    const bool legal = to == sweep_phase::sweeping
                           ? from == sweep_phase::unswept || from == sweep_phase::stale_cached
                       : to == sweep_phase::swept
                           ? from == sweep_phase::sweeping || from == sweep_phase::cached
                       : to == sweep_phase::cached ? from == sweep_phase::swept
                                                   : false;
    if (!legal) fatal("bad sweepgen change");
    value_.store(h
                     + (to == sweep_phase::sweeping ? ~0u
                        : to == sweep_phase::swept  ? 0u
                                                    : 3u),
                 std::memory_order_release);
  }
  /// A new span is swept.
  void reset(std::uint32_t h) { value_.store(h, std::memory_order_release); }
  std::uint32_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  span_atomic<std::uint32_t> value_{0};
};

}  // namespace warpheap
