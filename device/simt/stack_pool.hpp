// Stacks for lanes, each with a guard page below it.
#pragma once

#include <cstddef>

namespace warpheap::simt::detail {

struct stack {
  std::byte* bottom = nullptr;  ///< lowest usable byte; the page below is the guard
  std::size_t bytes = 0;
};

/// Usable bytes of a lane's stack. Sanitizers make frames several times larger.
std::size_t lane_stack_bytes();

/// `count` stacks in one mapping. Pages are backed when touched. Throws std::bad_alloc when the
/// system refuses.
class stack_pool {
 public:
  explicit stack_pool(std::size_t count);
  ~stack_pool();
  stack_pool(const stack_pool&) = delete;
  stack_pool& operator=(const stack_pool&) = delete;

  stack operator[](std::size_t index) const;

 private:
  std::byte* base_ = nullptr;
  std::size_t stride_ = 0;
  std::size_t count_ = 0;
};

}  // namespace warpheap::simt::detail
