#include "host/persistentalloc.hpp"

#include <sys/mman.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <new>

#include <warpheap/bits.hpp>

#include "host/keep_errno.hpp"

namespace warpheap {

void fatal(const char* what) {
  std::fprintf(stderr, "warpheap: fatal: %s\n", what);
  std::abort();
}

void* sys_reserve(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  const keep_errno keep;
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

void sys_release(void* p, std::size_t bytes) {
  const keep_errno keep;
  if (p != nullptr) munmap(p, bytes);
}

void sys_populate(void* p, std::size_t bytes) {
#ifdef MADV_POPULATE_WRITE
  const keep_errno keep;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  const std::size_t before = address % page;
  (void)madvise(reinterpret_cast<void*>(address - before), bits::align_up(before + bytes, page),
                MADV_POPULATE_WRITE);
#else
  (void)p, (void)bytes;
#endif
}

void* table_or_throw(std::size_t n, std::size_t size) {
  void* p = bits::mul_overflows(n, size) ? nullptr : sys_reserve(n * size);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

persistentalloc::~persistentalloc() {
  for (const block& b : blocks_) sys_release(b.start, b.bytes);
}

void* persistentalloc::take_block(std::size_t bytes) {
  if (!blocks_.reserve(blocks_.size() + 1)) return nullptr;
  void* p = sys_reserve(bytes);
  if (p == nullptr) return nullptr;
  (void)blocks_.push_back({p, bytes});  // there is room
  sys_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return p;
}

void* persistentalloc::alloc(std::size_t size, std::size_t align, sys_counter& stat) {
  if (size == 0) fatal("persistentalloc: size == 0");
  if (align == 0) align = 8;
  if (!bits::is_power_of_two(align)) fatal("persistentalloc: align is not a power of 2");
  if (align > max_align) fatal("persistentalloc: align is too large");

  const std::scoped_lock lock(mutex_);
  void* p = nullptr;
  if (size >= direct_bytes) {
    // A mapping is aligned to the system's page; slack provides for a larger alignment.
    const std::size_t slack = align > 4096 ? align : 0;
    p = take_block(size + slack);
    if (p == nullptr) return nullptr;
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    p = static_cast<std::byte*>(p) + (bits::align_up(address, align) - address);
  } else {
    const auto address = reinterpret_cast<std::uintptr_t>(chunk_);
    std::size_t start = bits::align_up(address + offset_, align) - address;
    if (chunk_ == nullptr || start + size > chunk_bytes) {
      auto* fresh = static_cast<std::byte*>(take_block(chunk_bytes));
      if (fresh == nullptr) return nullptr;
      chunk_ = fresh;
      const auto first = reinterpret_cast<std::uintptr_t>(fresh);
      start = bits::align_up(first, align) - first;
    }
    p = chunk_ + start;
    offset_ = start + size;
  }
  stat.fetch_add(size, std::memory_order_relaxed);
  return p;
}

}  // namespace warpheap
