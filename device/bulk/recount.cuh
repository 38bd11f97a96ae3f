// The slow recount of a device side at rest, page by page.
#pragma once

#include <warpheap/backend.hpp>
#include <warpheap/device_heap.cuh>

#include "backend.cuh"

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace {

struct count_page {
  heap_view h;
  device_counts* counts;

  __device__ void operator()(std::uint32_t p) const {
    const page_entry e{atomic::load<order::relaxed>(h.entry + p)};
    const span_record r = core::load_record(h, p);
    if (e.cls() == large_class) {
      add(counts->large_objects, 1);
      add(counts->large_pages, e.value());
    }
    if (h.stock[p / 64] >> (p % 64) & 1) add(counts->stock_pages, 1);
    std::uint64_t free = 0;
    for (unsigned w = 0; w < words_per_page; ++w) {
      const std::uint64_t word = h.word[core::index_of_word(p, w)];
      if (word == 0) continue;
      if (!r.is_live() || w >= span_words(r.cls()))
        add(counts->phantom_words, 1);
      else if (!findable(r, p, w))
        add(counts->unreachable_words, 1);
      free += static_cast<std::uint64_t>(bits::popcount(word));
    }
    if (!r.is_live()) return;
    add(counts->spans[r.cls()], 1);
    add(counts->free_slots[r.cls()], free);
    if (free == 0) add(counts->full_spans[r.cls()], 1);
    if (free == std::uint64_t{span_words(r.cls())} * 64) add(counts->empty_spans[r.cls()], 1);
    if (r.cls() == tiny_blocks) {
      std::uint64_t objects = 0;
      for (unsigned i = 0; i < tiny_blocks_per_page / 2; ++i)
        objects += static_cast<std::uint64_t>(
            bits::popcount(h.tiny_mask[std::size_t{p} * (tiny_blocks_per_page / 2) + i]));
      add(counts->tiny_objects, objects);
    }
  }

  /// True when the marks on all levels lead to word w of span p.
  __device__ bool findable(span_record r, page_index p, unsigned w) const {
    const std::uint64_t* level = h.has_free_of(r.cls());
    bool found = (r.nonempty() >> w & 1) != 0;
    std::uint32_t i = p;
    for (unsigned l = 0; l < 3; ++l, i /= 64) {
      found = found && (level[i / 64] >> (i % 64) & 1) != 0;
      level += level_words(h.pages, l);
    }
    return found;
  }
};

/// The mask of an open block has one bit that belongs to no object.
struct discount_open_block {
  heap_view h;
  device_counts* counts;
  __device__ void operator()(std::uint32_t slot) const {
    if (core::tiny_word{h.tiny[slot]}.block() != 0) add(counts->tiny_objects, 0 - std::uint64_t{1});
  }
};

}  // namespace
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
