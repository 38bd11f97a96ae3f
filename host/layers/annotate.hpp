#pragma once

// Objects made known to AddressSanitizer, ThreadSanitizer and Valgrind.

#include "host/layers/held_back.hpp"
#include "host/layers/object_layer.hpp"
#include "host/layers/pointer_table.hpp"

namespace warpheap {

/// Without this layer the tools see the heap's memory as one block that may always be used. With
/// it, what lies behind an object and freed objects that are held back may not: AddressSanitizer
/// and Valgrind report the instruction that touches them, and ThreadSanitizer takes a free for a
/// write, so that a use of the object by another thread is a race. The tools are found at run time;
/// where there is none, the layer only holds freed objects back. usable_size is what was asked for.
class annotate_layer final : public object_layer {
 public:
  annotate_layer(object_layer* below, std::size_t budget) : object_layer(below), held_(budget) {}

  void* take(const object_request& r) override;
  free_status free(void* p) override;
  std::size_t usable_size(const void* p) override;
  void drain() override;
  void forget() override;
  void lock() override;
  void unlock() override;

 private:
  struct record {
    std::size_t bytes;
    std::size_t block_bytes;
    bool live;
  };

  void let_go(const held_back::object& o);

  held_back held_;
  pointer_table<record> objects_;
};

}  // namespace warpheap
