#pragma once

// The layers that a heap's options ask for.

#include <cstddef>
#include <optional>

#include "host/layers/annotate.hpp"
#include "host/layers/clobber.hpp"
#include "host/layers/efence.hpp"
#include "host/layers/object_layer.hpp"
#include "host/layers/profile.hpp"
#include "host/layers/quarantine.hpp"
#include "host/layers/red_zones.hpp"
#include "host/layers/sbrk.hpp"
#include "host/layers/trace.hpp"

namespace warpheap {

/// As the members of heap_options of the same names, in a form that needs no malloc.
struct layer_options {
  std::size_t profile_rate = 0;
  const char* trace_file = "";
  bool annotate = false;
  std::size_t quarantine_bytes = 0;
  bool red_zones = false;
  bool clobber_free = false;
  bool efence = false;
  bool sbrk = false;
  bool profile_started = true;

  bool any() const {
    return profile_rate != 0 || *trace_file != 0 || annotate || quarantine_bytes != 0 || red_zones
           || clobber_free || efence || sbrk;
  }
};

/// The layers, stacked, and stored in the object itself. From top to bottom: those that observe,
/// hold back, surround and overwrite objects, and those that provide them.
class layer_chain {
 public:
  /// The most bytes of freed objects that efence and annotate each hold back.
  static std::size_t held_bytes(std::size_t heap_bytes) {
    const std::size_t most = std::size_t{64} << 20;
    return heap_bytes / 16 < most ? heap_bytes / 16 : most;
  }

  layer_chain(host_heap& heap, const layer_options& options, layer_reports report);

  object_layer& top() { return *top_; }
  /// Null when there is none.
  profile_layer* profile() { return profile_ ? &*profile_ : nullptr; }
  const profile_layer* profile() const { return profile_ ? &*profile_ : nullptr; }
  trace_layer* trace() { return trace_ ? &*trace_ : nullptr; }
  /// False when the trace file could not be created.
  bool trace_opened() const { return !trace_ || trace_->opened(); }

 private:
  heap_layer bottom_;
  object_layer* top_ = &bottom_;
  std::optional<sbrk_layer> sbrk_;
  std::optional<efence_layer> efence_;
  std::optional<clobber_layer> clobber_;
  std::optional<red_zone_layer> red_zones_;
  std::optional<quarantine_layer> quarantine_;
  std::optional<annotate_layer> annotate_;
  std::optional<profile_layer> profile_;
  std::optional<trace_layer> trace_;
};

}  // namespace warpheap
