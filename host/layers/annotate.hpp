#pragma once

// Makes objects known to AddressSanitizer, ThreadSanitizer and Valgrind.

#include "host/layers/tracking_layer.hpp"

namespace warpheap {

struct annotated_object {
  std::size_t bytes;
  std::size_t block_bytes;
  bool live = true;
};

/// Without this layer the tools see the heap's memory as one block that may always be used. With
/// it, the bytes behind an object, and freed objects that are held back, may not be used:
/// AddressSanitizer and Valgrind report the instruction that touches them, and ThreadSanitizer
/// treats a free as a write, so that a use of the object by another thread is a race. The tools are
/// found at run time; without any, the layer only holds freed objects back. usable_size is the
/// requested size.
class annotate_layer final : public delaying_layer<annotated_object> {
 public:
  using delaying_layer::delaying_layer;

  void* take(const object_request& r) override;
  void forget() override;

 private:
  free_status free_live(void* p, const annotated_object& o) override;
  void let_go(const held_back::object& o) override;
};

}  // namespace warpheap
