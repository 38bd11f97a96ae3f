#pragma once

// Freed objects are kept for a while before their memory is used again.

#include "host/layers/tracking_layer.hpp"

namespace warpheap {

struct quarantined_object {
  std::size_t bytes;
  bool live = true;
};

/// Fills a freed object with freed_fill and holds it back until `budget` bytes have been freed
/// after it. If the fill has changed by then, use_after_free is reported. A second free of an
/// object that is held back is always detected.
class quarantine_layer final : public delaying_layer<quarantined_object> {
 public:
  quarantine_layer(object_layer* below, layer_reports report, std::size_t budget)
      : delaying_layer(below, budget), report_(report) {}

  void* take(const object_request& r) override;

 private:
  free_status free_live(void* p, const quarantined_object& o) override;
  void let_go(const held_back::object& o) override;

  const layer_reports report_;
};

}  // namespace warpheap
