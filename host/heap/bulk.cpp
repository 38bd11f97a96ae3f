// Operations on both sides of a heap at rest: synchronize, trim, reset, sweep; and marks.
#include <new>
#include <string>
#include <utility>

#include "host/heap/impl.hpp"

namespace warpheap {

/// Takes over the errors that kernels have recorded, and those that the host detected late, since
/// the last call.
void heap::impl::surface_errors() {
  for (void* p : objects.take_late_double_frees()) errors.note(error_kind::double_free, p);
  if (operations == nullptr) return;
  std::unique_lock lock(device_mutex);
  const device_state state = operations->read_state();
  lock.unlock();
  errors.note_device(state);
}

/// Throws for a call that on_report must not make on the service's thread.
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

/// Ends all rounds of the refill queue, so that no page is in transit. The service serves nothing
/// while the returned lock is held. device_mutex is held, and no kernel runs.
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
  // If many spans were retired at once, a message has sent pages home.
  service->settle(held);
  const std::size_t bytes = objects.trim();
  service->pages_came_free(held);
  return bytes;
}

/// Nothing that can fail may come after this, so that layers forget no object that still exists.
void heap::impl::reset_objects() {
  // Layers first: they restore the protection and state of the objects' pages.
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
  {
    const std::lock_guard marking(marks_mutex);
    device_marks.clear();
    lost_device_marks = false;
  }
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
  if (memory_is_lost()) operations->synchronize();  // throws, saying why it cannot
  if (top != nullptr)
    throw heap_error("warpheap: no marks in a heap with a profile or debug modes");
}

mark_status heap::impl::mark(const void* p) {
  refuse_layers();
  const mark_status status = objects.mark(p);
  return status == mark_status::device ? mark_device_object(p) : status;
}

mark_status heap::impl::mark_reachable(const void* p) {
  refuse_layers();
  return objects.mark_reachable(p);
}

sweep_report heap::impl::sweep(std::size_t listed) {
  // What kernels have freed must not count as a leak.
  synchronize();
  if (top != nullptr)
    throw heap_error("warpheap: no sweep of a heap with a profile or debug modes");
  // The fast paths need the new number also when there is no memory for the report.
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

/// Kernels' objects get the host's marks at their sweep, as only then no kernel runs.
mark_status heap::impl::mark_device_object(const void* p) {
  const std::lock_guard lock(marks_mutex);
  try {
    device_marks.push_back(p);
    return mark_status::device;
  } catch (const std::bad_alloc&) {
    lost_device_marks = true;
    return mark_status::no_memory;
  }
}

void heap::impl::begin_device_marks() {
  refuse_layers();
  synchronize();
  if (operations == nullptr) return;
  const std::lock_guard lock(device_mutex);
  operations->begin_marks(arrays.marks());
}

sweep_report heap::impl::sweep_device(std::size_t listed) {
  begin_device_marks();
  sweep_report out;
  if (operations == nullptr) return out;
  const std::lock_guard lock(device_mutex);
  const auto held = settle_requests();
  const std::lock_guard marking(marks_mutex);
  out.complete = !std::exchange(lost_device_marks, false);
  if (!out.complete) return out;
  operations->mark(device_marks);
  const device_sweep found = operations->sweep(listed);
  device_marks.clear();
  service->settle(held);  // large objects' pages may have been sent home
  service->pages_came_free(held);

  const auto class_of = [](std::uint32_t cls) { return cls == large_class ? 0 : cls; };
  static_assert(sweep_report::tiny_objects == tiny_blocks);
  out.kept = {found.kept_objects, found.kept_bytes};
  for (unsigned cls = 1; cls < counted_classes; ++cls) {
    out.leaked_by_class[class_of(cls)] = {found.leaked_objects[cls], found.leaked_bytes[cls]};
    out.leaked.objects += found.leaked_objects[cls];
    out.leaked.bytes += found.leaked_bytes[cls];
  }
  for (const device_sweep::object& leak : found.leaks)
    out.leaks.push_back({reinterpret_cast<void*>(leak.address), leak.bytes, class_of(leak.cls)});
  out.dangling = found.dangling;
  for (const std::uint64_t p : found.dangling_pointers)
    out.dangling_pointers.push_back(reinterpret_cast<void*>(p));
  return out;
}

}  // namespace warpheap
