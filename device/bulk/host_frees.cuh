// Finds host objects that kernels have freed (core::free_host_object): first the pages with marks,
// then the marks of those pages that the host has not lent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <warpheap/device_heap.cuh>

#include "backend.cuh"

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace {

/// What a search has found.
struct collected {
  std::uint64_t count;
  std::uint64_t left_behind;  ///< entries that did not fit
};
inline constexpr std::uint32_t collect_capacity = 1u << 16;

/// One word of list 0: pages, not the device's then, where kernels freed objects.
struct find_marked_pages {
  heap_view h;
  collected* total;
  page_index* out;

  __device__ void operator()(std::uint32_t w) const {
    const core::summary list(h.has_free_of(no_class), h.pages);
    for (std::uint64_t rest = list.word(w); rest != 0; rest &= rest - 1) {
      const std::uint64_t at = atomic::fetch_add<order::relaxed>(&total->count, std::uint64_t{1});
      if (at < collect_capacity)
        out[at] = w * 64 + static_cast<unsigned>(bits::countr_zero(rest));
      else
        add(total->left_behind, 1);
    }
  }
};

/// Collects the marks of one of these pages.
struct collect_host_frees {
  heap_view h;
  collected* total;
  const page_index* pages;
  void** out;

  __device__ void operator()(std::uint32_t i) const {
    // The page's mark goes first: a later free sets it again.
    const core::summary list(h.has_free_of(no_class), h.pages);
    list.clear(pages[i]);
    if (!collect(pages[i])) list.set(pages[i]);
  }

 private:
  /// False when there was no room for all.
  __device__ bool collect(page_index p) const {
    for (unsigned i = 0; i < page_size / 32; ++i) {
      std::uint32_t* word = h.tiny_mask + std::size_t{p} * (page_size / 32) + i;
      if (atomic::load<order::relaxed>(word) == 0) continue;
      // Acquire: the kernels' last writes to the objects.
      std::uint32_t freed = atomic::exchange<order::acquire>(word, 0u);
      for (; freed != 0; freed &= freed - 1) {
        const std::uint64_t at = atomic::fetch_add<order::relaxed>(&total->count, std::uint64_t{1});
        if (at >= collect_capacity) {
          atomic::fetch_or<order::release>(word, freed);
          add(total->left_behind, 1);
          return false;
        }
        out[at] = h.base + std::uint64_t{p} * page_size + i * 32
                  + static_cast<unsigned>(__ffs(static_cast<int>(freed)) - 1);
      }
    }
    return true;
  }
};

/// Handles a page that meanwhile is the device's, at rest: its marks come from frees of dead
/// objects. In a span of tiny blocks they are mixed with those of live objects, and are found when
/// their block is used next.
struct report_stale_marks {
  heap_view h;
  const page_index* pages;

  __device__ void operator()(std::uint32_t i) const {
    if (page_entry{h.entry[pages[i]]}.cls() == tiny_blocks)
      core::has_free_of(h, no_class).clear(pages[i]);
    else
      core::drop_stale_marks(h, pages[i]);
  }
};

}  // namespace
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
