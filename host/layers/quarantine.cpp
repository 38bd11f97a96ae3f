#include "host/layers/quarantine.hpp"

#include "host/layers/fill.hpp"

namespace warpheap {

void* quarantine_layer::take(const object_request& r) {
  void* p = below().take(r);
  return p == nullptr || r.bytes == 0 ? p : track(p, {below().usable_size(p)}, p);
}

free_status quarantine_layer::free_live(void* p, const quarantined_object& o) {
  below().check(p);
  put_fill(p, o.bytes, freed_fill);
  hold({p, o.bytes});
  return free_status::ok;
}

void quarantine_layer::let_go(const held_back::object& o) {
  if (!has_fill(o.p, o.bytes, freed_fill)) report_(error_kind::use_after_free, o.p);
  // Before the address can be handed out again.
  (void)objects_.take(o.p);
  (void)below().free(o.p);
}

}  // namespace warpheap
