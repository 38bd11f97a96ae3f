#pragma once

// Every object comes from a region that only grows, and is never freed. (Go: sbrk.)

#include <mutex>

#include "host/layers/object_layer.hpp"
#include "host/layers/pointer_table.hpp"

namespace warpheap {

/// The least that an allocator could do, as the bound of a benchmark; and a program that goes wrong
/// with the heap and right with this one uses objects that it has freed. The region is half of the
/// heap, or the largest half, quarter, ... of that which is free at the first object.
class sbrk_layer final : public object_layer {
 public:
  sbrk_layer(object_layer* below, std::size_t heap_bytes)
      : object_layer(below), most_(heap_bytes / 2) {}

  /// Addresses rise strictly.
  void* take(const object_request& r) override;
  /// Nothing, for what is an object.
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
