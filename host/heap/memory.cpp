// What a heap has besides objects: scratch stacks, chunks of regions, and figures of its memory.
#include <algorithm>
#include <warpheap/bits.hpp>

#include "host/heap/impl.hpp"

namespace warpheap {

std::size_t heap::stack_size(std::size_t bytes, std::size_t alignment) noexcept {
  if (!bits::is_power_of_two(alignment) || alignment > page_size) return 0;
  return stack_pool::rounded(std::max(bytes, alignment));
}

void* heap::acquire_stack(std::size_t bytes, std::size_t alignment) noexcept {
  const std::size_t size = stack_size(bytes, alignment);
  if (size == 0) return nullptr;
  void* p = impl_->memory_is_lost() ? nullptr : impl_->objects.acquire_stack(size);
  if (p == nullptr) impl_->note_out_of_memory(bytes);
  return p;
}

void heap::release_stack(void* p, std::size_t bytes, std::size_t alignment) noexcept {
  if (p != nullptr) impl_->objects.release_stack(p, stack_size(bytes, alignment));
}

std::byte* heap::take_region_chunk(std::size_t bytes) noexcept {
  return impl_->memory_is_lost() ? nullptr : impl_->objects.take_region_chunk(bytes / page_size);
}

void heap::region_out_of_memory(std::size_t bytes) noexcept { impl_->note_out_of_memory(bytes); }

void heap::give_region_chunk(std::byte* start) noexcept {
  impl_->objects.give_region_chunk(start);
  impl_->after_pages();
}

/// Tells the backend which arenas each side has got: when the heap is made, and from then on at
/// rest, because the service and malloc, which take arenas, must not wait for the backend.
void heap::impl::advise_arenas() {
  for (;;) {
    const heap_arenas::arena_run run = objects.take_new_arenas();
    if (run.pages == 0) return;
    chosen.memory->advise(arrays.view().base + run.first * page_size, run.pages * page_size,
                          run.user == page_user::device ? memory_side::kernels : memory_side::host);
  }
}

memory_stats heap::impl::memory() const {
  const profile_layer* const sampler = layers ? layers->profile() : nullptr;
  return objects.memory(sampler == nullptr ? 0 : sampler->bucket_bytes(), arrays.bytes());
}
memory_stats heap::memory() const { return impl_->memory(); }

void heap::set_memory_limit(std::size_t bytes) noexcept {
  impl_->objects.set_memory_limit(bytes == 0 ? mheap::no_limit : bytes);
  impl_->after_pages();  // kernels that were denied pages may have them now
}

}  // namespace warpheap
