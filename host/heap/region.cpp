#include <warpheap/region.hpp>

#include <algorithm>
#include <cstdint>
#include <exception>

#include <warpheap/bits.hpp>
#include <warpheap/layout.hpp>

namespace warpheap {

namespace {

std::size_t whole_pages(std::size_t bytes) {
  constexpr std::size_t most = ~std::size_t{0} / 4;
  return bits::align_up(std::clamp(bytes, page_size, most), page_size);
}

}  // namespace

region::region(heap& h, region_options options) noexcept
    : heap_(&h),
      options_{whole_pages(options.first_chunk_bytes),
               whole_pages(std::max(options.first_chunk_bytes, options.largest_chunk_bytes))},
      next_chunk_(options_.first_chunk_bytes) {}

/// Takes and records a chunk of whole pages; nullptr when there is no room.
std::byte* region::take_chunk(std::size_t bytes) noexcept {
  try {
    // Grows by half, so that n chunks copy O(n) addresses in all.
    if (chunks_.size() == chunks_.capacity())
      chunks_.reserve(chunks_.size() + chunks_.size() / 2 + 1);
  } catch (const std::exception&) {
    return nullptr;
  }
  std::byte* p = heap_->take_region_chunk(bytes);
  if (p == nullptr) return nullptr;
  chunks_.push_back(p);
  chunk_bytes_ += bytes;
  return p;
}

/// malloc, when the newest chunk has too little left.
void* region::malloc_slow(std::size_t bytes, std::size_t alignment) noexcept {
  if (!bits::is_power_of_two(alignment) || alignment > page_size || bytes > ~std::size_t{0} / 4)
    return nullptr;
  // Chunks begin at a page boundary, which satisfies any permitted alignment.
  if (bytes > next_chunk_ / 4) {
    // A chunk of its own: to begin the next shared one for it would waste the rest of the newest.
    std::byte* p = take_chunk(whole_pages(bytes));
    if (p == nullptr) {
      heap_->region_out_of_memory(bytes);
      return nullptr;
    }
    used_ += bytes;
    return p;
  }
  std::byte* p = take_chunk(next_chunk_);
  std::size_t size = next_chunk_;
  if (p == nullptr) {
    // The heap may still have room for this object alone.
    size = whole_pages(bytes);
    p = take_chunk(size);
    if (p == nullptr) {
      heap_->region_out_of_memory(bytes);
      return nullptr;
    }
  }
  next_chunk_ = std::min(2 * next_chunk_, options_.largest_chunk_bytes);
  next_ = p + bytes;
  end_ = p + size;
  used_ += bytes;
  return p;
}

void region::clear() noexcept {
  for (std::byte* p : chunks_) heap_->give_region_chunk(p);
  chunks_.clear();
  next_ = end_ = nullptr;
  next_chunk_ = options_.first_chunk_bytes;
  used_ = chunk_bytes_ = 0;
}

}  // namespace warpheap
