// What a run asks each backend about: its memory, the executor's threads.
#include "bench/device_tools.cuh"

#include "bench/host_memory.hpp"
#include "bench/registry.hpp"

namespace warpheap::bench {
namespace {

#ifdef __CUDACC__

std::size_t available_bytes() {
  std::size_t free = 0;
  std::size_t total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

unsigned set_threads(unsigned) { return 0; }

#else

std::size_t available_bytes() { return available_memory(); }

unsigned set_threads(unsigned count) {
  if (count != 0) simt::set_worker_threads(count);
  return simt::worker_threads();
}

#endif

const hooks_registration of_backend({this_backend, available_bytes, set_threads});

}  // namespace
}  // namespace warpheap::bench
