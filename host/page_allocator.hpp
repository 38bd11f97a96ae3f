#pragma once

// Which pages of the heap are free. (Go: pageAlloc.)
//
// A bitmap of allocated pages, in chunks of 512, under a radix tree of summaries: a leaf summarises
// a chunk, an inner entry eight entries of the level below, an entry of the root level 2^21 pages.
// The first place that fits is found by descending the tree; free pages have no records, and there
// are none to merge.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "host/page_bits.hpp"
#include "host/page_cache.hpp"
#include "host/page_summary.hpp"
#include "host/persistentalloc.hpp"
#include "host/sys_vector.hpp"

namespace warpheap {

/// Address-ordered first-fit allocator of page numbers. Not thread-safe: mheap's lock guards it.
/// It only keeps the books; the pages' memory is its caller's business.
class page_allocator {
 public:
  /// Chunks of a 48-bit address space.
  static constexpr std::size_t max_chunks = std::size_t{1} << 26;

  /// A run of chunks [first, last) that the allocator was given.
  struct chunk_range {
    std::size_t first;
    std::size_t last;
    friend bool operator==(const chunk_range&, const chunk_range&) = default;
  };

  /// For page numbers below chunks * 512. The tables are touched only where chunks are in use.
  explicit page_allocator(std::size_t chunks);

  /// Takes over the chunks [first, first + n), which are not yet in use. Their pages become free,
  /// and count as given back to the system, as they were never touched.
  void grow(std::size_t first, std::size_t n);

  /// Passes the chunks [first, first + n), all in use here, on to another allocator, unchanged.
  void hand_over(std::size_t first, std::size_t n, page_allocator& to);

  /// The lowest n consecutive free pages, n >= 1. Empty if there are none.
  page_allocation alloc(std::size_t n);

  /// Whether all pages of a range, n >= 1, are this allocator's and free.
  bool is_free(std::size_t first, std::size_t n) const;

  /// Marks a range as allocated, which must be all free (else aborts); returns how many of its
  /// pages had been given back to the system.
  std::size_t allocate_range(std::size_t first, std::size_t n);

  /// Frees a range, which must be all allocated (else aborts). scavenged: its pages have no memory.
  void free(std::size_t first, std::size_t n, bool scavenged = false);

  /// Takes the free pages among the 64 aligned ones that contain the lowest free page.
  page_cache alloc_to_cache();
  /// Frees pages of an aligned group of 64; those in the mask `scavenged` have been given back.
  void free_cached(std::size_t base, std::uint64_t pages, std::uint64_t scavenged);

  /// Calls decommit(first, n) for runs of free pages that still have memory, those at the highest
  /// addresses first, and marks them as given back if it returns true; false ends the scavenge. At
  /// most `most` pages. Returns their number. Takes time for the chunks from the highest idle page
  /// down, not for those above it. (Go: pageAlloc.scavenge.)
  template <class F>
  std::size_t scavenge(F&& decommit, std::size_t most = page_allocation::npos);

  /// Pages that are neither allocated nor in a page cache.
  std::size_t free_pages() const { return free_pages_; }
  /// Those of the free pages that were given back to the system.
  std::size_t scavenged_pages() const { return scavenged_pages_; }
  /// Those of the free pages that have memory.
  std::size_t idle_pages() const { return free_pages_ - scavenged_pages_; }
  /// Pages of all chunks in use.
  std::size_t total_pages() const { return total_pages_; }
  const sys_vector<chunk_range>& in_use() const { return in_use_; }
  const chunk_bits& chunk(std::size_t c) const { return chunks_[c]; }
  /// Makes the system provide memory for the bits of these pages.
  void populate(std::size_t first, std::size_t n) {
    const std::size_t c = first / chunk_pages;
    chunks_.populate(c, (first + n + chunk_pages - 1) / chunk_pages - c);
  }
  page_summary summary(unsigned level, std::size_t i) const { return levels_[level][i]; }
  /// No page below this one is free.
  std::size_t search_start() const { return search_; }

  static constexpr unsigned levels = 5;
  static constexpr unsigned fan_out_shift = 3;
  /// log2 of the pages that one entry of a level summarises.
  static constexpr unsigned level_shift(unsigned level) {
    return chunk_pages_shift + fan_out_shift * (levels - 1 - level);
  }

 private:
  struct search_result {
    std::size_t first = page_allocation::npos;
    std::size_t lowest_free = 0;  // no page below it is free
  };

  template <class F>
  static void for_chunks(std::size_t first, std::size_t n, F&& f);
  void add_range(std::size_t first, std::size_t n);
  void remove_range(std::size_t first, std::size_t n);
  search_result find(std::size_t n) const;
  std::size_t mark_allocated(std::size_t first, std::size_t n);
  void update_summaries(std::size_t first, std::size_t n);

  struct page_span {
    std::size_t first;
    std::size_t count;
  };
  page_span idle_below(std::size_t end);
  void mark_scavenged(std::size_t first, std::size_t n);
  void note_idle(std::size_t end) { scavenge_end_ = std::max(scavenge_end_, end); }

  lazy_table<chunk_bits> chunks_;
  std::array<lazy_table<page_summary>, levels> levels_;
  sys_vector<chunk_range> in_use_;
  std::size_t end_ = 0;  // no chunk at or past this one is in use
  std::size_t search_ = page_allocation::npos;
  std::size_t scavenge_end_ = 0;  // no free page at or past this one has memory
  std::size_t free_pages_ = 0;
  std::size_t scavenged_pages_ = 0;
  std::size_t total_pages_ = 0;
};

template <class F>
std::size_t page_allocator::scavenge(F&& decommit, std::size_t most) {
  std::size_t released = 0;
  page_span run{0, 0};
  bool refused = false;
  // Marks the run as given back, and begins a new one. False when that is enough, or was refused.
  const auto give = [&] {
    if (run.count == 0) return true;
    refused = !decommit(run.first, run.count);
    if (refused) return false;
    mark_scavenged(run.first, run.count);
    released += run.count;
    run.count = 0;
    return released < most;
  };
  while (released + run.count < most) {
    const page_span idle = idle_below(run.count == 0 ? scavenge_end_ : run.first);
    if (idle.count == 0) break;
    const std::size_t here = std::min(idle.count, most - released - run.count);
    const std::size_t first = idle.first + idle.count - here;
    if (run.count != 0 && first + here != run.first && !give()) break;
    run = {first, run.count + here};
  }
  if (!refused) (void)give();
  return released;
}

}  // namespace warpheap
