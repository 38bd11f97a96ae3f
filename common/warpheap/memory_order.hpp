// The memory orders and scopes that an atomic operation (atomic.hpp) names.
#pragma once

#include <warpheap/platform.hpp>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {

enum class order { relaxed, acquire, release, acq_rel };

/// device: between the threads of one GPU. system: between the GPU and the host.
enum class scope { device, system };

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
