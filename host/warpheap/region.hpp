// Objects that are freed together, such as those of a request, a frame or a kernel.
//
//   warpheap::region region(heap);
//   auto* node = region.make<list_node>(1, nullptr);   // a bump of a pointer
//   std::pmr::vector<int> numbers(&region);            // also the memory of containers
//   kernel(node);                                      // kernels can use it
//   region.clear();                                    // everything is freed at once
#pragma once

#include <cstddef>
#include <memory_resource>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>
#include <warpheap/construct.hpp>
#include <warpheap/heap.hpp>

namespace warpheap {

/// How a region grows: each chunk is twice as large as the one before, up to the largest. Sizes are
/// in bytes and rounded up to whole pages.
struct region_options {
  std::size_t first_chunk_bytes = std::size_t{64} << 10;
  std::size_t largest_chunk_bytes = std::size_t{8} << 20;
};

/// Takes chunks of whole pages from a heap, which must outlive it, and hands them out from the
/// bottom up. Single objects cannot be freed: clear and the region's destructor free all of them,
/// and run no destructors. On the CPU backend, a freed chunk is made inaccessible and not reused
/// for a while, so that a use after free raises SIGSEGV at the offending instruction. On CUDA,
/// managed pages cannot be protected, and chunks can be reused at once. Kernels that use a region
/// must have ended before it is cleared.
///
/// Also a std::pmr::memory_resource, equal only to itself; deallocate does nothing. Not
/// thread-safe. Method: Go's user arenas.
class region final : public std::pmr::memory_resource {
 public:
  explicit region(heap& h, region_options options = {}) noexcept;
  ~region() override { clear(); }
  region(const region&) = delete;
  region& operator=(const region&) = delete;

  /// `bytes` bytes at a multiple of `alignment`; their contents are indeterminate. nullptr when
  /// there is no room, or for an alignment that is not a power of two up to a page (8 KiB).
  void* malloc(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t)) noexcept {
    const auto next = reinterpret_cast<std::uintptr_t>(next_);
    const std::size_t pad = -next & (alignment - 1);
    const auto left = static_cast<std::size_t>(end_ - next_);
    if (pad > left || bytes > left - pad || (alignment & (alignment - 1)) != 0
        || alignment - 1 >= page_size) [[unlikely]] {
      return malloc_slow(bytes, alignment);
    }
    std::byte* p = next_ + pad;
    next_ = p + bytes;
    used_ += pad + bytes;
    return p;
  }

  /// An object of a type whose destructor does nothing; nullptr when there is no room.
  template <class T, class... Args>
  T* make(Args&&... args) {
    static_assert(std::is_trivially_destructible_v<T>, "a region runs no destructors");
    void* p = malloc(sizeof(T), alignof(T));
    return p == nullptr ? nullptr : construct<T>(p, std::forward<Args>(args)...);
  }

  /// Frees everything. The region can be used again.
  void clear() noexcept;

  /// Bytes handed out since the last clear, including the padding for alignment.
  std::size_t used_bytes() const noexcept { return used_; }
  /// Total bytes of the chunks.
  std::size_t chunk_bytes() const noexcept { return chunk_bytes_; }

 private:
  void* malloc_slow(std::size_t bytes, std::size_t alignment) noexcept;
  std::byte* take_chunk(std::size_t bytes) noexcept;
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    void* p = malloc(bytes, alignment);
    if (p == nullptr) throw std::bad_alloc();
    return p;
  }
  void do_deallocate(void*, std::size_t, std::size_t) override {}
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

  heap* heap_;
  const region_options options_;
  std::byte* next_ = nullptr;  // free bytes of the newest chunk: [next_, end_)
  std::byte* end_ = nullptr;
  std::size_t next_chunk_;
  std::size_t used_ = 0;
  std::size_t chunk_bytes_ = 0;
  std::vector<std::byte*> chunks_;
};

}  // namespace warpheap
