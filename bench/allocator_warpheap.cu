// This heap in every workload that it shares with others.
#include "bench/workloads.cuh"

namespace warpheap::bench {
namespace {
const workloads_of<warpheap_adapter> of_warpheap;
}  // namespace
}  // namespace warpheap::bench
