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
  const zoned_object o{block, below().usable_size(block), front, r.bytes};
  fill_zones(o);
  return track(block + front, o, block);
}

/// Bytes in front of an object that are checked. A wide alignment leaves more, which stay
/// untouched.
std::size_t red_zone_layer::front_zone(const zoned_object& o) {
  return std::min(o.front, std::size_t{4096});
}

void red_zone_layer::fill_zones(const zoned_object& o) {
  std::byte* const object = o.block + o.front;
  put_fill(object - front_zone(o), front_zone(o), zone_fill);
  put_fill(object + o.bytes, o.block_bytes - o.front - o.bytes, zone_fill);
}

bool red_zone_layer::sound(const zoned_object& o) {
  const std::byte* const object = o.block + o.front;
  return has_fill(object - front_zone(o), front_zone(o), zone_fill)
         && has_fill(object + o.bytes, o.block_bytes - o.front - o.bytes, zone_fill);
}

free_status red_zone_layer::free_live(void* p, const zoned_object& o) {
  if (!sound(o)) report_(error_kind::write_outside, p);
  return below().free(o.block);
}

void red_zone_layer::check(const void* p) {
  const auto o = objects_.get(p);
  if (!o || !o->live) return;
  if (!sound(*o)) report_(error_kind::write_outside, p);
}

void red_zone_layer::drain() {
  // Damage is reported without the table's locks held, as the report may use the heap.
  for (;;) {
    const void* damaged = nullptr;
    objects_.for_each([&](const void* p, zoned_object& o) {
      if (damaged != nullptr || !o.live || sound(o)) return;
      damaged = p;
      fill_zones(o);
    });
    if (damaged == nullptr) break;
    report_(error_kind::write_outside, damaged);
  }
  below().drain();
}

}  // namespace warpheap
