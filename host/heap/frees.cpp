// Frees beyond the fast path: through layers, of the other side's objects, and of wrong pointers.
#include <exception>
#include <new>
#include <optional>

#include "host/heap/impl.hpp"

namespace warpheap {

namespace {

/// Collects this thread's reports while it must not make them; null: it may make them.
constinit thread_local held_reports* held_here = nullptr;

/// The error that the status of a free means; nothing if it means none.
std::optional<error_kind> error_of(free_status status) {
  switch (status) {
    case free_status::ok:
    case free_status::null:
    case free_status::zero_size: return std::nullopt;
    case free_status::device_page:
    case free_status::foreign: return error_kind::foreign_pointer;
    case free_status::interior: return error_kind::interior_pointer;
    case free_status::double_free: return error_kind::double_free;
    case free_status::not_allocated: return error_kind::not_allocated;
  }
  return std::nullopt;
}

}  // namespace

void heap::free_tiny(void* p) noexcept {
  if (!impl_->objects.free_tiny(p)) impl_->free(p);
}
void heap::free_slow(void* p) noexcept { impl_->free(p); }

/// A free that needs more than setting a bit in one of this thread's spans.
void heap::impl::free(void* p) noexcept {
  const free_status status = top == nullptr ? objects.free_slow(p) : top->free(p);
  if (status == free_status::device_page) return free_device_object(p);
  after_free(p, status);
}

/// What follows a free of a host object, or of a pointer to none.
void heap::impl::after_free(void* p, free_status status) {
  if (status == free_status::ok) return after_pages();
  if (const auto kind = error_of(status); kind) errors.note(*kind, p);
}

void heap::impl::free_device_object(void* p) {
  constexpr std::size_t batch = 1024;
  try {
    const std::lock_guard lock(frees_mutex);
    device_frees.push_back(p);
    if (device_frees.size() % batch != 0 || is_of_parent) return;
  } catch (const std::bad_alloc& error) {
    // The object stays live, and can be freed when there is memory again.
    return errors.say("a free of a kernel's object does nothing: ", error.what());
  }
  // If a bulk operation holds the lock, it applies the frees itself, or they wait for the next one.
  const std::unique_lock lock(device_mutex, std::try_to_lock);
  if (!lock) return;
  try {
    (void)start_device_frees();
  } catch (const std::exception& error) {
    errors.say("frees of kernels' objects are delayed: ", error.what());
  }
}

/// Starts the frees that can be started without waiting; the rest stays in `frees_in_hand`, also if
/// this throws. True when nothing is left. device_mutex is held.
bool heap::impl::start_device_frees() {
  if (is_of_parent) return true;  // no kernel can run: the frees are never done
  if (!frees_in_hand.empty() && !operations->free_batch(frees_in_hand)) return false;
  {
    const std::lock_guard lock(frees_mutex);
    frees_in_hand.swap(device_frees);
  }
  return operations->free_batch(frees_in_hand);
}

/// Notes an error that a layer has found.
void heap::impl::note_of_layer(error_kind kind, const void* p) noexcept {
  if (held_here == nullptr) return errors.note(kind, p);
  try {
    held_here->emplace_back(kind, p);
  } catch (const std::bad_alloc&) {
    errors.count(kind, p);  // not reported, for lack of memory
  }
}

/// Completes kernels' frees of host objects. Returns the errors, to be reported without the lock.
/// device_mutex is held.
held_reports heap::impl::collect_host_frees(bool at_rest) {
  held_reports held;
  const auto is_lent = [this](page_index p) { return objects.is_device_page(p); };
  const std::vector<void*> freed = operations->take_host_frees(is_lent, at_rest);
  held_here = &held;
  for (void* p : freed) {
    // A page that has since been lent to the device held no live object when the kernel freed p.
    const free_status status = free_host_object(p);
    if (status == free_status::ok) after_pages();
    if (const auto kind = error_of(status); kind) note_of_layer(*kind, p);
  }
  held_here = nullptr;
  return held;
}

void heap::impl::report(const held_reports& held) {
  for (const auto& [kind, p] : held) errors.note(kind, p);
}

}  // namespace warpheap
