// CUDA's own malloc in every workload; the executor has none.
#include "bench/baselines.cuh"
#include "bench/workloads.cuh"

namespace warpheap::bench {
namespace {
#ifdef __CUDACC__
const workloads_of<cuda_malloc> of_cuda_malloc;
#endif
}  // namespace
}  // namespace warpheap::bench
