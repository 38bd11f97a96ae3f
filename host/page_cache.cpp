#include "host/page_cache.hpp"

#include <warpheap/bits.hpp>

#include "host/page_allocator.hpp"

namespace warpheap {

page_allocation page_cache::alloc(std::size_t n) {
  if (n == 0 || n > 64 || free_ == 0) return {};
  const auto length = static_cast<unsigned>(n);
  const auto at = static_cast<unsigned>(bits::first_run(free_, length));
  if (at == 64) return {};
  const std::uint64_t mask = bits::low_mask(length) << at;
  const auto scavenged = static_cast<std::size_t>(bits::popcount(scavenged_ & mask));
  free_ &= ~mask;
  scavenged_ &= ~mask;
  return {base_ + at, scavenged};
}

void page_cache::flush(page_allocator& pages) {
  if (free_ != 0) pages.free_cached(base_, free_, scavenged_ & free_);
  *this = page_cache();
}

}  // namespace warpheap
