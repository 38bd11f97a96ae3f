// The calls of the public heap. malloc and free are the fast paths of host_heap.hpp and, where
// those do not apply, a call of heap::impl.
#include <algorithm>
#include <cstring>
#include <utility>
#include <warpheap/bits.hpp>

#include "host/heap/impl.hpp"

namespace warpheap {

void* heap::malloc(std::size_t size) noexcept {
  impl& self = *impl_;
  void* p = host_heap::malloc_fast(size, contents::no_pointers, self.direct);
  return p != nullptr ? p : self.malloc(size, contents::no_pointers);
}

void heap::free(void* p) noexcept {
  const host_heap::fast_free done = host_heap::free_fast(p, direct_);
  if (done == host_heap::fast_free::done) [[likely]]
    return;
  // The other cases are tail calls whose arguments are already in place, so that the common case
  // needs no frame and no move.
  if (done == host_heap::fast_free::tiny) return free_tiny(p);
  free_slow(p);
}

void* heap::malloc(std::size_t size, contents kind) noexcept {
  impl& self = *impl_;
  void* p = host_heap::malloc_fast(size, kind, self.direct);
  return p != nullptr ? p : self.malloc(size, kind);
}

/// malloc, when the fast path found no slot.
void* heap::impl::malloc(std::size_t size, contents kind) noexcept {
  return or_out_of_memory(
      top == nullptr ? objects.malloc_slow(size, kind) : layer_malloc(*top, size, kind), size);
}

/// Notes that an allocation failed for lack of memory.
void heap::impl::note_out_of_memory(std::size_t bytes) noexcept {
  errors.note_out_of_memory(bytes, objects.bytes_in_use());
}

void* heap::calloc(std::size_t count, std::size_t size) noexcept {
  return calloc(count, size, contents::no_pointers);
}
void* heap::calloc(std::size_t count, std::size_t size, contents kind) noexcept {
  // A product that overflows is more than any heap has.
  const std::size_t bytes = bits::mul_overflows(count, size) ? ~std::size_t{0} : count * size;
  if (void* p = host_heap::calloc_fast(bytes, kind, impl_->direct); p != nullptr) return p;
  return impl_->or_out_of_memory(impl_->top != nullptr
                                     ? layer_calloc(*impl_->top, count, size, kind)
                                     : impl_->objects.calloc(count, size, kind),
                                 bytes);
}
void* heap::aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  return aligned_alloc(alignment, size, contents::no_pointers);
}
void* heap::aligned_alloc(std::size_t alignment, std::size_t size, contents kind) noexcept {
  void* p = host_heap::aligned_fast(alignment, size, kind, impl_->direct);
  if (p != nullptr) return p;
  p = impl_->top != nullptr ? layer_aligned_alloc(*impl_->top, alignment, size, kind)
                            : impl_->objects.aligned_alloc(alignment, size, kind);
  // A bad alignment is not reported as lack of memory.
  return bits::is_power_of_two(alignment) ? impl_->or_out_of_memory(p, size) : p;
}

void* heap::realloc(void* p, std::size_t size) noexcept {
  if (p == nullptr) return malloc(size);
  if (size == 0) {
    free(p);
    return malloc(0);
  }
  if (p == impl_->arrays.view().base) return malloc(size);
  const mspan* const own = host_heap::own_span_of(p, direct_);
  const std::size_t old = own != nullptr ? own->elemsize() : impl_->usable_size(p);
  if (old == 0) {
    impl_->errors.note(error_kind::not_allocated, p);
    return nullptr;
  }
  // Layers keep the requested size, so with one the object may stay only if that is unchanged.
  if (impl_->top == nullptr ? impl_->objects.resize(p, old, size) : size == old) {
    if (size <= old / 2) impl_->after_pages();
    return p;
  }
  const contents kind = own == nullptr                         ? impl_->objects.contents_at(p)
                        : span_class_noscan(own->span_class()) ? contents::no_pointers
                                                               : contents::pointers;
  void* moved = impl_->top != nullptr
                    ? malloc(size, kind)
                    : impl_->or_out_of_memory(impl_->objects.malloc_moved(old, size, kind), size);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, p, std::min(old, size));
  free(p);
  return moved;
}

std::size_t heap::usable_size(const void* p) const noexcept {
  const mspan* const own = host_heap::own_span_of(p, direct_);
  return own != nullptr ? own->elemsize() : impl_->usable_size(p);
}
heap::heap() : heap(heap_options{}) {}
heap::heap(heap_options options) : impl_(impl::make(std::move(options))) {
  if (impl_->top == nullptr) direct_ = impl_->objects.view();
}
heap::~heap() = default;
heap::heap(heap&& other) noexcept
    : impl_(std::move(other.impl_)), direct_(std::exchange(other.direct_, {})) {}
heap& heap::operator=(heap&& other) noexcept {
  impl_ = std::move(other.impl_);
  direct_ = std::exchange(other.direct_, {});
  return *this;
}

heap_profile heap::profile() const { return impl_->profile(); }

heap_view heap::device() const {
  if (impl_->operations == nullptr)
    throw heap_error(
        "this build of warpheap has no kernels: it was configured without CUDA and "
        "with WARPHEAP_SIMT=OFF");
  return impl_->arrays.view();
}

void heap::synchronize() { impl_->synchronize(); }
heap_stats heap::stats() {
  impl_->synchronize();
  return impl_->count();
}

std::size_t heap::trim() { return impl_->trim(); }

void heap::reset() { impl_->reset(); }
mark_status heap::mark(const void* p) { return impl_->mark(p); }
mark_status heap::mark_reachable(const void* p) { return impl_->mark_reachable(p); }
sweep_report heap::sweep(std::size_t listed) { return impl_->sweep(listed); }
void heap::begin_device_marks() { impl_->begin_device_marks(); }
sweep_report heap::sweep_device(std::size_t listed) { return impl_->sweep_device(listed); }

device_events heap::take_device_events() {
  impl_->synchronize();
  return impl_->take_events();
}
std::string heap::state_text() {
  impl_->synchronize();
  return impl_->state_text();
}
void heap::print_state(std::FILE* to) {
  const std::string text = state_text();
  std::fwrite(text.data(), 1, text.size(), to);
  std::fflush(to);
}

std::vector<error_record> heap::errors() {
  impl_->synchronize();
  return impl_->errors.take_recent();
}

backend_kind heap::backend() const noexcept { return impl_->chosen.memory->kind(); }
std::string heap::backend_name() const { return to_string(backend()); }
std::string heap::backend_reason() const { return impl_->chosen.reason; }
std::string heap::device_name() const { return impl_->chosen.memory->device_name(); }
const heap_options& heap::options() const noexcept { return impl_->options; }

void heap::stop_refill_service() {
  impl_->refuse_on_service_thread("stop_refill_service");
  if (impl_->service != nullptr) impl_->service->stop();
}
void heap::start_refill_service() {
  if (impl_->service != nullptr) impl_->service->start();
}

}  // namespace warpheap
