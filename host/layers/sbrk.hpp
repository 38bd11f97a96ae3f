#pragma once

// Every object comes from a region that only grows, and is never freed. (Go: sbrk.)

#include <mutex>

#include "host/layers/object_layer.hpp"
#include "host/layers/pointer_table.hpp"

namespace warpheap {

/// The least that an allocator could do, as a bound for benchmarks; and a program that fails with
/// the heap but works with this layer uses freed objects. The region is half of the heap or, if
/// that is not free at the first object, the largest of a quarter, an eighth, ... that is.
class sbrk_layer final : public object_layer {
 public:
  sbrk_layer(object_layer* below, std::size_t heap_bytes)
      : object_layer(below), most_(heap_bytes / 2) {}

  /// The addresses of successive objects rise strictly.
  void* take(const object_request& r) override;
  /// Does nothing for an object of this layer.
  free_status free(void* p) override;
  std::size_t usable_size(const void* p) override;
  void forget() override;

 private:
  void lock_this() override;
  void unlock_this() override;
  bool make_region(contents kind);

  const std::size_t most_;
  std::mutex mutex_;
  std::byte* region_ = nullptr;
  std::byte* next_ = nullptr;
  std::byte* end_ = nullptr;
  pointer_table<std::size_t> sizes_;
};

}  // namespace warpheap
