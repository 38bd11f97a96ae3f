#pragma once

// Each object between pages that cannot be touched. (Go: efence.)

#include "host/layers/held_back.hpp"
#include "host/layers/object_layer.hpp"
#include "host/layers/pointer_table.hpp"

namespace warpheap {

/// An object ends where a page ends that is followed by one without access, as far as its alignment
/// allows; another such page lies in front. A freed object's pages cannot be touched at all until
/// `budget` bytes of later frees have come. What touches them ends with SIGSEGV at the instruction.
/// The few bytes between object and guard hold zone_fill; changed, they are reported by the free.
///
/// For the CPU backend: the pages' protection is changed. An object takes 16 KiB and more, and two
/// to three of the mappings of which the system gives a process some 65,000; without one left, an
/// object has no guards.
class efence_layer final : public object_layer {
 public:
  efence_layer(object_layer* below, layer_reports report, std::size_t budget);

  void* take(const object_request& r) override;
  free_status free(void* p) override;
  std::size_t usable_size(const void* p) override;
  void check(const void* p) override;
  void drain() override;
  void forget() override;
  void lock() override;
  void unlock() override;

 private:
  struct record {
    std::byte* block;
    std::size_t block_bytes;
    std::size_t bytes;
    std::size_t slack;  // bytes behind the object up to the guard
    bool live;
  };

  void let_go(const held_back::object& o);
  void check(const void* p, const record& o);

  const layer_reports report_;
  const std::size_t page_;
  held_back held_;
  pointer_table<record> objects_;
};

}  // namespace warpheap
