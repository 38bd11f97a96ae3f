// Memory orders and scopes for the atomic operations of atomic.hpp.
#pragma once

#include <warpheap/platform.hpp>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {

enum class order { relaxed, acquire, release, acq_rel };

/// device: between the threads of one GPU. system: between the GPU and the host.
enum class scope { device, system };

namespace atomic::detail {
/// The order's value for the compiler's __atomic built-ins.
constexpr int to_builtin(order o) {
  return o == order::relaxed   ? __ATOMIC_RELAXED
         : o == order::acquire ? __ATOMIC_ACQUIRE
         : o == order::release ? __ATOMIC_RELEASE
                               : __ATOMIC_ACQ_REL;
}
}  // namespace atomic::detail

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
