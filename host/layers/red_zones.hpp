#pragma once

// Bytes in front of and behind each object that nobody may write.

#include "host/layers/object_layer.hpp"
#include "host/layers/pointer_table.hpp"

namespace warpheap {

/// Sixteen bytes or more on each side hold zone_fill; a free that finds them changed reports
/// write_outside, and so does drain for live objects. usable_size is what was asked for. Costs 32
/// bytes and more an object and a table of all addresses that objects ever had.
class red_zone_layer final : public object_layer {
 public:
  red_zone_layer(object_layer* below, layer_reports report)
      : object_layer(below), report_(report) {}

  void* take(const object_request& r) override;
  free_status free(void* p) override;
  std::size_t usable_size(const void* p) override;
  void check(const void* p) override;
  void drain() override;
  void forget() override;
  void lock() override;
  void unlock() override;

 private:
  static constexpr std::size_t zone = 16;
  struct record {
    std::byte* block;
    std::size_t block_bytes;
    std::size_t front;
    std::size_t bytes;
    bool live;
  };

  static bool sound(const record& o);

  const layer_reports report_;
  pointer_table<record> objects_;  // those that are gone, too: a second free is told
};

}  // namespace warpheap
