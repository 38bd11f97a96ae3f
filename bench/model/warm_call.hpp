// Memory operations of single warm calls, counted on the executor: what the budgets of the fast
// paths are held against.
#pragma once

#include <cstdint>

namespace warpheap::bench::model {

/// What eight lanes of a warp do in one call: the median of many calls on a warm heap.
struct warm_call {
  std::uint64_t loads = 0;    ///< of the lane with most
  std::uint64_t atomics = 0;  ///< of all lanes
};

struct warm_calls {
  warm_call of_malloc;
  warm_call of_free;
};

/// Calls for 16-byte objects on a heap of its own. Throws integrity_error for a null pointer.
warm_calls count_warm_calls();

}  // namespace warpheap::bench::model
