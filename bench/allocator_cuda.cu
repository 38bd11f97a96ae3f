// CUDA's own malloc in every workload; the executor has none.
#include "bench/baselines.cuh"
#include "bench/workloads.cuh"

namespace warpheap::bench {
namespace {
#ifdef __CUDACC__
const workloads_of<cuda_malloc> registered;
#endif
}  // namespace
}  // namespace warpheap::bench
