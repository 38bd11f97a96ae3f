#pragma once

// 64 aligned pages that one thread allocates from without a lock. (Go: pageCache.)

#include <cstddef>
#include <cstdint>

namespace warpheap {

class page_allocator;

/// A run of pages, and how many of them had been given back to the system.
struct page_allocation {
  static constexpr std::size_t npos = ~std::size_t{0};
  std::size_t first = npos;
  std::size_t scavenged = 0;
  explicit operator bool() const { return first != npos; }
};

/// Free pages (bit = 1) among 64 aligned ones, which the page allocator counts as allocated.
/// Belongs to one thread.
class page_cache {
 public:
  page_cache() = default;
  page_cache(std::size_t base, std::uint64_t free, std::uint64_t scavenged)
      : base_(base), free_(free), scavenged_(scavenged) {}

  bool empty() const { return free_ == 0; }
  std::size_t base() const { return base_; }
  std::uint64_t free_bits() const { return free_; }
  std::uint64_t scavenged_bits() const { return scavenged_; }

  /// The lowest n consecutive pages, n >= 1.
  page_allocation alloc(std::size_t n);

  /// Gives all pages back and becomes empty. Needs the page allocator's lock.
  void flush(page_allocator& pages);

 private:
  std::size_t base_ = 0;
  std::uint64_t free_ = 0;
  std::uint64_t scavenged_ = 0;
};

}  // namespace warpheap
