// Frees beyond the fast path: through layers, of the other side's objects, and of what is none.
#include <exception>
#include <string>

#include "host/heap/impl.hpp"

namespace warpheap {

void heap::free_tiny(void* p) noexcept {
  if (!impl_->objects.free_tiny(p)) impl_->free(p);
}
void heap::free_slow(void* p) noexcept { impl_->free(p); }

/// A free that is not only setting a bit in one of this thread's spans.
void heap::impl::free(void* p) noexcept {
  const free_status status = top == nullptr ? objects.free_slow(p) : top->free(p);
  if (status == free_status::device_page) return free_device_object(p);
  after_free(p, status);
}

/// What a free of a host object, or of no object, leads to.
void heap::impl::after_free(void* p, free_status status) {
  switch (status) {
    case free_status::null:
    case free_status::zero_size: return;
    case free_status::ok: return after_pages();
    case free_status::device_page:
    case free_status::foreign: return errors.note(error_kind::foreign_pointer, p);
    case free_status::interior: return errors.note(error_kind::interior_pointer, p);
    case free_status::double_free: return errors.note(error_kind::double_free, p);
    case free_status::not_allocated: return errors.note(error_kind::not_allocated, p);
  }
}

void heap::impl::free_device_object(void* p) {
  constexpr std::size_t batch = 1024;
  {
    const std::lock_guard lock(frees_mutex);
    device_frees.push_back(p);
    if (device_frees.size() % batch != 0) return;
  }
  // A bulk operation that holds the lock applies the frees itself, or they wait for the next.
  const std::unique_lock lock(device_mutex, std::try_to_lock);
  if (!lock) return;
  try {
    (void)start_device_frees();
  } catch (const std::exception& error) {
    errors.say(std::string("warpheap: frees of kernels' objects are delayed: ") + error.what());
  }
}

/// Starts what can be started without waiting; the rest stays in `device_frees`. True when
/// nothing is left. device_mutex is held.
bool heap::impl::start_device_frees() {
  std::vector<void*> batch;
  {
    const std::lock_guard lock(frees_mutex);
    batch.swap(device_frees);
  }
  const auto put_back = [&] {
    const std::lock_guard lock(frees_mutex);
    device_frees.insert(device_frees.end(), batch.begin(), batch.end());
  };
  try {
    const bool all = operations->free_batch(batch);
    if (!all) put_back();
    return all;
  } catch (...) {
    put_back();
    throw;
  }
}

/// Frees the host's objects that kernels have freed. Returns what was wrong, to be reported
/// without the lock. device_mutex is held.
heap::impl::wrong_frees heap::impl::collect_host_frees() {
  wrong_frees wrong;
  for (void* p : operations->take_host_frees()) {
    // A page that has become the device's meanwhile held no live object when the kernel freed.
    const free_status status = free_host_object(p);
    if (status == free_status::ok)
      after_free(p, status);
    else
      wrong.emplace_back(p, status);
  }
  return wrong;
}

void heap::impl::report(const wrong_frees& wrong) {
  for (const auto& [p, status] : wrong) after_free(p, status);
}

}  // namespace warpheap
