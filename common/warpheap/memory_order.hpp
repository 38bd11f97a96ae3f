// The memory orders and scopes that an atomic operation (atomic.hpp) names.
#pragma once

#include <warpheap/platform.hpp>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {

enum class order { relaxed, acquire, release, acq_rel };

/// device: between the threads of one GPU. system: between the GPU and the host.
enum class scope { device, system };

namespace atomic::detail {
/// The order as the compiler's __atomic built-ins have it.
constexpr int to_builtin(order o) {
  return o == order::relaxed   ? __ATOMIC_RELAXED
         : o == order::acquire ? __ATOMIC_ACQUIRE
         : o == order::release ? __ATOMIC_RELEASE
                               : __ATOMIC_ACQ_REL;
}
}  // namespace atomic::detail

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
