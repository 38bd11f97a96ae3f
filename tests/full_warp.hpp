#pragma once

namespace warpheap::testing {

/// The mask of all lanes of a warp.
inline constexpr unsigned full = 0xffffffffu;

}  // namespace warpheap::testing
