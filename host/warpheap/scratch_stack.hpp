// Memory for temporary use: stacks of coroutines and signal handlers, buffers for one call.
//
//   warpheap::scratch_stack stack(heap, 64 << 10);
//   if (stack) makecontext_on(stack.base(), stack.size());
#pragma once

#include <cstddef>
#include <utility>
#include <warpheap/heap.hpp>

namespace warpheap {

/// Owns a scratch stack of a heap (heap::acquire_stack), which must outlive it. Movable, not
/// copyable. Not thread-safe, but it may be moved to another thread and destroyed there.
class scratch_stack {
 public:
  /// Owns nothing.
  scratch_stack() noexcept = default;
  /// A stack of at least `bytes` bytes. Owns nothing if there is no room or no stack has this
  /// alignment.
  explicit scratch_stack(heap& h, std::size_t bytes, std::size_t alignment = 16) noexcept
      : heap_(&h),
        base_(static_cast<std::byte*>(h.acquire_stack(bytes, alignment))),
        size_(base_ == nullptr ? 0 : heap::stack_size(bytes, alignment)) {}
  ~scratch_stack() { release(); }
  scratch_stack(scratch_stack&& other) noexcept
      : heap_(other.heap_),
        base_(std::exchange(other.base_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  scratch_stack& operator=(scratch_stack&& other) noexcept {
    if (this != &other) {
      release();
      heap_ = other.heap_;
      base_ = std::exchange(other.base_, nullptr);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }

  explicit operator bool() const noexcept { return base_ != nullptr; }
  /// The lowest byte; nullptr when it owns nothing.
  std::byte* base() const noexcept { return base_; }
  /// Bytes: a power of two, at least 2 KiB; 0 when it owns nothing.
  std::size_t size() const noexcept { return size_; }
  /// One past the highest byte, where a stack that grows down begins.
  std::byte* top() const noexcept { return base_ + size_; }

  /// Gives the stack back; afterwards this object owns nothing.
  void release() noexcept {
    if (base_ != nullptr) heap_->release_stack(base_, size_);
    base_ = nullptr;
    size_ = 0;
  }

 private:
  heap* heap_ = nullptr;
  std::byte* base_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace warpheap
