#include "stack_pool.hpp"

#include <sys/mman.h>
#include <unistd.h>
#include <new>
#include <warpheap/simt_switch.hpp>

namespace warpheap::simt::detail {

namespace {
std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }
}  // namespace

std::size_t lane_stack_bytes() {
#if defined(WARPHEAP_SIMT_ASAN) || defined(WARPHEAP_SIMT_TSAN)
  return 256 * 1024;
#else
  return 64 * 1024;
#endif
}

stack_pool::stack_pool(std::size_t count)
    : stride_(lane_stack_bytes() + page_bytes()), count_(count) {
  void* p = mmap(nullptr, stride_ * count_, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<std::byte*>(p);
  for (std::size_t i = 0; i < count_; ++i) {
    if (mprotect(base_ + i * stride_, page_bytes(), PROT_NONE) != 0) {
      munmap(base_, stride_ * count_);
      throw std::bad_alloc();
    }
  }
}

stack_pool::~stack_pool() { munmap(base_, stride_ * count_); }

stack stack_pool::operator[](std::size_t index) const {
  return {base_ + index * stride_ + page_bytes(), lane_stack_bytes()};
}

}  // namespace warpheap::simt::detail
