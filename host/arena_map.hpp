#pragma once

// Arenas anywhere in the address space: which page an address is in, and where a page is.
// (Go: mheap_.arenas.)
//
// A heap in one reservation needs none of this: a page's number is its distance from the base.
// Where address space can be had only in pieces, the 64 MiB arenas beyond the first reservation are
// kept in a two-level map: the upper bits of an address select a table, and the bits below them
// select the arena's number in it. A table is made with the first arena in its 128 GiB, so holes
// cost nothing.

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <warpheap/layout.hpp>

#include "host/persistentalloc.hpp"

namespace warpheap {

/// Pages of an arena that is in a map.
inline constexpr std::size_t mapped_arena_pages = arena_bytes / page_size;

/// Any thread may look up at any time; arenas are added under a lock, by one thread at a time, and
/// stay until the map is destroyed.
class arena_map {
 public:
  static constexpr std::size_t none = ~std::size_t{0};

  /// The arenas, max_arenas at most, get page numbers from first_page on, in the order in which
  /// they are added.
  arena_map(std::size_t first_page, std::size_t max_arenas)
      : first_page_(first_page), max_arenas_(max_arenas) {}
  arena_map(const arena_map&) = delete;
  arena_map& operator=(const arena_map&) = delete;

  /// The number of the page that holds p; none if p is in no arena of the map. p may be any
  /// address.
  std::size_t page_of(const void* p) const {
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    if (address >> address_bits != 0) return none;
    // Acquire, in each of the three loads: what is found is fully initialised.
    const level_1* const l1 = root_.load(std::memory_order_acquire);
    if (l1 == nullptr) return none;
    const level_2* const l2 = l1->tables[address >> l1_shift].load(std::memory_order_acquire);
    if (l2 == nullptr) return none;
    const std::uint32_t number =
        l2->numbers[address >> arena_shift & (entries - 1)].load(std::memory_order_acquire);
    if (number == 0) return none;
    return first_page_ + (number - std::size_t{1}) * mapped_arena_pages
           + (address & (arena_bytes - 1)) / page_size;
  }

  /// The address at which a page of the map begins.
  std::byte* address_of(std::size_t page) const {
    const std::size_t at = page - first_page_;
    return bases_[at / mapped_arena_pages] + at % mapped_arena_pages * page_size;
  }

  /// Adds `arenas` adjacent arenas from base on, which must be aligned to an arena. Returns false,
  /// with no change visible to lookups, when there is no memory for tables, when there would be too
  /// many arenas, or when an address is beyond the user address space.
  bool add(std::byte* base, std::size_t arenas, persistentalloc& metadata, sys_counter& stat);

  std::size_t first_page() const { return first_page_; }
  /// One past the last page.
  std::size_t end_page() const { return first_page_ + arenas_ * mapped_arena_pages; }
  std::size_t arenas() const { return arenas_; }
  std::size_t room() const { return max_arenas_ - arenas_; }

 private:
  static constexpr unsigned address_bits = 48;
  static constexpr unsigned arena_shift = std::countr_zero(arena_bytes);
  static constexpr unsigned l1_bits = (address_bits - arena_shift) / 2;
  static constexpr unsigned l1_shift = address_bits - l1_bits;
  static constexpr std::size_t entries = std::size_t{1} << (l1_shift - arena_shift);

  struct level_2 {
    std::atomic<std::uint32_t> numbers[entries];  // of arenas, counted from 1; 0: no arena
  };
  struct level_1 {
    std::atomic<level_2*> tables[std::size_t{1} << l1_bits];
  };

  const std::size_t first_page_;
  const std::size_t max_arenas_;
  std::size_t arenas_ = 0;
  std::byte** bases_ = nullptr;  // [max_arenas_]
  std::atomic<level_1*> root_{nullptr};
};

}  // namespace warpheap
