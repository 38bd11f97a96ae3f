#include "host/heap/choose_backend.hpp"

#include <utility>

namespace warpheap {

chosen_backend choose_backend(backend_kind asked) {
  if (asked == backend_kind::cuda) return {make_cuda_memory(), "it was asked for"};
  if (asked == backend_kind::simt) return {make_mmap_memory(), "it was asked for"};
  std::string reason = why_no_cuda();
  if (reason.empty()) return {make_cuda_memory(), "a CUDA device can be used"};
  return {make_mmap_memory(), std::move(reason)};
}

std::unique_ptr<device_operations> make_operations(backend_kind kind, const heap_view& view) {
#ifdef WARPHEAP_HAS_CUDA
  if (kind == backend_kind::cuda) return make_cuda_operations(view);
#endif
#ifdef WARPHEAP_HAS_SIMT
  if (kind == backend_kind::simt) return make_simt_operations(view);
#endif
  (void)kind, (void)view;
  return nullptr;
}

page_source source_of(memory_backend& memory) {
  page_source source;
  source.context = &memory;
  source.map = [](void* context, std::byte* start, std::size_t bytes) {
    return static_cast<memory_backend*>(context)->map(start, bytes);
  };
  if (memory.can_discard()) {
    source.decommit = [](void* context, std::byte* start, std::size_t bytes) {
      return static_cast<memory_backend*>(context)->discard(start, bytes);
    };
    source.fault = [](void* context, std::byte* start, std::size_t bytes) {
      auto& m = *static_cast<memory_backend*>(context);
      return m.discard(start, bytes) && m.forbid(start, bytes, true);
    };
    source.unfault = [](void* context, std::byte* start, std::size_t bytes) {
      return static_cast<memory_backend*>(context)->forbid(start, bytes, false);
    };
  }
  source.needzero_after_decommit = memory.dirty_after_discard();
  return source;
}

}  // namespace warpheap
