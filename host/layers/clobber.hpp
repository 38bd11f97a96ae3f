#pragma once

// Freed objects are overwritten. (Go: clobberfree.)

#include "host/layers/fill.hpp"
#include "host/layers/object_layer.hpp"

namespace warpheap {

/// Fills an object with freed_fill when it is freed, so that a later use becomes apparent.
class clobber_layer final : public object_layer {
 public:
  using object_layer::object_layer;

  free_status free(void* p) override {
    if (const std::size_t n = usable_size(p); n != 0) put_fill(p, n, freed_fill);
    return below().free(p);
  }
};

}  // namespace warpheap
