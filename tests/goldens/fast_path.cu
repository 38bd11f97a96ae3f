// One kernel for each fast path. What nvcc makes of them is in fast_path.golden; extern "C", so
// that the table has readable names.
#include <cstddef>
#include <warpheap/device_heap.cuh>

/// malloc of a size known at compile time.
extern "C" __global__ void malloc_32(warpheap::device_heap heap, void** objects) {
  objects[threadIdx.x] = heap.malloc(32);
}

#ifndef __CUDACC_RDC__  // there ptxas refuses limits below what a called function was compiled to
/// The same under a limit of 32 registers: all of a GPU's threads can be resident.
extern "C" __global__ void __launch_bounds__(1024, 2)
    malloc_32_full(warpheap::device_heap heap, void** objects) {
  objects[threadIdx.x] = heap.malloc(32);
}

/// The same, and a free, under limits of 28 and 24: slow paths are compiled for them as well.
extern "C" __global__ void __maxnreg__(28)
    malloc_32_in_28(warpheap::device_heap heap, void** objects) {
  objects[threadIdx.x] = heap.malloc(32);
}
extern "C" __global__ void __maxnreg__(24)
    free_one_in_24(warpheap::device_heap heap, void** objects) {
  heap.free(objects[threadIdx.x]);
}
#endif

/// malloc of any size.
extern "C" __global__ void malloc_any(warpheap::device_heap heap, std::size_t size,
                                      void** objects) {
  objects[threadIdx.x] = heap.malloc(size);
}

/// A size that is known to the compiler as such.
extern "C" __global__ void malloc_fixed_32(warpheap::device_heap heap, void** objects) {
  objects[threadIdx.x] = heap.malloc<32>();
}

/// Several objects at once.
extern "C" __global__ void malloc_n_32(warpheap::device_heap heap, void** objects,
                                       unsigned* count) {
  count[threadIdx.x] = heap.malloc_n(32, 8, objects + 8 * threadIdx.x);
}

extern "C" __global__ void free_one(warpheap::device_heap heap, void** objects) {
  heap.free(objects[threadIdx.x]);
}

/// A kernel that allocates, uses and frees.
extern "C" __global__ void malloc_free_32(warpheap::device_heap heap, int* results) {
  int* p = static_cast<int*>(heap.malloc(32));
  if (p == nullptr) return;
  *p = results[threadIdx.x];
  __syncwarp(__activemask());
  results[threadIdx.x] = *p + 1;
  heap.free(p);
}
