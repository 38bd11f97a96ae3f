#pragma once

// Where address space for a heap is requested first.

#include <atomic>
#include <cstdint>

#include <warpheap/layout.hpp>

namespace warpheap {

/// Addresses that a reader of a dump recognises as a heap's, that are not valid UTF-8, and that a
/// new heap does not reuse from the one before it, so that stale pointers are detected. They are as
/// far apart as the largest heap is long. (Go: arenaHints.)
class arena_hints {
 public:
  static constexpr unsigned count = 0x80;

  /// f(address) for each in turn until it returns true, beginning one later than the last call did.
  template <class F>
  static bool find(F&& f) {
    // Relaxed: only a number to begin with. The system decides who gets an address.
    const unsigned first = next_.fetch_add(1, std::memory_order_relaxed);
    for (unsigned i = first; i != first + count; ++i) {
      if (f(reinterpret_cast<void*>(address(i)))) return true;
    }
    return false;
  }

 private:
  static std::uintptr_t address(unsigned i) {
    return std::uintptr_t{0xc0} << 32 | std::uintptr_t{i % count} << 40;
  }
  static_assert(max_reserve_bytes <= std::size_t{1} << 40);

  static constinit inline std::atomic<unsigned> next_{0};
};

}  // namespace warpheap
