// Operations on the heap at rest, on both sides together: synchronize, trim, reset.
#include <string>

#include "host/heap/impl.hpp"

namespace warpheap {

/// Takes over what kernels have recorded, and what the host found out late, since the last time.
void heap::impl::surface_errors() {
  for (void* p : objects.take_late_double_frees()) errors.note(error_kind::double_free, p);
  if (operations == nullptr) return;
  std::unique_lock lock(device_mutex);
  const device_state state = operations->read_state();
  lock.unlock();
  errors.note_device(state);
}

/// For what on_report may not call from the service's thread.
void heap::impl::refuse_on_service_thread(const char* call) const {
  if (service != nullptr && service->on_own_thread())
    throw heap_error(std::string("warpheap: ") + call
                     + " was called by on_report on the refill service's thread, for which kernels "
                       "may be waiting");
}

/// Waits for kernels and applies the frees of both sides.
void heap::impl::synchronize() {
  refuse_on_service_thread("a call that waits for kernels");
  if (operations == nullptr) return surface_errors();
  held_reports held;
  {
    const std::lock_guard lock(device_mutex);
    bool all = false;
    do {
      all = start_device_frees();
      operations->synchronize();
    } while (!all);
    advise_arenas();
    held = collect_host_frees(/*at_rest=*/true);
  }
  report(held);
  surface_errors();
  log_events();
}

/// Ends all rounds of the refill queue, so that no page is on its way. The service does not serve
/// while the lock lives. device_mutex is held, no kernel runs.
std::unique_lock<std::mutex> heap::impl::settle_requests() {
  auto held = service->hold();
  operations->repair_refill();
  service->settle(held);
  return held;
}

std::size_t heap::impl::trim() {
  synchronize();
  if (operations == nullptr) return objects.trim();
  const std::lock_guard lock(device_mutex);
  const auto held = settle_requests();
  operations->retire_empty_spans();
  for (const page_run run : operations->take_stock()) objects.give_back_device_pages(run);
  // So many spans went at once that a message took pages home.
  service->settle(held);
  const std::size_t bytes = objects.trim();
  service->pages_came_free(held);
  return bytes;
}

/// Nothing that can fail comes after it: layers have forgotten objects that are gone only.
void heap::impl::reset_objects() {
  // Layers first: they give the objects' pages back as they were.
  if (top != nullptr) top->forget();
  objects.reset();
  if (top == nullptr) direct = objects.id();
}

void heap::impl::reset() {
  synchronize();
  if (operations == nullptr) return reset_objects();
  const std::lock_guard lock(device_mutex);
  const auto held = settle_requests();
  operations->reset();
  const std::uint32_t pages = arrays.view().pages;
  for (std::uint32_t p = 0; p < pages;) {
    page_run run{p, 0};
    while (p < pages && objects.is_device_page(p)) ++run.count, ++p;
    if (run.count != 0)
      objects.give_back_device_pages(run);
    else
      ++p;
  }
  reset_objects();
  service->pages_came_free(held);
}

void heap::impl::refuse_layers() const {
  if (top != nullptr)
    throw heap_error("warpheap: no marks in a heap with a profile or debug modes");
}

mark_status heap::impl::mark(const void* p) {
  refuse_layers();
  return objects.mark(p);
}

mark_status heap::impl::mark_reachable(const void* p) {
  refuse_layers();
  return objects.mark_reachable(p);
}

sweep_report heap::impl::sweep(std::size_t listed) {
  if (top != nullptr)
    throw heap_error("warpheap: no sweep of a heap with a profile or debug modes");
  // What kernels have freed is no leak.
  synchronize();
  // The fast paths go on with the new number also when there is no memory for the report.
  struct renew {
    impl& self;
    ~renew() { self.direct = self.objects.id(); }
  } const after{*this};
  if (operations == nullptr) return objects.sweep(listed);
  const std::lock_guard lock(device_mutex);
  const auto held = service->hold();
  sweep_report report = objects.sweep(listed);
  service->pages_came_free(held);
  return report;
}

}  // namespace warpheap
