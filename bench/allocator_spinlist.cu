// Free lists behind a spin lock in every workload.
#include "bench/baselines.cuh"
#include "bench/workloads.cuh"

namespace warpheap::bench {
namespace {
const workloads_of<spin_locked_list> of_spinlist;
}  // namespace
}  // namespace warpheap::bench
