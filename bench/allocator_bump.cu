// The floor in every workload.
#include "bench/baselines.cuh"
#include "bench/workloads.cuh"

namespace warpheap::bench {
namespace {
const workloads_of<bump_pointer> of_bump;
}  // namespace
}  // namespace warpheap::bench
