#include "host/region_pool.hpp"

namespace warpheap {

std::byte* region_pool::take(std::size_t pages) {
  mspan* s = heap_->alloc_manual(pages, manual_use::regions);
  if (s == nullptr && release() != 0) s = heap_->alloc_manual(pages, manual_use::regions);
  return s == nullptr ? nullptr : s->base();
}

void region_pool::give(std::byte* start) {
  const page_owner owner = heap_->owner_at(start);
  mspan* s = owner.is_manual() ? owner.manual_span() : nullptr;
  if (s == nullptr || s->base() != start || s->free_large())
    fatal("what is released is no chunk of a region");
  if (!heap_->quarantine_manual(s)) return heap_->free_manual(s, manual_use::regions);
  const std::scoped_lock lock(mutex_);
  quarantine_.insert_back(s);
  quarantined_pages_ += s->npages();
  while (quarantine_.size() > max_quarantined
         || quarantined_pages_ > heap_->reserve_pages() / quarantine_part) {
    (void)end_oldest();
  }
}

/// Returns the chunk's pages; 0 when the system refuses, and they stay away for good. mutex_ is
/// held.
std::size_t region_pool::end_oldest() {
  mspan* s = quarantine_.pop_front();
  const std::size_t pages = s->npages();
  quarantined_pages_ -= pages;
  return heap_->end_quarantine(s) ? pages : 0;
}

std::size_t region_pool::release() {
  const std::scoped_lock lock(mutex_);
  std::size_t pages = 0;
  while (!quarantine_.empty()) pages += end_oldest();
  return pages * page_size;
}

}  // namespace warpheap
