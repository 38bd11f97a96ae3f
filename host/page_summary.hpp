#pragma once

// The runs of free pages in a block of pages, in one word. (Go: pallocSum.)

#include <cstddef>
#include <cstdint>

#include <warpheap/layout.hpp>

namespace warpheap {

inline constexpr unsigned chunk_pages_shift = 9;
static_assert(chunk_pages == 1u << chunk_pages_shift);

/// Free pages at the start, in the longest run, and at the end of an aligned block of pages, 21
/// bits each. The largest block has 2^21 pages, one more than 21 bits hold: the top bit alone
/// stands for "all of them free".
class page_summary {
 public:
  static constexpr unsigned max_shift = 21;
  static constexpr std::size_t max_pages = std::size_t{1} << max_shift;

  constexpr page_summary() = default;  // nothing free

  static constexpr page_summary pack(std::size_t start, std::size_t longest, std::size_t end) {
    page_summary s;
    s.bits_ = longest == max_pages
                  ? all_free
                  : start | longest << max_shift | std::uint64_t{end} << (2 * max_shift);
    return s;
  }

  constexpr std::size_t start() const { return field(0); }
  constexpr std::size_t longest() const { return field(max_shift); }
  constexpr std::size_t end() const { return field(2 * max_shift); }
  constexpr bool none_free() const { return bits_ == 0; }

  friend constexpr bool operator==(page_summary, page_summary) = default;

 private:
  static constexpr std::uint64_t all_free = std::uint64_t{1} << 63;

  constexpr std::size_t field(unsigned shift) const {
    return bits_ == all_free ? max_pages : (bits_ >> shift) & (max_pages - 1);
  }

  std::uint64_t bits_ = 0;
};

/// The summary of n neighbouring blocks of block_pages pages each.
constexpr page_summary merge_summaries(const page_summary* sums, std::size_t n,
                                       std::size_t block_pages) {
  std::size_t start = 0;
  std::size_t longest = 0;
  std::size_t run = 0;  // free pages up to the end of the previous block
  for (std::size_t i = 0; i < n; ++i) {
    const page_summary s = sums[i];
    if (start == i * block_pages) start += s.start();
    const std::size_t joined = run + s.start();
    if (joined > longest) longest = joined;
    if (s.longest() > longest) longest = s.longest();
    run = s.end() == block_pages ? run + block_pages : s.end();
  }
  return page_summary::pack(start, longest, run);
}

}  // namespace warpheap
