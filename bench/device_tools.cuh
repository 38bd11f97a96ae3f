// What every workload needs of its backend besides the heap: arrays, time, a place for errors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <warpheap/launch.cuh>
#include <warpheap/options.hpp>
#include <warpheap/platform.hpp>

#include "bench/stopwatch.hpp"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {

#ifdef __CUDACC__
inline constexpr backend_kind this_backend = backend_kind::cuda;

inline void check_cuda(cudaError_t code, const char* what) {
  if (code != cudaSuccess)
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(code));
}
#else
inline constexpr backend_kind this_backend = backend_kind::simt;
#endif

/// Threads of a block in every kernel of the benchmark.
inline constexpr unsigned block_threads = 256;

inline dim3 blocks_for(std::size_t threads) {
  return dim3(static_cast<unsigned>((threads + block_threads - 1) / block_threads));
}

/// The number of this thread in a grid of one dimension.
__device__ inline std::size_t global_thread() {
  return std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
}

/// Memory for kernels that is not of the heap under test: device memory on CUDA. Zeroed.
template <class T>
class device_array {
 public:
  explicit device_array(std::size_t size) : size_(size) {
#ifdef __CUDACC__
    if (size_ == 0) return;
    check_cuda(cudaMalloc(&data_, bytes()), "memory of the benchmark");
    clear();
#else
    data_ = new T[size_]();
#endif
  }
  explicit device_array(std::span<const T> content) : device_array(content.size()) {
    assign(content);
  }
  ~device_array() {
#ifdef __CUDACC__
    (void)cudaFree(data_);
#else
    delete[] data_;
#endif
  }
  device_array(const device_array&) = delete;
  device_array& operator=(const device_array&) = delete;

  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t bytes() const { return size_ * sizeof(T); }

  /// A copy on the host; the kernels that write the array must have ended.
  std::vector<T> to_host() const {
    std::vector<T> out(size_);
    if (size_ == 0) return out;
#ifdef __CUDACC__
    check_cuda(cudaMemcpy(out.data(), data_, bytes(), cudaMemcpyDeviceToHost), "copy");
#else
    std::memcpy(out.data(), data_, bytes());
#endif
    return out;
  }
  /// Copies content of the array's size into it.
  void assign(std::span<const T> content) {
    if (size_ == 0) return;
#ifdef __CUDACC__
    check_cuda(cudaMemcpy(data_, content.data(), bytes(), cudaMemcpyHostToDevice), "copy");
    await_default_stream();
#else
    std::memcpy(data_, content.data(), bytes());
#endif
  }
  void clear() {
    if (size_ == 0) return;
#ifdef __CUDACC__
    check_cuda(cudaMemset(data_, 0, bytes()), "memory of the benchmark");
    await_default_stream();
#else
    std::memset(static_cast<void*>(data_), 0, bytes());
#endif
  }

 private:
#ifdef __CUDACC__
  /// A memset, and a copy from pageable memory, may return before they are done, and kernels on
  /// streams of their own do not wait for them.
  static void await_default_stream() {
    check_cuda(cudaStreamSynchronize(nullptr), "memory of the benchmark");
  }
#endif

  std::size_t size_;
  T* data_ = nullptr;
};

/// What the clock says of work of this backend: on a GPU the threads of the process only wait.
inline elapsed read(const stopwatch& clock) {
  elapsed out = clock.read();
  if (this_backend == backend_kind::cuda) out.cpu_ns.reset();
  return out;
}

/// The time from the first launch that `launches` makes on the default stream to the end of the
/// last: between two CUDA events; on the executor by the steady clock until synchronize() returns.
template <class F>
elapsed time_of(F&& launches) {
#ifdef __CUDACC__
  struct event {
    event() { check_cuda(cudaEventCreate(&handle), "event"); }
    ~event() { (void)cudaEventDestroy(handle); }
    cudaEvent_t handle = nullptr;
  } begin, end;
  check_cuda(cudaEventRecord(begin.handle), "event");
  launches();
  check_cuda(cudaEventRecord(end.handle), "event");
  synchronize();
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, begin.handle, end.handle), "event");
  return {1e6 * static_cast<double>(milliseconds), std::nullopt};
#else
  const stopwatch clock;
  launches();
  synchronize();
  return read(clock);
#endif
}

/// What kernels counted. One of many, chosen by block, so that blocks do not wait for one word.
struct tally {
  unsigned long long mallocs;
  unsigned long long frees;
  unsigned long long malloc_bytes;  // asked for
  unsigned long long free_bytes;
  unsigned long long changes;  // updates that found something to do
  unsigned long long denied;   // mallocs that returned nullptr
  unsigned long long denied_index;
  unsigned long long denied_bytes;
};
inline constexpr unsigned tallies = 64;

/// A lane's own counts, added to the shared ones when it ends.
class lane_tally {
 public:
  __device__ explicit lane_tally(tally* all) : all_(all + blockIdx.x % tallies) {}
  __device__ ~lane_tally() {
    add(&all_->mallocs, own_.mallocs);
    add(&all_->frees, own_.frees);
    add(&all_->malloc_bytes, own_.malloc_bytes);
    add(&all_->free_bytes, own_.free_bytes);
    add(&all_->changes, own_.changes);
  }
  lane_tally(const lane_tally&) = delete;
  lane_tally& operator=(const lane_tally&) = delete;

  /// heap.malloc(bytes), counted; `index` names the object in the error.
  template <class Heap>
  __device__ void* malloc(Heap& heap, std::size_t bytes, unsigned long long index) {
    void* p = heap.malloc(bytes);
    if (p != nullptr) {
      ++own_.mallocs;
      own_.malloc_bytes += bytes;
    } else if (atomicAdd(&all_->denied, 1ull) == 0) {
      all_->denied_index = index;
      all_->denied_bytes = bytes;
    }
    return p;
  }
  template <class Heap>
  __device__ void free(Heap& heap, void* p, std::size_t bytes) {
    heap.free(p);
    ++own_.frees;
    own_.free_bytes += bytes;
  }
  __device__ void change() { ++own_.changes; }

 private:
  __device__ static void add(unsigned long long* to, unsigned long long amount) {
    if (amount != 0) atomicAdd(to, amount);
  }

  tally* all_;
  tally own_{};
};

/// The sum of all tallies.
inline tally total(const device_array<tally>& all) {
  tally out{};
  for (const tally& one : all.to_host()) {
    out.mallocs += one.mallocs;
    out.frees += one.frees;
    out.malloc_bytes += one.malloc_bytes;
    out.free_bytes += one.free_bytes;
    out.changes += one.changes;
    if (out.denied == 0) {
      out.denied_index = one.denied_index;
      out.denied_bytes = one.denied_bytes;
    }
    out.denied += one.denied;
  }
  return out;
}

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
