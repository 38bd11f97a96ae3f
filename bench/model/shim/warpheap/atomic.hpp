// Stands in for common/warpheap/atomic.hpp where operations are counted: each is noted, and done.
#pragma once

#include <cstdint>
#include <warpheap/memory_order.hpp>
#include <warpheap/platform.hpp>

#include "bench/model/count.hpp"

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace atomic {

namespace detail {
inline void note(bench::model::kind what, const void* p) {
  bench::model::note(what, p);
  simt::switch_point();
}
/// change(), a read-modify-write of *p.
template <class Change>
auto rmw(const void* p, Change change) {
  detail::note(bench::model::kind::atomic, p);
  return change();
}
}  // namespace detail

template <order O, scope S = scope::device, class T>
T load(const T* p) {
  detail::note(bench::model::kind::load, p);
  return __atomic_load_n(p, detail::to_builtin(O));
}
template <order O, scope S = scope::device, class T>
void store(T* p, T value) {
  detail::note(bench::model::kind::store, p);
  __atomic_store_n(p, value, detail::to_builtin(O));
}
template <order O, scope S = scope::device, class T>
T fetch_and(T* p, T mask) {
  return detail::rmw(p, [=] { return __atomic_fetch_and(p, mask, detail::to_builtin(O)); });
}
template <order O, scope S = scope::device, class T>
T fetch_or(T* p, T bits) {
  return detail::rmw(p, [=] { return __atomic_fetch_or(p, bits, detail::to_builtin(O)); });
}
template <order O, scope S = scope::device, class T>
T fetch_add(T* p, T amount) {
  return detail::rmw(p, [=] { return __atomic_fetch_add(p, amount, detail::to_builtin(O)); });
}
template <order O, scope S = scope::device, class T>
T exchange(T* p, T value) {
  return detail::rmw(p, [=] { return __atomic_exchange_n(p, value, detail::to_builtin(O)); });
}
template <order O, scope S = scope::device, class T>
bool compare_exchange(T* p, T& expected, T desired) {
  return detail::rmw(p, [&] {
    ++bench::model::of_this_warp.compare_exchanges;
    return __atomic_compare_exchange_n(p, &expected, desired, false, detail::to_builtin(O),
                                       __ATOMIC_RELAXED);
  });
}
/// Not counted: it is no access, and on no path that the model is asked about.
inline void fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

}  // namespace atomic
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
