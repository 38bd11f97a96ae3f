// Memory operations of single warm calls, counted on the executor: what the budgets of the fast
// paths are held against.
#pragma once

#include <cstdint>

namespace warpheap::bench::model {

/// What eight lanes of a warp do in one call: the median of many calls on a warm heap.
struct warm_call {
  std::uint64_t loads = 0;              ///< of the lane with most
  std::uint64_t atomics = 0;            ///< of all lanes
  std::uint64_t compare_exchanges = 0;  ///< of these
};

struct warm_calls {
  warm_call of_malloc;
  warm_call of_free;
  warm_call of_refill;       ///< a malloc whose word was empty: it finds another one
  warm_call of_tiny_append;  ///< one lane, 1 byte: into its warp's open block
};

/// Calls for 16-byte objects on a heap of its own, and for tiny ones. Throws integrity_error for a
/// null pointer.
warm_calls count_warm_calls();

}  // namespace warpheap::bench::model
