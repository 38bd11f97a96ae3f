// Stands in for host/span_sync.hpp in the weak-memory check: what spans synchronise by, on words
// that relacy knows, with the orders passed through.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "relacy/weak_memory.hpp"

namespace warpheap {

/// As std::atomic, as far as it is used. Outside of the block that weak::memory models it is a
/// plain word.
template <class T>
class span_atomic {
  static constexpr bool is_pointer = std::is_pointer_v<T>;
  using value = std::conditional_t<is_pointer, std::uintptr_t, T>;
  // The model has no words below 32 bits.
  using word = std::conditional_t<sizeof(T) < 4, std::uint32_t, value>;

 public:
  constexpr span_atomic() = default;
  constexpr span_atomic(T v) requires(!is_pointer) : word_(v) {}
  constexpr span_atomic(std::nullptr_t) requires(is_pointer) {}

#define WARPHEAP_SITE const char *file = __builtin_FILE(), unsigned line = __builtin_LINE()

  T load(std::memory_order o, WARPHEAP_SITE) const {
    return from_bits(
        weak::the_memory.load(&word_, sizeof word_, to_relacy(o), {"load", file, line}));
  }
  void store(T v, std::memory_order o, WARPHEAP_SITE) {
    weak::the_memory.store(&word_, sizeof word_, to_bits(v), to_relacy(o), {"store", file, line});
  }
  T exchange(T v, std::memory_order o, WARPHEAP_SITE) {
    return change(o, [=](T) { return v; }, {"exchange", file, line});
  }
  T fetch_or(T v, std::memory_order o, WARPHEAP_SITE) {
    return change(o, [=](T old) { return static_cast<T>(old | v); }, {"fetch_or", file, line});
  }
  T fetch_and(T v, std::memory_order o, WARPHEAP_SITE) {
    return change(o, [=](T old) { return static_cast<T>(old & v); }, {"fetch_and", file, line});
  }
  bool compare_exchange_strong(T& expected, T desired, std::memory_order o, WARPHEAP_SITE) {
    std::uint64_t found = to_bits(expected);
    const bool done =
        weak::the_memory.compare_exchange(&word_, sizeof word_, found, to_bits(desired),
                                          to_relacy(o), {"compare_exchange", file, line});
    expected = from_bits(found);
    return done;
  }

#undef WARPHEAP_SITE

 private:
  static rl::memory_order to_relacy(std::memory_order o) {
    switch (o) {
      case std::memory_order::relaxed: return rl::mo_relaxed;
      case std::memory_order::consume:
      case std::memory_order::acquire: return rl::mo_acquire;
      case std::memory_order::release: return rl::mo_release;
      case std::memory_order::acq_rel: return rl::mo_acq_rel;
      default: return rl::mo_seq_cst;
    }
  }
  static T from_bits(std::uint64_t bits) {
    if constexpr (is_pointer)
      return reinterpret_cast<T>(static_cast<std::uintptr_t>(bits));
    else
      return static_cast<T>(bits);
  }
  static std::uint64_t to_bits(T v) {
    if constexpr (is_pointer)
      return reinterpret_cast<std::uintptr_t>(v);
    else
      return v;
  }
  template <class F>
  T change(std::memory_order o, F new_value, const weak::site& at) {
    return from_bits(weak::the_memory.change(
        &word_, sizeof word_, to_relacy(o), at,
        [&](std::uint64_t old) { return to_bits(new_value(from_bits(old))); }));
  }

  word word_ = 0;
};

/// A lock is a word too; who waits lets the others run.
class span_mutex {
 public:
  void lock() {
    for (std::uint32_t free = 0;
         !taken_.compare_exchange_strong(free, 1, std::memory_order_acquire); free = 0)
      weak::yield();
  }
  void unlock() { taken_.store(0, std::memory_order_release); }

 private:
  span_atomic<std::uint32_t> taken_;
};

/// Threads of the model are one of the system's.
inline const void* this_thread(const void* of_thread) {
  return static_cast<const char*>(of_thread) + weak::current_thread();
}

}  // namespace warpheap
