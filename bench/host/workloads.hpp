// What the program of the suite "host" does with malloc and free: the shapes that people who write
// allocators for CPUs measure, written from their descriptions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace warpheap::bench::host {

/// How a workload is to run.
struct setting {
  unsigned threads = 1;
  bool touch = false;  ///< pairs and batches: write each object
  double scale = 1;    ///< of the number of operations
};

/// One measurement: operations are pairs of a malloc and a free, unless the workload says
/// otherwise.
struct measurement {
  std::size_t bytes = 0;     ///< of each object; 0: they vary
  double ns_per_op = 0;      ///< by the clock, per operation of one thread
  double cpu_ns_per_op = 0;  ///< CPU time of all threads, per operation of one
};

struct workload {
  const char* name;
  const char* summary;
  std::vector<measurement> (*run)(const setting&);
};

const std::vector<workload>& workloads();

/// Objects that, since the program began, did not have the contents they were given,
/// or lay at an address that is not aligned.
std::uint64_t damaged_objects();

/// The mallocs of all workloads since the program began, and how many returned a null pointer.
std::uint64_t mallocs_made();
std::uint64_t null_pointers();

}  // namespace warpheap::bench::host
