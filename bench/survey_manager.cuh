// This heap in the shape that the survey's harness wants ("Are dynamic memory managers on GPUs
// slow?", PPoPP 2021): a class derived from its MemoryManagerBase that is created with a size,
// passed to kernels by value, and has malloc and free there. In that harness:
//
//   #include "TestInstance.cuh"             // the harness's own: MemoryManagerBase
//   #include <bench/survey_manager.cuh>
//   using MemoryManagerWarpheap = warpheap::bench::survey_manager<MemoryManagerBase>;
//
// The interface is that of include/TestInstance.cuh in github.com/GPUPeople/GPUMemManSurvey.
#pragma once

#include <cstddef>

#include <warpheap/device_heap.cuh>
#include <warpheap/heap.hpp>

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {

/// Base: constructible from a size; with or without virtual init(), malloc(size), free(pointer).
template <class Base>
class survey_manager : public Base {
 public:
  explicit survey_manager(std::size_t bytes = std::size_t{2} << 30)
      : Base(bytes), heap_(make(bytes)), handle_(heap_->device()) {}
  /// A copy is what a kernel gets: it uses the heap, and only the original destroys it.
  survey_manager(const survey_manager& other) : Base(other), handle_(other.handle_) {}
  survey_manager& operator=(const survey_manager&) = delete;
  ~survey_manager() { delete heap_; }

  /// The heap is ready when it is constructed.
  void init() {}

  __device__ __forceinline__ void* malloc(std::size_t size) { return handle_.malloc(size); }
  __device__ __forceinline__ void free(void* p) { handle_.free(p); }

 private:
  static heap* make(std::size_t bytes) {
    heap_options wanted;
#ifdef __CUDACC__
    wanted.backend = backend_kind::cuda;
#else
    wanted.backend = backend_kind::simt;
#endif
    wanted.reserve_bytes = bytes;
    return new heap(wanted);
  }

  heap* heap_ = nullptr;
  device_heap handle_;
};

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
