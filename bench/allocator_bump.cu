// The floor in every workload.
#include "bench/baselines.cuh"
#include "bench/workloads.cuh"

namespace warpheap::bench {
namespace {
const workloads_of<bump_pointer> registered;
}  // namespace
}  // namespace warpheap::bench
