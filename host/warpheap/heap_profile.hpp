// Which code allocates: a sample of a heap's allocations by call stack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace warpheap {

/// The rate of Go's heap profile: on average one sample for every 512 KiB allocated.
inline constexpr std::size_t default_profile_rate = std::size_t{512} << 10;

/// Sampled allocations of a heap, by call stack and size: of host objects, and of those that
/// observed kernels made before the last synchronize(). (Go: runtime.MemProfile.)
struct heap_profile {
  /// Sampled allocations of one size from one call stack. The counts are of samples, not estimates.
  struct bucket {
    /// Return addresses, innermost first. Empty for objects of observed kernels (device_heap.cuh).
    std::vector<std::uintptr_t> stack;
    std::size_t object_bytes = 0;  ///< bytes requested
    std::uint64_t allocs = 0;      ///< sampled so far
    std::uint64_t frees = 0;       ///< sampled objects that were freed
  };
  /// An estimate of all allocations of a bucket: the samples, divided by the chance that an
  /// allocation of this size is sampled.
  struct estimate {
    double alloc_objects = 0, alloc_bytes = 0;
    double live_objects = 0, live_bytes = 0;
  };

  /// Mean bytes between samples. 1: every allocation is sampled; 0: none is.
  std::size_t rate = 0;
  std::vector<bucket> buckets;

  estimate estimate_of(const bucket& b) const;
  estimate total() const;

  /// The profile in the format of pprof (profile.proto, not compressed), for `go tool pprof FILE`:
  /// objects and bytes, allocated and live. It names the functions found in the process's dynamic
  /// symbols; pprof looks up the others in the mapped files.
  std::string pprof() const;
  /// A line for each stack, "outermost;...;innermost BYTES", with its live bytes: for flame graphs.
  std::string folded() const;
};

}  // namespace warpheap
