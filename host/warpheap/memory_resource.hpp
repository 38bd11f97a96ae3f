// A heap as the memory of the standard library's polymorphic containers.
//
//   warpheap::heap heap;
//   warpheap::memory_resource memory(heap);
//   std::pmr::vector<int> numbers(&memory);            // its elements can be used by kernels
#pragma once

#include <cstddef>
#include <memory_resource>
#include <warpheap/allocator.hpp>

namespace warpheap {

/// std::pmr::memory_resource over a heap, which must outlive it. As thread-safe as the heap.
///
/// allocate throws std::bad_alloc when there is no memory, and for an alignment that is not a power
/// of two. deallocate passes the pointer to heap::free and ignores its other arguments. Two
/// resources are equal if they have the same heap.
class memory_resource final : public std::pmr::memory_resource {
 public:
  explicit memory_resource(heap& h) noexcept : heap_(&h) {}
  heap& upstream() const noexcept { return *heap_; }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    return detail::allocate_or_throw(*heap_, bytes, alignment);
  }
  void do_deallocate(void* p, std::size_t, std::size_t) override { heap_->free(p); }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    const auto* o = dynamic_cast<const memory_resource*>(&other);
    return o != nullptr && o->heap_ == heap_;
  }

  heap* heap_;
};

}  // namespace warpheap
