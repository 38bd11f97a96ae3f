// What heap.hpp keeps for the fast path of free. For internal use.
#pragma once

#include <cstddef>
#include <cstdint>

namespace warpheap {

/// What the fast path of free knows about a heap.
struct free_view {
  const std::byte* base = nullptr;
  std::size_t bytes = 0;  ///< 0: the fast path frees no object
  const std::uintptr_t* owners = nullptr;
};

}  // namespace warpheap
