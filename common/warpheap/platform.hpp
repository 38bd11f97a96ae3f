// CUDA's vocabulary on both backends: include this, and kernels are ordinary CUDA C++.
//
// Under nvcc the names are CUDA's own. Any other compiler gets them from simt_words.hpp, for the
// SIMT executor. Code that is compiled for both, and may be linked into one binary, is in the
// inline namespace WARPHEAP_BACKEND_NS.
//
// Two names cannot be spelt the same on a host compiler: `extern __shared__` (use
// `warpheap::dynamic_shared<T>()`) and `__noinline__` (libstdc++ uses it itself).
#pragma once

#include <warpheap/hd.hpp>

#ifdef __CUDACC__

#include <cuda_runtime.h>
#include <cassert>
#include <cstdio>

#define WARPHEAP_BACKEND_NS on_cuda

namespace warpheap {
inline namespace on_cuda {

/// The block's dynamic shared memory, 16-byte aligned, of the size given at the launch.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char warpheap_dynamic_shared_bytes[];
  return reinterpret_cast<T*>(warpheap_dynamic_shared_bytes);
}

/// The calling thread's index in its warp, 0 to 31.
__device__ __forceinline__ unsigned lane_id() {
  unsigned lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

}  // namespace on_cuda
}  // namespace warpheap

#else

#include <warpheap/simt_words.hpp>

#define WARPHEAP_BACKEND_NS on_simt

namespace warpheap {
inline namespace on_simt {

/// The block's dynamic shared memory, 16-byte aligned, of the size given at the launch.
template <class T>
inline T* dynamic_shared() {
  return static_cast<T*>(simt::detail::dynamic_shared_memory());
}

/// The calling thread's index in its warp, 0 to 31.
inline unsigned lane_id() { return simt::detail::this_lane().index; }

}  // namespace on_simt
}  // namespace warpheap

#endif
