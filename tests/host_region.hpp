#pragma once

// Memory for a host heap under test, with a page source that counts and may refuse.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <atomic>
#include <cstddef>

#include "host/mheap.hpp"

namespace warpheap::test {

class host_region {
 public:
  static constexpr std::size_t align = std::size_t{64} << 20;

  explicit host_region(std::size_t bytes) : bytes_(bytes) {
    void* p = mmap(nullptr, bytes + align, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    mapping_ = static_cast<std::byte*>(p);
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    base_ = mapping_ + ((address + align - 1) / align * align - address);
  }
  ~host_region() { munmap(mapping_, bytes_ + align); }
  host_region(const host_region&) = delete;
  host_region& operator=(const host_region&) = delete;

  std::byte* base() const { return base_; }
  std::size_t bytes() const { return bytes_; }

  page_source source() {
    page_source s;
    s.context = this;
    s.commit = [](void* self, std::byte*, std::size_t n) {
      auto& r = *static_cast<host_region*>(self);
      if (r.refuse) return false;
      r.committed += n;
      return true;
    };
    s.decommit = [](void* self, std::byte* start, std::size_t n) {
      auto& r = *static_cast<host_region*>(self);
      if (r.refuse_decommit) return false;
      r.decommitted += n;
      EXPECT_EQ(madvise(start, n, MADV_DONTNEED), 0);
      return true;
    };
    s.needzero_after_decommit = false;
    return s;
  }

  std::atomic<bool> refuse{false};
  std::atomic<bool> refuse_decommit{false};
  std::atomic<std::size_t> committed{0};
  std::atomic<std::size_t> decommitted{0};

 private:
  std::size_t bytes_;
  std::byte* mapping_;
  std::byte* base_;
};

}  // namespace warpheap::test
