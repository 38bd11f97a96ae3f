#pragma once

// Each object lies between inaccessible pages. (Go: efence.)

#include "host/layers/tracking_layer.hpp"

namespace warpheap {

struct fenced_object {
  std::byte* block;
  std::size_t block_bytes;
  std::size_t bytes;
  std::size_t slack;  ///< bytes behind the object up to the guard
  bool live = true;
};

/// An object ends, as far as its alignment allows, at the end of a page that is followed by a page
/// without access; another such page lies in front. A freed object's pages are inaccessible until
/// `budget` bytes have been freed after it. An access to them raises SIGSEGV at the instruction.
/// The few bytes between object and guard hold zone_fill; the free reports a change of them.
///
/// For the CPU backend, as it changes the pages' protection. An object takes 16 KiB or more, and
/// two to three of the some 65,000 mappings that the system grants a process; once they are used
/// up, objects have no guards.
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
