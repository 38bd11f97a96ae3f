// What the heap is compared with, in the same run and by the same harness: a bump pointer (the
// floor: nothing can be cheaper than one atomic), free lists behind a spin lock, and on a GPU
// CUDA's own malloc. The textbook methods, written for this benchmark.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include <warpheap/atomic.hpp>

#include "bench/device_tools.cuh"

#ifndef __CUDACC__
#include <sys/mman.h>
#include <new>
#endif

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {

/// Memory that nobody has touched yet, so that a cold allocator is as cold as a cold heap.
class untouched_memory {
 public:
  explicit untouched_memory(std::size_t bytes) : bytes_(bytes) {
#ifdef __CUDACC__
    check_cuda(cudaMalloc(&data_, bytes), "memory of a baseline");
#else
    data_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data_ == MAP_FAILED) throw std::bad_alloc();
#endif
  }
  ~untouched_memory() {
#ifdef __CUDACC__
    (void)cudaFree(data_);
#else
    ::munmap(data_, bytes_);
#endif
  }
  untouched_memory(const untouched_memory&) = delete;
  untouched_memory& operator=(const untouched_memory&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

/// One atomic addition a lane; free does nothing. The floor of every comparison.
class bump_pointer {
 public:
  static constexpr const char* name = "bump";
  static constexpr bool frees = false;

  struct handle {
    std::byte* base;
    unsigned long long bytes;
    unsigned long long* used;

    __device__ void* malloc(std::size_t size) const {
      const unsigned long long wanted = (size + 15) / 16 * 16;
      const unsigned long long at = atomicAdd(used, wanted);
      return at + wanted <= bytes ? base + at : nullptr;
    }
    __device__ void free(void*) const {}
  };

  explicit bump_pointer(std::size_t bytes) : memory_(bytes), used_(1) {}
  handle device() { return {memory_.data(), memory_.bytes(), used_.data()}; }
  void rest() { used_.clear(); }

 private:
  untouched_memory memory_;
  device_array<unsigned long long> used_;
};

/// Free lists by power of two, each behind a spin lock, over a bump pointer. A 16-byte header in
/// front of each object names its list. What one writes in an hour, and what a GPU makes of it.
class spin_locked_list {
 public:
  static constexpr const char* name = "spinlist";
  static constexpr unsigned lists = 40;
  static constexpr std::size_t header = 16;

  struct alignas(128) list {
    std::uint32_t locked;
    std::uint64_t first;  // address of a free block, whose header holds the next one
  };

  struct handle {
    std::byte* base;
    unsigned long long bytes;
    unsigned long long* used;
    list* all;

    __device__ void* malloc(std::size_t size) const {
      if (size > bytes) return nullptr;
      const unsigned which = static_cast<unsigned>(64 - __clzll(size + header - 1));
      list& mine = all[which];
      std::uint64_t block = 0;
      locked(mine, [&] {
        block = mine.first;
        if (block != 0) mine.first = *reinterpret_cast<std::uint64_t*>(block);
      });
      if (block == 0) {
        const unsigned long long wanted = 1ull << which;
        // A failed addition stays: memory is out, and lists serve what is freed from here on.
        const unsigned long long at = atomicAdd(used, wanted);
        if (at + wanted > bytes) return nullptr;
        block = reinterpret_cast<std::uint64_t>(base) + at;
      }
      *reinterpret_cast<std::uint64_t*>(block) = which;
      return reinterpret_cast<void*>(block + header);
    }
    __device__ void free(void* p) const {
      if (p == nullptr) return;
      auto* block = reinterpret_cast<std::uint64_t*>(static_cast<std::byte*>(p) - header);
      list& mine = all[*block];
      locked(mine, [&] {
        *block = mine.first;
        mine.first = reinterpret_cast<std::uint64_t>(block);
      });
    }

   private:
    // Acquire and release make the list, and the header of its first block, the holder's alone. The
    // holder lets go before lanes meet again at the loop's end, where those that wait for the lock
    // would be waited for. Where it does so the compiler must not know that the loop is over.
    template <class F>
    __device__ static void locked(list& one, F&& f) {
      for (unsigned waiting = 1; waiting != 0;) {
        std::uint32_t expected = 0;
        if (atomic::compare_exchange<order::acquire>(&one.locked, expected, std::uint32_t{1})) {
          f();
          atomic::store<order::release>(&one.locked, std::uint32_t{0});
          waiting = 0;
        } else {
          __nanosleep(100);
        }
        asm volatile("" : "+r"(waiting));
      }
    }
  };

  explicit spin_locked_list(std::size_t bytes) : memory_(bytes), used_(1), lists_(lists) {}
  handle device() { return {memory_.data(), memory_.bytes(), used_.data(), lists_.data()}; }

 private:
  untouched_memory memory_;
  device_array<unsigned long long> used_;
  device_array<list> lists_;
};

#ifdef __CUDACC__
/// malloc and free of CUDA's device runtime. Its heap has the size that the first of these asked
/// for: CUDA lets nobody change it once a kernel that allocates has run.
class cuda_malloc {
 public:
  static constexpr const char* name = "cudamalloc";

  struct handle {
    __device__ void* malloc(std::size_t size) const { return ::malloc(size); }
    __device__ void free(void* p) const { ::free(p); }
  };

  explicit cuda_malloc(std::size_t bytes) {
    static const bool once = [bytes] {
      check_cuda(cudaDeviceSetLimit(cudaLimitMallocHeapSize, bytes), "size of CUDA's own heap");
      return true;
    }();
    (void)once;
  }
  handle device() { return {}; }
};
#endif

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
