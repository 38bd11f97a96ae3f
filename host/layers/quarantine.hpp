#pragma once

// Freed objects are kept for a while before their memory is used again.

#include "host/layers/held_back.hpp"
#include "host/layers/object_layer.hpp"
#include "host/layers/pointer_table.hpp"

namespace warpheap {

/// Fills a freed object with freed_fill and holds it back until `budget` bytes of later frees have
/// come. If the fill has changed by then, use_after_free is reported. A second free of an object
/// that is held back is told with certainty.
class quarantine_layer final : public object_layer {
 public:
  quarantine_layer(object_layer* below, layer_reports report, std::size_t budget)
      : object_layer(below), report_(report), held_(budget) {}

  void* take(const object_request& r) override;
  free_status free(void* p) override;
  std::size_t usable_size(const void* p) override;
  void drain() override;
  void forget() override;
  void lock() override;
  void unlock() override;

 private:
  void let_go(const held_back::object& o);

  const layer_reports report_;
  held_back held_;
  pointer_table<bool> freed_;  // objects known here: whether they are held back
};

}  // namespace warpheap
