#include "host/layers/red_zones.hpp"

#include <algorithm>

#include "host/layers/fill.hpp"

namespace warpheap {

void* red_zone_layer::take(const object_request& r) {
  if (r.bytes == 0) return below().take(r);
  const std::size_t front = std::max(zone, r.align);
  const std::size_t total = front + r.bytes + zone;
  if (total < r.bytes) return nullptr;
  auto* block = static_cast<std::byte*>(below().take({total, front, r.zeroed, r.kind}));
  if (block == nullptr) return nullptr;
  const record o{block, below().usable_size(block), front, r.bytes, true};
  put_fill(block, front, zone_fill);
  put_fill(block + front + r.bytes, o.block_bytes - front - r.bytes, zone_fill);
  if (objects_.put(block + front, o)) return block + front;
  (void)below().free(block);
  return nullptr;
}

bool red_zone_layer::sound(const record& o) {
  return has_fill(o.block, o.front, zone_fill)
         && has_fill(o.block + o.front + o.bytes, o.block_bytes - o.front - o.bytes, zone_fill);
}

free_status red_zone_layer::free(void* p) {
  record o{};
  // Marked first, so that of two frees at once one only goes on.
  const free_status status = objects_.change(p, free_status::not_allocated, [&](record& known) {
    if (!known.live) return free_status::double_free;
    o = known;
    known.live = false;
    return free_status::ok;
  });
  if (status == free_status::not_allocated) return below().free(p);
  if (status != free_status::ok) return status;
  if (!sound(o)) report_(error_kind::write_outside, p);
  return below().free(o.block);
}

std::size_t red_zone_layer::usable_size(const void* p) {
  const auto o = objects_.get(p);
  if (!o) return below().usable_size(p);
  return o->live ? o->bytes : 0;
}

void red_zone_layer::check(const void* p) {
  const auto o = objects_.get(p);
  if (!o || !o->live) return;
  if (!sound(*o)) report_(error_kind::write_outside, p);
}

void red_zone_layer::drain() {
  // What is damaged is reported without the table's locks: the report may use the heap.
  for (;;) {
    const void* damaged = nullptr;
    objects_.for_each([&](const void* p, record& o) {
      if (damaged != nullptr || !o.live || sound(o)) return;
      damaged = p;
      put_fill(o.block, o.front, zone_fill);
      put_fill(o.block + o.front + o.bytes, o.block_bytes - o.front - o.bytes, zone_fill);
    });
    if (damaged == nullptr) break;
    report_(error_kind::write_outside, damaged);
  }
  below().drain();
}

void red_zone_layer::forget() {
  objects_.clear();
  below().forget();
}

void red_zone_layer::lock() {
  objects_.lock();
  below().lock();
}
void red_zone_layer::unlock() {
  below().unlock();
  objects_.unlock();
}

}  // namespace warpheap
