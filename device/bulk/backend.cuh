// What differs between the backends for an operation on a whole heap: memory shared by kernels and
// host, copies, and the current device. Only for bulk.cu and its parts.
#pragma once

#include <thrust/execution_policy.h>
#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <warpheap/backend.hpp>
#include <warpheap/launch.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace {

#ifdef __CUDACC__
void check(const char* call, cudaError_t code) { launch_detail::check_launch(call, code); }

/// Makes the heap's device current while an operation runs, whatever the caller's device is.
using device_scope = cuda_device_scope;
int current_device() { return current_cuda_device(); }

/// Host memory that kernels read and write, for passing pointers.
template <class T>
struct shared_deleter {
  void operator()(T* p) const { (void)cudaFreeHost(p); }
};
template <class T>
std::unique_ptr<T[], shared_deleter<T>> make_shared_array(std::size_t n) {
  void* p = nullptr;
  check("cudaHostAlloc",
        cudaHostAlloc(&p, n * sizeof(T), cudaHostAllocMapped | cudaHostAllocPortable));
  return std::unique_ptr<T[], shared_deleter<T>>(static_cast<T*>(p));
}

void copy_from_device(void* to, const void* from, std::size_t bytes) {
  check("cudaMemcpy", cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}

/// A record in device memory that kernels add to; atomics on host memory would cross the bus.
template <class T>
class device_record {
 public:
  device_record() { check("cudaMalloc", cudaMalloc(&p_, sizeof(T))); }
  ~device_record() { (void)cudaFree(p_); }
  T* get() { return static_cast<T*>(p_); }
  void zero() { check("cudaMemset", cudaMemset(p_, 0, sizeof(T))); }

 private:
  void* p_ = nullptr;
};
#else
struct device_scope {
  explicit device_scope(int) {}
};
int current_device() { return 0; }

template <class T>
using shared_deleter = std::default_delete<T[]>;
template <class T>
std::unique_ptr<T[]> make_shared_array(std::size_t n) {
  return std::make_unique<T[]>(n);
}
void copy_from_device(void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}
template <class T>
class device_record {
 public:
  T* get() { return &value_; }
  void zero() { value_ = T{}; }

 private:
  T value_{};
};
#endif
template <class T>
using shared_array = std::unique_ptr<T[], shared_deleter<T>>;

template <class T>
T read(device_record<T>& record) {
  T value;
  copy_from_device(&value, record.get(), sizeof value);
  return value;
}

/// Calls f(i) for i in [first, first + n), in any order.
template <class F>
void for_each_index(std::uint32_t first, std::uint32_t n, F f) {
#ifdef __CUDACC__
  // Thrust checks the thread's last error, and would take one left by the user's code for its own.
  (void)cudaGetLastError();
#endif
  thrust::for_each_n(thrust::device, thrust::counting_iterator<std::uint32_t>(first), n, f);
}

__device__ void add(std::uint64_t& sum, std::uint64_t n) {
  atomic::fetch_add<order::relaxed>(&sum, n);
}

}  // namespace
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
