// What the tests of device code share: a fixture that runs on the backend of its flavour, and
// kernels that allocate, fill, check and free with contents derived from the object.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>
#include <warpheap/backend.hpp>
#include <warpheap/default_heap.cuh>
#include <warpheap/device_heap.cuh>
#include <warpheap/heap.hpp>
#include <warpheap/launch.cuh>

#include "test_scale.hpp"

namespace warpheap {
namespace {

using namespace literals;

/// Arrays that kernels and the host both use: host memory, pinned on CUDA.
template <class T>
class shared_array {
 public:
  explicit shared_array(std::size_t n) : n_(n) {
#ifdef __CUDACC__
    void* p = nullptr;
    launch_detail::check_launch("cudaMallocManaged", cudaMallocManaged(&p, n * sizeof(T) + 1));
    data_ = static_cast<T*>(p);
#else
    data_ = static_cast<T*>(::operator new(n * sizeof(T) + 1));
#endif
    for (std::size_t i = 0; i < n; ++i) data_[i] = T{};
  }
  ~shared_array() {
#ifdef __CUDACC__
    (void)cudaFree(data_);
#else
    ::operator delete(data_);
#endif
  }
  shared_array(const shared_array&) = delete;
  shared_array& operator=(const shared_array&) = delete;

  T* data() { return data_; }
  T& operator[](std::size_t i) { return data_[i]; }
  std::size_t size() const { return n_; }
  T* begin() { return data_; }
  T* end() { return data_ + n_; }

 private:
  std::size_t n_;
  T* data_ = nullptr;
};

class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
#ifdef __CUDACC__
    if (const std::string reason = why_no_cuda(); !reason.empty())
      GTEST_SKIP() << "needs a GPU: " << reason;
#endif
  }

  static heap_options options(std::size_t reserve) {
    heap_options o;
    o.reserve_bytes = reserve;
#ifdef __CUDACC__
    o.backend = backend_kind::cuda;
    // What a test sees must not depend on how soon the system wakes the service's thread. What the
    // short limit of the backend does is for the benchmark to say (device/service).
    o.refill_timeout_ns = 20'000'000;
#else
    o.backend = backend_kind::simt;
#endif
    return o;
  }

  /// The same, for tests that make errors on purpose.
  static heap_options quiet_options(std::size_t reserve) {
    heap_options o = options(reserve);
    o.on_report = [](const std::string&) {};
    return o;
  }

  /// What has to hold whenever nothing runs and every object is freed.
  static void expect_empty(heap& h) {
    const heap_stats s = h.stats();
    EXPECT_EQ(s.device.live_objects, 0u);
    EXPECT_EQ(s.host.live_objects, 0u);
    expect_sound(s);
  }
  static void expect_sound(const heap_stats& s) {
    EXPECT_EQ(s.unreachable_words, 0u) << "free slots that no search finds";
    EXPECT_EQ(s.phantom_words, 0u) << "free bits outside of spans";
  }
  static std::uint64_t errors(const heap_stats& s, error_kind kind) {
    return s.errors[static_cast<unsigned>(kind)];
  }
};

__device__ inline std::uint8_t pattern(const void* p, std::size_t i, std::uint32_t generation) {
  const auto a = reinterpret_cast<std::uint64_t>(p);
  return static_cast<std::uint8_t>((a >> 3) * 131 + i * 7 + generation * 29 + 1);
}

__device__ inline void fill(void* p, std::size_t size, std::uint32_t generation) {
  auto* bytes = static_cast<std::uint8_t*>(p);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = pattern(p, i, generation);
}

/// True when the object still holds what fill wrote: nobody else has the slot.
__device__ inline bool intact(const void* p, std::size_t size, std::uint32_t generation) {
  const auto* bytes = static_cast<const std::uint8_t*>(p);
  for (std::size_t i = 0; i < size; ++i)
    if (bytes[i] != pattern(p, i, generation)) return false;
  return true;
}

/// A small generator of pseudo-random numbers for kernels (xorshift, Marsaglia 2003).
struct random_numbers {
  std::uint32_t state;
  __device__ explicit random_numbers(std::uint32_t seed) : state(seed * 2654435761u + 88172645u) {
    if (state == 0) state = 1;
  }
  __device__ std::uint32_t operator()() {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
  }
  __device__ std::uint32_t below(std::uint32_t n) { return (*this)() % n; }
};

__device__ inline std::uint32_t thread_number() { return blockIdx.x * blockDim.x + threadIdx.x; }

[[maybe_unused]] __global__ void free_all(device_heap heap, void** pointers, std::uint32_t n) {
  const std::uint32_t i = thread_number();
  if (i < n) heap.free(pointers[i]);
}

[[maybe_unused]] __global__ void malloc_all(device_heap heap, void** pointers, std::uint32_t n,
                                            std::size_t size) {
  const std::uint32_t i = thread_number();
  if (i < n) pointers[i] = heap.malloc(size);
}

inline unsigned blocks_for(std::size_t n, unsigned block) {
  return static_cast<unsigned>((n + block - 1) / block);
}

}  // namespace
}  // namespace warpheap
