#include "host/layers/sbrk.hpp"

#include <algorithm>
#include <cstring>

#include <warpheap/bits.hpp>
#include <warpheap/layout.hpp>

namespace warpheap {

bool sbrk_layer::make_region(contents kind) {
  for (std::size_t bytes = most_; bytes >= page_size; bytes /= 2) {
    region_ = static_cast<std::byte*>(below().take({bytes, page_size, false, kind}));
    if (region_ == nullptr) continue;
    next_ = region_;
    end_ = region_ + bytes;
    return true;
  }
  return false;
}

void* sbrk_layer::take(const object_request& r) {
  if (r.bytes == 0) return below().take(r);
  const std::size_t align = std::max<std::size_t>(r.align, r.bytes > 8 ? 16 : 8);
  std::byte* p = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    if (region_ == nullptr && !make_region(r.kind)) return nullptr;
    const auto address = reinterpret_cast<std::uintptr_t>(next_);
    const std::size_t padding = bits::align_up(address, align) - address;
    const auto left = static_cast<std::size_t>(end_ - next_);
    if (padding > left || r.bytes > left - padding) return nullptr;
    p = next_ + padding;
    next_ = p + r.bytes;
  }
  if (!sizes_.put(p, r.bytes)) return nullptr;
  // The pages may have been used before they became the region.
  return r.zeroed ? std::memset(p, 0, r.bytes) : p;
}

free_status sbrk_layer::free(void* p) { return sizes_.get(p) ? free_status::ok : below().free(p); }

std::size_t sbrk_layer::usable_size(const void* p) {
  const auto n = sizes_.get(p);
  return n ? *n : below().usable_size(p);
}

void sbrk_layer::forget() {
  region_ = next_ = end_ = nullptr;
  sizes_.clear();
  below().forget();
}

void sbrk_layer::lock_this() {
  mutex_.lock();
  sizes_.lock();
}
void sbrk_layer::unlock_this() {
  sizes_.unlock();
  mutex_.unlock();
}

}  // namespace warpheap
