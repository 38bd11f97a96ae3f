#include "host/layers/quarantine.hpp"

#include "host/layers/fill.hpp"

namespace warpheap {

void* quarantine_layer::take(const object_request& r) {
  void* p = below().take(r);
  if (p == nullptr || r.bytes == 0) return p;
  if (freed_.put(p, false)) return p;
  (void)below().free(p);
  return nullptr;
}

free_status quarantine_layer::free(void* p) {
  const free_status status = freed_.change(p, free_status::not_allocated, [](bool& freed) {
    if (freed) return free_status::double_free;
    freed = true;
    return free_status::ok;
  });
  if (status == free_status::not_allocated) return below().free(p);
  if (status != free_status::ok) return status;
  below().check(p);
  const std::size_t n = below().usable_size(p);
  put_fill(p, n, freed_fill);
  held_.hold({p, n}, [&](const held_back::object& o) { let_go(o); });
  return free_status::ok;
}

void quarantine_layer::let_go(const held_back::object& o) {
  if (!has_fill(o.p, o.bytes, freed_fill)) report_(error_kind::use_after_free, o.p);
  // Before the address can be handed out anew.
  (void)freed_.take(o.p);
  (void)below().free(o.p);
}

std::size_t quarantine_layer::usable_size(const void* p) {
  const auto freed = freed_.get(p);
  return freed && *freed ? 0 : below().usable_size(p);
}

void quarantine_layer::drain() {
  held_.empty([&](const held_back::object& o) { let_go(o); });
  below().drain();
}

void quarantine_layer::forget() {
  held_.clear();
  freed_.clear();
  below().forget();
}

void quarantine_layer::lock() {
  held_.lock();
  freed_.lock();
  below().lock();
}
void quarantine_layer::unlock() {
  below().unlock();
  freed_.unlock();
  held_.unlock();
}

}  // namespace warpheap
