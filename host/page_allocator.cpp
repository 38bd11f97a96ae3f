#include "host/page_allocator.hpp"

#include <algorithm>

#include <warpheap/bits.hpp>

namespace warpheap {

namespace {

constexpr std::size_t fan_out = std::size_t{1} << page_allocator::fan_out_shift;

/// Entries of a level. To be merged, all eight children of an entry above must exist.
std::size_t level_entries(std::size_t chunks, unsigned level) {
  const std::size_t shift = page_allocator::level_shift(level) - chunk_pages_shift;
  const std::size_t entries = ((chunks - 1) >> shift) + 1;
  return level == 0 ? entries : bits::align_up(entries, fan_out);
}

std::size_t checked(std::size_t chunks) {
  if (chunks == 0 || chunks > page_allocator::max_chunks) fatal("page allocator: bad size");
  return chunks;
}

}  // namespace

page_allocator::page_allocator(std::size_t chunks)
    : chunks_(checked(chunks)),
      levels_{lazy_table<page_summary>(level_entries(chunks, 0)),
              lazy_table<page_summary>(level_entries(chunks, 1)),
              lazy_table<page_summary>(level_entries(chunks, 2)),
              lazy_table<page_summary>(level_entries(chunks, 3)),
              lazy_table<page_summary>(level_entries(chunks, 4))} {}

/// Calls f(chunk, first page in the chunk, pages) for each chunk that the range touches.
template <class F>
void page_allocator::for_chunks(std::size_t first, std::size_t n, F&& f) {
  while (n > 0) {
    const std::size_t in_chunk = first % chunk_pages;
    const std::size_t here = std::min<std::size_t>(n, chunk_pages - in_chunk);
    f(first / chunk_pages, static_cast<unsigned>(in_chunk), static_cast<unsigned>(here));
    first += here;
    n -= here;
  }
}

void page_allocator::add_range(std::size_t first, std::size_t n) {
  if (n == 0 || first + n > chunks_.size()) fatal("page allocator: grow out of range");
  auto at = std::lower_bound(in_use_.begin(), in_use_.end(), first,
                             [](const chunk_range& r, std::size_t c) { return r.first < c; });
  const bool joins_below = at != in_use_.begin() && std::prev(at)->last == first;
  const bool joins_above = at != in_use_.end() && at->first == first + n;
  if ((at != in_use_.begin() && std::prev(at)->last > first)
      || (at != in_use_.end() && at->first < first + n)) {
    fatal("page allocator: chunk grown twice");
  }
  if (joins_below && joins_above) {
    std::prev(at)->last = at->last;
    in_use_.erase(at);
  } else if (joins_below) {
    std::prev(at)->last = first + n;
  } else if (joins_above) {
    at->first = first;
  } else if (in_use_.insert(at, {first, first + n}) == nullptr) {
    fatal("page allocator: no memory for the list of chunks");
  }
  end_ = std::max(end_, first + n);
}

void page_allocator::remove_range(std::size_t first, std::size_t n) {
  const std::size_t last = first + n;
  const auto at = std::find_if(in_use_.begin(), in_use_.end(), [&](const chunk_range& r) {
    return r.first <= first && last <= r.last;
  });
  if (n == 0 || at == in_use_.end()) fatal("page allocator: chunk handed over is not in use");
  const chunk_range rest{last, at->last};
  at->last = first;
  const auto next = at->first == at->last ? in_use_.erase(at) : std::next(at);
  if (rest.first != rest.last && in_use_.insert(next, rest) == nullptr)
    fatal("page allocator: no memory for the list of chunks");
}

void page_allocator::grow(std::size_t first, std::size_t n) {
  add_range(first, n);
  const std::size_t pages = n * chunk_pages;
  for (std::size_t c = first; c < first + n; ++c) chunks_[c].scavenged.set_range(0, chunk_pages);
  free_pages_ += pages;
  scavenged_pages_ += pages;
  total_pages_ += pages;
  search_ = std::min(search_, first * chunk_pages);
  update_summaries(first * chunk_pages, pages);
}

void page_allocator::hand_over(std::size_t first, std::size_t n, page_allocator& to) {
  remove_range(first, n);
  to.add_range(first, n);
  const std::size_t pages = n * chunk_pages;
  std::size_t free = 0;
  std::size_t scavenged = 0;
  for (std::size_t c = first; c < first + n; ++c) {
    free += chunk_pages - chunks_[c].alloc.popcount_range(0, chunk_pages);
    scavenged += chunks_[c].scavenged.popcount_range(0, chunk_pages);
    to.chunks_[c] = chunks_[c];
    // For this allocator, nothing is free there any longer.
    chunks_[c].alloc.set_range(0, chunk_pages);
    chunks_[c].scavenged.clear_range(0, chunk_pages);
  }
  free_pages_ -= free;
  scavenged_pages_ -= scavenged;
  total_pages_ -= pages;
  update_summaries(first * chunk_pages, pages);
  to.free_pages_ += free;
  to.scavenged_pages_ += scavenged;
  to.total_pages_ += pages;
  to.search_ = std::min(to.search_, first * chunk_pages);
  if (free != scavenged) to.note_idle(first * chunk_pages + pages);
  to.update_summaries(first * chunk_pages, pages);
}

page_allocator::search_result page_allocator::find(std::size_t n) const {
  search_result result;
  result.lowest_free = search_;
  // The block that holds the lowest free page, as far as is known: everything, then ever smaller
  // ones.
  std::size_t lowest_block = 0;
  unsigned lowest_shift = 63;
  std::size_t parent = 0;
  for (unsigned level = 0; level < levels; ++level) {
    const unsigned shift = level_shift(level);
    const std::size_t block = std::size_t{1} << shift;
    const std::size_t begin = level == 0 ? 0 : parent * fan_out;
    const std::size_t end =
        level == 0 ? ((end_ - 1) >> (shift - chunk_pages_shift)) + 1 : begin + fan_out;
    std::size_t run = 0;  // free pages up to the entry looked at
    bool seen_free = false;
    bool descend = false;
    for (std::size_t i = std::max(begin, search_ >> shift); i < end && !descend; ++i) {
      const page_summary s = levels_[level][i];
      if (s.none_free()) {
        run = 0;
        continue;
      }
      if (!seen_free) {
        seen_free = true;
        if ((i << shift) >> lowest_shift == lowest_block) {
          lowest_block = i;
          lowest_shift = shift;
          result.lowest_free = std::max(search_, i << shift);
        }
      }
      if (run + s.start() >= n) {
        result.first = (i << shift) - run;
        return result;
      }
      if (s.longest() >= n) {
        parent = i;
        descend = true;
      } else {
        run = s.end() == block ? run + block : s.end();
      }
    }
    if (!descend) {
      if (level > 0) fatal("page allocator: summary promises pages that are not there");
      return result;
    }
  }
  const std::size_t chunk_first = parent * chunk_pages;
  const page_bits& alloc = chunks_[parent].alloc;
  if (lowest_shift == chunk_pages_shift && lowest_block == parent) {
    result.lowest_free = std::max(result.lowest_free, chunk_first + alloc.find(1));
  }
  const unsigned at = alloc.find(static_cast<unsigned>(n));
  if (at == page_bits::none) fatal("page allocator: bad chunk summary");
  result.first = chunk_first + at;
  return result;
}

page_allocation page_allocator::alloc(std::size_t n) {
  if (n == 0 || n > free_pages_) return {};
  const search_result found = find(n);
  search_ = found.lowest_free;
  if (found.first == page_allocation::npos) return {};
  if (found.first == search_) search_ += n;
  return {found.first, mark_allocated(found.first, n)};
}

std::size_t page_allocator::mark_allocated(std::size_t first, std::size_t n) {
  std::size_t scavenged = 0;
  for_chunks(first, n, [&](std::size_t c, unsigned i, unsigned count) {
    chunk_bits& b = chunks_[c];
    scavenged += b.scavenged.popcount_range(i, count);
    b.scavenged.clear_range(i, count);
    b.alloc.set_range(i, count);
  });
  free_pages_ -= n;
  scavenged_pages_ -= scavenged;
  update_summaries(first, n);
  return scavenged;
}

bool page_allocator::is_free(std::size_t first, std::size_t n) const {
  const bool in_use = std::any_of(in_use_.begin(), in_use_.end(), [&](const chunk_range& r) {
    return r.first * chunk_pages <= first && first + n <= r.last * chunk_pages;
  });
  if (!in_use || chunks_[first / chunk_pages].alloc.get(first % chunk_pages)) return false;
  bool free = true;
  for_chunks(first, n, [&](std::size_t c, unsigned i, unsigned count) {
    free = free && chunks_[c].alloc.popcount_range(i, count) == 0;
  });
  return free;
}

std::size_t page_allocator::allocate_range(std::size_t first, std::size_t n) {
  for_chunks(first, n, [&](std::size_t c, unsigned i, unsigned count) {
    if (chunks_[c].alloc.popcount_range(i, count) != 0) {
      fatal("page allocator: range is not free");
    }
  });
  return mark_allocated(first, n);
}

void page_allocator::free(std::size_t first, std::size_t n, bool scavenged) {
  for_chunks(first, n, [&](std::size_t c, unsigned i, unsigned count) {
    if (chunks_[c].alloc.popcount_range(i, count) != count) {
      fatal("page allocator: page freed twice");
    }
    chunks_[c].alloc.clear_range(i, count);
    if (scavenged) chunks_[c].scavenged.set_range(i, count);
  });
  free_pages_ += n;
  if (scavenged)
    scavenged_pages_ += n;
  else
    note_idle(first + n);
  search_ = std::min(search_, first);
  update_summaries(first, n);
}

page_cache page_allocator::alloc_to_cache() {
  if (free_pages_ == 0) return {};
  const std::size_t first = find(1).first;
  const std::size_t base = first & ~std::size_t{63};
  const auto w = static_cast<unsigned>(base % chunk_pages / 64);
  chunk_bits& b = chunks_[base / chunk_pages];
  const std::uint64_t free = ~b.alloc.word(w);
  const std::uint64_t scavenged = b.scavenged.word(w) & free;
  b.alloc.set_word(w, ~std::uint64_t{0});
  b.scavenged.set_word(w, b.scavenged.word(w) & ~free);
  free_pages_ -= static_cast<std::size_t>(bits::popcount(free));
  scavenged_pages_ -= static_cast<std::size_t>(bits::popcount(scavenged));
  search_ = base + 64;  // the lowest free page was in this group
  update_summaries(base, 64);
  return {base, free, scavenged};
}

void page_allocator::free_cached(std::size_t base, std::uint64_t pages, std::uint64_t scavenged) {
  const auto w = static_cast<unsigned>(base % chunk_pages / 64);
  chunk_bits& b = chunks_[base / chunk_pages];
  if ((b.alloc.word(w) & pages) != pages) fatal("page allocator: cached page is free");
  b.alloc.set_word(w, b.alloc.word(w) & ~pages);
  b.scavenged.set_word(w, b.scavenged.word(w) | scavenged);
  free_pages_ += static_cast<std::size_t>(bits::popcount(pages));
  scavenged_pages_ += static_cast<std::size_t>(bits::popcount(scavenged));
  note_idle(base + 64);
  search_ = std::min(search_, base + static_cast<std::size_t>(bits::countr_zero(pages)));
  update_summaries(base, 64);
}

/// The highest run of free pages with memory that ends at or below `end`, limited to one word of a
/// chunk; remembers that there is none above it. Empty when there is none.
page_allocator::page_span page_allocator::idle_below(std::size_t end) {
  const bool from_the_top = end == scavenge_end_;
  if (idle_pages() == 0) end = 0;
  std::size_t range = in_use_.size();
  while (end > 0) {
    // Of the highest chunk in use that begins below `end`: its pages below `end`.
    while (range > 0 && in_use_[range - 1].first * chunk_pages >= end) --range;
    if (range == 0) break;
    end = std::min(end, in_use_[range - 1].last * chunk_pages);
    const std::size_t c = (end - 1) / chunk_pages;
    const auto w = static_cast<unsigned>((end - 1) % chunk_pages / 64);
    const std::size_t base = c * chunk_pages + w * 64;
    const std::uint64_t idle = ~chunks_[c].alloc.word(w) & ~chunks_[c].scavenged.word(w)
                               & bits::low_mask(static_cast<unsigned>(end - base));
    if (idle == 0) {
      end = base;
      continue;
    }
    const auto above = static_cast<unsigned>(bits::countl_zero(idle));
    const auto count = static_cast<unsigned>(bits::countl_zero(~(idle << above)));
    const std::size_t last = base + 64 - above;
    if (from_the_top) scavenge_end_ = last;
    return {last - count, count};
  }
  if (from_the_top) scavenge_end_ = 0;
  return {0, 0};
}

void page_allocator::mark_scavenged(std::size_t first, std::size_t n) {
  for_chunks(first, n, [&](std::size_t c, unsigned i, unsigned count) {
    chunks_[c].scavenged.set_range(i, count);
  });
  scavenged_pages_ += n;
  scavenge_end_ = first;
}

void page_allocator::update_summaries(std::size_t first, std::size_t n) {
  std::size_t lo = first >> chunk_pages_shift;
  std::size_t hi = (first + n - 1) >> chunk_pages_shift;
  bool changed = false;
  const auto store = [&](page_summary& at, page_summary s) {
    changed = changed || !(at == s);
    at = s;
  };
  for (std::size_t c = lo; c <= hi; ++c) {
    store(levels_[levels - 1][c], chunks_[c].alloc.summarize());
  }
  for (unsigned level = levels - 1; level-- > 0 && changed;) {
    changed = false;
    lo >>= fan_out_shift;
    hi >>= fan_out_shift;
    const std::size_t block = std::size_t{1} << level_shift(level + 1);
    for (std::size_t i = lo; i <= hi; ++i) {
      store(levels_[level][i], merge_summaries(&levels_[level + 1][i * fan_out], fan_out, block));
    }
  }
}

}  // namespace warpheap
