// One kernel for each fast path. What nvcc makes of them is in fast_path.golden; extern "C", so
// that the table has readable names.
#include <cstddef>
#include <warpheap/device_heap.cuh>

/// malloc of a size known at compile time.
extern "C" __global__ void malloc_32(warpheap::device_heap heap, void** objects) {
  objects[threadIdx.x] = heap.malloc(32);
}

/// malloc of any size.
extern "C" __global__ void malloc_any(warpheap::device_heap heap, std::size_t size,
                                      void** objects) {
  objects[threadIdx.x] = heap.malloc(size);
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
