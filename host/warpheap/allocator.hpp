// A heap as the allocator of the standard library's containers.
//
//   warpheap::heap heap;
//   std::vector<int, warpheap::allocator<int>> numbers{warpheap::allocator<int>(heap)};
#pragma once

#include <cstddef>
#include <limits>
#include <new>
#include <type_traits>
#include <warpheap/heap.hpp>

namespace warpheap {

namespace detail {

/// `bytes` at a multiple of `alignment`. Throws std::bad_alloc when there is no memory, and for an
/// alignment that is not a power of two.
inline void* allocate_or_throw(heap& h, std::size_t bytes, std::size_t alignment) {
  // heap::malloc aligns to any power of two up to 16 that divides the size.
  const bool by_size =
      alignment == 1 || alignment == 2 || alignment == 4 || alignment == 8 || alignment == 16;
  void* p = nullptr;
  if (!by_size)
    p = h.aligned_alloc(alignment, bytes);
  else if (const std::size_t rounded = (bytes + alignment - 1) & ~(alignment - 1); rounded >= bytes)
    p = h.malloc(rounded);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace detail

/// Allocator of the C++ standard library over a heap. The heap must outlive the allocator and
/// everything allocated through it. Containers that are copied, moved or swapped take their
/// allocator along.
///
/// allocate throws std::bad_array_new_length when the bytes of n objects do not fit in std::size_t,
/// and std::bad_alloc when there is no memory. As thread-safe as the heap.
template <class T>
class allocator {
 public:
  using value_type = T;
  using propagate_on_container_copy_assignment = std::true_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  using is_always_equal = std::false_type;

  explicit allocator(heap& h) noexcept : heap_(&h) {}
  template <class U>
  allocator(const allocator<U>& other) noexcept : heap_(&other.upstream()) {}

  T* allocate(std::size_t n) {
    if (n > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_array_new_length();
    return static_cast<T*>(detail::allocate_or_throw(*heap_, n * sizeof(T), alignof(T)));
  }
  void deallocate(T* p, std::size_t) noexcept { heap_->free(p); }

  heap& upstream() const noexcept { return *heap_; }
  template <class U>
  friend bool operator==(const allocator& a, const allocator<U>& b) noexcept {
    return &a.upstream() == &b.upstream();
  }

 private:
  heap* heap_;
};

}  // namespace warpheap
