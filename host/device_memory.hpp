// The arrays that kernels work on (heap_view.hpp), allocated for one heap.
#pragma once

#include <memory>
#include <warpheap/backend.hpp>

namespace warpheap {

/// There is no room for a heap of this size; there may be for a smaller one.
class no_room : public heap_error {
 public:
  using heap_error::heap_error;
};

/// Owns the reservation, the device arrays and the queue; `view()` says where they are.
class device_memory {
 public:
  /// Throws no_room, naming what could not be allocated. Without kernels only the reservation is
  /// made.
  device_memory(memory_backend& memory, const heap_options& options, bool kernels);
  ~device_memory();
  device_memory(const device_memory&) = delete;
  device_memory& operator=(const device_memory&) = delete;

  /// Bytes of the arrays.
  std::size_t bytes() const { return array_bytes_; }
  const heap_view& view() const { return view_; }
  /// Pages in the stock at the start: initial_stock_bytes, capped.
  std::size_t stock_pages(const heap_options& options) const;
  /// A bit for each byte of the heap, initially zero, in device memory; allocated by the first
  /// call. Throws no_room when there is no room for it. Not thread-safe.
  std::uint32_t* marks();

 private:
  explicit device_memory(memory_backend& memory) : memory_(memory) {}

  memory_backend& memory_;
  heap_view view_;
  std::byte* arrays_ = nullptr;
  std::size_t array_bytes_ = 0;
  void* marks_ = nullptr;
};

}  // namespace warpheap
