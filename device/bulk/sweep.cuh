// The sweep of a device side at rest: objects without a mark are freed, page by page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <warpheap/backend.hpp>
#include <warpheap/device_heap.cuh>

#include "backend.cuh"

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace {

/// What a sweep has found so far, and where it lists the first leaked objects.
struct sweep_sums {
  std::uint64_t kept_objects, kept_bytes;
  std::uint64_t leaked_objects[counted_classes], leaked_bytes[counted_classes];
  std::uint64_t listed;
};
struct sweep_list {
  device_sweep::object* objects;
  std::uint64_t capacity;
};

__device__ bool is_marked(const heap_view& h, std::uint64_t offset) {
  return (h.state->marks[offset / 32] >> (offset & 31) & 1) != 0;
}

/// Reports and removes marks of objects that were freed after they were marked.
struct drop_dangling_marks {
  heap_view h;

  __device__ void operator()(std::uint32_t p) const {
    constexpr unsigned words = page_size / 32;
    for (std::size_t w = std::size_t{p} * words; w < (std::size_t{p} + 1) * words; ++w)
      for (std::uint32_t rest = h.state->marks[w]; rest != 0; rest &= rest - 1) {
        const void* const at = h.base + w * 32 + bits::countr_zero(rest);
        if (core::live_bytes(h, at) != 0) continue;
        core::note_dangling(h, at);
        h.state->marks[w] &= ~(rest & (0u - rest));
      }
  }
};

/// Frees unmarked objects in a span or a large object that starts at a page. Spans stay, so that
/// nothing changes in a page that another call examines; except those of tiny blocks, whose masks
/// are zero when they go.
struct sweep_page {
  heap_view h;
  sweep_sums* sums;
  sweep_list list;

  __device__ void operator()(std::uint32_t p) const {
    const page_entry e{atomic::load<order::relaxed>(h.entry + p)};
    if (e.cls() == large_class) return sweep_large(p, e);
    const span_record r = core::load_record(h, p);
    if (!r.is_live()) return;
    if (r.cls() == tiny_blocks) return sweep_blocks(p);
    for (unsigned w = 0; w < span_words(r.cls()); ++w) sweep_word(p, r.cls(), w);
  }

 private:
  /// True when the object at an offset has no mark; counts it.
  __device__ bool is_leaked(std::uint64_t offset, std::uint64_t bytes, unsigned cls) const {
    if (is_marked(h, offset)) {
      add(sums->kept_objects, 1);
      add(sums->kept_bytes, bytes);
      return false;
    }
    add(sums->leaked_objects[cls], 1);
    add(sums->leaked_bytes[cls], bytes);
    if (h.state->observed.active != 0) add(h.state->observed.frees[cls], 1);
    if (list.capacity == 0) return true;
    const std::uint64_t at = atomic::fetch_add<order::relaxed>(&sums->listed, std::uint64_t{1});
    if (at < list.capacity)
      list.objects[at] = {reinterpret_cast<std::uint64_t>(h.base) + offset, bytes, cls};
    return true;
  }

  __device__ void sweep_large(page_index p, page_entry e) const {
    const std::uint64_t offset = std::uint64_t{p} << page_shift;
    if (is_leaked(offset, std::uint64_t{e.value()} << page_shift, large_class))
      core::free_large(h, p, e, reinterpret_cast<std::uint64_t>(h.base) + offset);
  }

  __device__ void sweep_word(page_index p, unsigned cls, unsigned w) const {
    const core::word_index at = core::index_of_word(p, w);
    std::uint64_t leaked = 0;
    for (std::uint64_t live = full_word & ~atomic::load<order::relaxed>(h.word + at); live != 0;
         live &= live - 1) {
      const auto bit = static_cast<unsigned>(bits::countr_zero(live));
      const auto offset =
          static_cast<std::uint64_t>(core::slot_address(h, p, cls, w * 64 + bit) - h.base);
      if (is_leaked(offset, slot_bytes(cls), cls)) leaked |= std::uint64_t{1} << bit;
    }
    if (leaked != 0) core::give_back(h, at, leaked, cls);
  }

  /// No block is open: each bit of a mask is an object's.
  __device__ void sweep_blocks(page_index p) const {
    for (unsigned i = 0; i < tiny_blocks_per_page; ++i) {
      const core::block_index b = core::block_index{p} * tiny_blocks_per_page + i;
      const unsigned mask = *core::mask_word(h, b) >> core::mask_shift(b) & 0xffff;
      std::uint64_t bytes[tiny_block_bytes];
      // Before the frees: each leaves its bytes to the object in front.
      for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
        const auto at = static_cast<unsigned>(__ffs(static_cast<int>(rest)) - 1);
        bytes[at] = core::tiny_bytes(h, b * tiny_block_bytes + at);
      }
      for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
        const auto at = static_cast<unsigned>(__ffs(static_cast<int>(rest)) - 1);
        const std::uint64_t offset = b * tiny_block_bytes + at;
        if (is_leaked(offset, bytes[at], tiny_blocks)) core::free_tiny(h, offset);
      }
    }
  }
};

}  // namespace
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
