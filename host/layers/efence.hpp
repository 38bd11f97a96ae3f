#pragma once

// Each object between pages that cannot be touched. (Go: efence.)

#include "host/layers/tracking_layer.hpp"

namespace warpheap {

struct fenced_object {
  std::byte* block;
  std::size_t block_bytes;
  std::size_t bytes;
  std::size_t slack;  ///< bytes behind the object up to the guard
  bool live = true;
};

/// An object ends where a page ends that is followed by one without access, as far as its alignment
/// allows; another such page lies in front. A freed object's pages cannot be touched at all until
/// `budget` bytes of later frees have come. What touches them ends with SIGSEGV at the instruction.
/// The few bytes between object and guard hold zone_fill; changed, they are reported by the free.
///
/// For the CPU backend: the pages' protection is changed. An object takes 16 KiB and more, and two
/// to three of the mappings of which the system gives a process some 65,000; without one left, an
/// object has no guards.
class efence_layer final : public delaying_layer<fenced_object> {
 public:
  efence_layer(object_layer* below, layer_reports report, std::size_t budget);

  void* take(const object_request& r) override;
  void check(const void* p) override;
  void forget() override;

 private:
  free_status free_live(void* p, const fenced_object& o) override;
  void let_go(const held_back::object& o) override;
  void check(const void* p, const fenced_object& o);

  const layer_reports report_;
  const std::size_t page_;
};

}  // namespace warpheap
