// Stands in for common/warpheap/atomic.hpp in the weak-memory check: the same functions, on words
// that relacy knows, with the orders passed through.
#pragma once

#include <cstdint>
#include <warpheap/memory_order.hpp>
#include <warpheap/platform.hpp>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {

namespace atomic {

namespace detail {
constexpr rl::memory_order to_relacy(order o) {
  return o == order::relaxed   ? rl::mo_relaxed
         : o == order::acquire ? rl::mo_acquire
         : o == order::release ? rl::mo_release
                               : rl::mo_acq_rel;
}

template <order O, class T, class Change>
T change(T* p, Change new_value, const weak::site& at) {
  return static_cast<T>(
      weak::the_memory.change(p, sizeof(T), to_relacy(O), at, [&](std::uint64_t old) {
        return std::uint64_t{static_cast<T>(new_value(static_cast<T>(old)))};
      }));
}
}  // namespace detail

#define WARPHEAP_SITE const char *file = __builtin_FILE(), unsigned line = __builtin_LINE()

template <order O, scope S = scope::device, class T>
T load(const T* p, WARPHEAP_SITE) {
  static_assert(O == order::relaxed || O == order::acquire);
  return static_cast<T>(
      weak::the_memory.load(p, sizeof(T), detail::to_relacy(O), {"load", file, line}));
}

template <order O, scope S = scope::device, class T>
void store(T* p, T value, WARPHEAP_SITE) {
  static_assert(O == order::relaxed || O == order::release);
  weak::the_memory.store(p, sizeof(T), value, detail::to_relacy(O), {"store", file, line});
}

template <order O, scope S = scope::device, class T>
T fetch_and(T* p, T mask, WARPHEAP_SITE) {
  return detail::change<O>(p, [=](T old) { return old & mask; }, {"fetch_and", file, line});
}

template <order O, scope S = scope::device, class T>
T fetch_or(T* p, T bits, WARPHEAP_SITE) {
  return detail::change<O>(p, [=](T old) { return old | bits; }, {"fetch_or", file, line});
}

template <order O, scope S = scope::device, class T>
T fetch_add(T* p, T amount, WARPHEAP_SITE) {
  return detail::change<O>(p, [=](T old) { return old + amount; }, {"fetch_add", file, line});
}

template <order O, scope S = scope::device, class T>
T exchange(T* p, T value, WARPHEAP_SITE) {
  return detail::change<O>(p, [=](T) { return value; }, {"exchange", file, line});
}

template <order O, scope S = scope::device, class T>
bool compare_exchange(T* p, T& expected, T desired, WARPHEAP_SITE) {
  std::uint64_t found = expected;
  const bool done = weak::the_memory.compare_exchange(
      p, sizeof(T), found, desired, detail::to_relacy(O), {"compare_exchange", file, line});
  expected = static_cast<T>(found);
  return done;
}

inline void fence() { weak::the_memory.fence(); }

#undef WARPHEAP_SITE

}  // namespace atomic
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
