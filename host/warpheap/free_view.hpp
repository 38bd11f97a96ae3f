#pragma once

#include <cstddef>
#include <cstdint>

namespace warpheap {

/// A heap as the fast path of free sees it.
struct free_view {
  const std::byte* base = nullptr;
  std::size_t bytes = 0;  ///< 0: no object is freed by the fast path
  const std::uintptr_t* owners = nullptr;
};

}  // namespace warpheap
