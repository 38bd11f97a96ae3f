// Marks on objects of kernels, for heap::sweep_device: a bit for each byte address of the heap, in
// memory that the heap has from its first begin_device_marks() on.
//
// All orders are relaxed. A mark only says that some thread has named the object, and the sweep
// reads it after the kernels have ended. The object's contents are visible to a thread that follows
// a pointer to it by the way that the pointer was passed.
#pragma once

#include <warpheap/detail/objects.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// Records a mark of an address without a live object.
WARPHEAP_OUTLINED void note_dangling(const heap_view& h, const void* p) {
  const std::uint64_t n =
      atomic::fetch_add<order::relaxed>(&h.state->dangling.value, std::uint64_t{1});
  if (n < dangling_slots)
    atomic::store<order::relaxed>(&h.state->dangling_at[n], reinterpret_cast<std::uint64_t>(p));
}

/// Sets the mark of the byte at an offset of the heap. True for the one call that found it clear.
WARPHEAP_OUTLINED bool set_mark(const heap_view& h, std::uint64_t offset) {
  const std::uint32_t bit = 1u << (offset & 31);
  return (atomic::fetch_or<order::relaxed>(h.state->marks + offset / 32, bit) & bit) == 0;
}

/// Marks the live object of a kernel at p. True for the one call that set its mark.
WARPHEAP_SLOW_PATH bool mark_object(const heap_view& h, const void* p) {
  if (h.state->marks == nullptr || p == nullptr || p == h.base) return false;
  if (live_bytes(h, p) == 0) {
    note_dangling(h, p);
    return false;
  }
  return set_mark(h, reinterpret_cast<std::uint64_t>(p) - reinterpret_cast<std::uint64_t>(h.base));
}
WARPHEAP_SLOW_ENTRY(mark_object);

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
