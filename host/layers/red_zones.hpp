#pragma once

// Guard bytes in front of and behind each object.

#include "host/layers/tracking_layer.hpp"

namespace warpheap {

struct zoned_object {
  std::byte* block;
  std::size_t block_bytes;
  std::size_t front;
  std::size_t bytes;
  bool live = true;
};

/// Sixteen bytes or more on each side hold zone_fill; a free that finds them changed reports
/// write_outside, and so does drain for live objects. usable_size is the requested size. Costs 32
/// bytes or more per object, and a table of all addresses that objects ever had.
class red_zone_layer final : public tracking_layer<zoned_object> {
 public:
  red_zone_layer(object_layer* below, layer_reports report)
      : tracking_layer(below), report_(report) {}

  void* take(const object_request& r) override;
  void check(const void* p) override;
  void drain() override;

 private:
  static constexpr std::size_t zone = 16;

  free_status free_live(void* p, const zoned_object& o) override;
  static std::size_t front_zone(const zoned_object& o);
  static void fill_zones(const zoned_object& o);
  static bool sound(const zoned_object& o);

  const layer_reports report_;
};

}  // namespace warpheap
