// Pages, device spans and the packed words that describe them.
//
// A page is 8 KiB, as in Go. Device spans have their own geometry: a span of class c has as many
// pages as make its slots fill whole 64-bit free words exactly,
//     words = 128 / gcd(size, 128)   pages = size / gcd(size, 128)   slots = 64 * words,
// at most 16 words and 256 pages for the 67 classes. No span has a tail, every full word is ~0, and
// a warp that asks for 32 slots of a fresh span finds them in one word. With Go's own geometry a
// warp would touch four spans for 32 x 1 KiB, and up to an eighth of each span would be wasted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <warpheap/hd.hpp>
#include <warpheap/size_classes.hpp>

namespace warpheap {

using page_index = std::uint32_t;  ///< page number from the heap's base; 0 is reserved: "none"

inline constexpr std::size_t chunk_bytes = std::size_t{4} << 20;  ///< unit of growth of the heap
inline constexpr std::uint32_t chunk_pages = chunk_bytes / page_size;
/// Unit by which host and device divide the heap's address space; see arena_chunks.
inline constexpr std::size_t arena_bytes = std::size_t{64} << 20;
inline constexpr std::size_t min_reserve_bytes = 2 * chunk_bytes;
inline constexpr std::size_t max_reserve_bytes = std::size_t{1} << 40;

/// Chunks of an arena in a reservation of so many chunks: 64 MiB, or an eighth of a small
/// reservation, so that either side always finds an arena of its own.
constexpr std::size_t arena_chunks(std::size_t chunks) {
  constexpr std::size_t most = arena_bytes / chunk_bytes;
  const std::size_t eighth = chunks / 8;
  return eighth < 1 ? 1 : eighth < most ? eighth : most;
}

/// Words of free bits that each page owns in the flat array; a span uses those of its first page.
inline constexpr unsigned words_per_page = 16;

/// Blocks of 16 bytes in a page, for the masks of tiny objects.
inline constexpr unsigned tiny_block_bytes = 16;
inline constexpr unsigned tiny_blocks_per_page = page_size / tiny_block_bytes;

/// A free word with every slot free: all 64 bits, except in explorations of the protocol, which
/// reach the edge cases (empty, full) sooner with fewer slots per word.
#ifndef WARPHEAP_SLOTS_PER_WORD
#define WARPHEAP_SLOTS_PER_WORD 64
#endif
inline constexpr std::uint64_t full_word = bits::low_mask(WARPHEAP_SLOTS_PER_WORD);

// Classes as kernels see them: 1..67 are Go's small classes, the rest are specific to the device.
inline constexpr unsigned no_class = 0;  ///< page is not the device's, but the host's or nobody's
inline constexpr unsigned tiny_blocks = 68;   ///< 16-byte blocks shared by objects of 1..15 bytes
inline constexpr unsigned span_classes = 69;  ///< classes with spans, tiny included, 0 unused
inline constexpr unsigned large_class = 69;   ///< whole pages, one object
inline constexpr unsigned stock_class = 70;   ///< free page in the device's stock

/// Bytes of a slot in a class that has spans.
WARPHEAP_HD constexpr std::uint32_t slot_bytes(unsigned cls) {
  return cls == tiny_blocks ? tiny_block_bytes : static_cast<std::uint32_t>(class_to_size(cls));
}

/// gcd(size, 128): the largest power of two, up to 128, that divides the size.
WARPHEAP_HD constexpr std::uint32_t size_alignment(std::uint32_t size) {
  const std::uint32_t low_bit = size & (0u - size);
  return low_bit < 128 ? low_bit : 128;
}

WARPHEAP_HD constexpr unsigned span_words(unsigned cls) {
  return 128 / size_alignment(slot_bytes(cls));
}
WARPHEAP_HD constexpr unsigned span_pages(unsigned cls) {
  return slot_bytes(cls) / size_alignment(slot_bytes(cls));
}

/// What a page belongs to, in one load: the class in the top byte; below it, in pages, the distance
/// to the span's first page or, for the head of a large object, the object's length.
struct page_entry {
  std::uint32_t bits = 0;

  static constexpr unsigned class_shift = 24;
  static constexpr std::uint32_t max_value = (1u << class_shift) - 1;

  WARPHEAP_HD static constexpr page_entry make(unsigned cls, std::uint32_t value) {
    return {cls << class_shift | value};
  }
  WARPHEAP_HD constexpr unsigned cls() const { return bits >> class_shift; }
  WARPHEAP_HD constexpr std::uint32_t value() const { return bits & max_value; }
};

/// A span's state in one word, so that every atomic on it returns the incarnation that it changed:
///   bits 0..15   word w of the span may have free bits
///   bit  16      live: published with all its words
///   bit  17      retiring: a thread is trying to take all its words
///   bits 24..31  class
struct span_record {
  std::uint64_t bits = 0;

  static constexpr std::uint64_t nonempty_mask = 0xffff;
  static constexpr std::uint64_t live = std::uint64_t{1} << 16;
  static constexpr std::uint64_t retiring = std::uint64_t{1} << 17;
  static constexpr unsigned class_shift = 24;

  WARPHEAP_HD static constexpr span_record make_live(unsigned cls) {
    const std::uint64_t all = (std::uint64_t{1} << span_words(cls)) - 1;
    return {all | live | std::uint64_t{cls} << class_shift};
  }
  WARPHEAP_HD constexpr std::uint64_t nonempty() const { return bits & nonempty_mask; }
  WARPHEAP_HD constexpr bool is_live() const { return (bits & live) != 0; }
  WARPHEAP_HD constexpr bool is_retiring() const { return (bits & retiring) != 0; }
  WARPHEAP_HD constexpr unsigned cls() const {
    return static_cast<unsigned>(bits >> class_shift) & 0xff;
  }
};

/// A run of whole pages.
struct page_run {
  page_index first = 0;
  std::uint32_t count = 0;
};

// --- bitmaps over pages with two summary levels --------------------------------------------------
// Level 0 has a bit for each page; a bit of level 1 says that a word of level 0 may be non-zero, a
// bit of level 2 says the same of level 1. One array holds all three, level 0 first.

WARPHEAP_HD constexpr std::size_t level_words(std::size_t pages, unsigned level) {
  std::size_t n = pages;
  for (unsigned i = 0; i <= level; ++i) n = (n + 63) / 64;
  return n;
}
WARPHEAP_HD constexpr std::size_t summary_words(std::size_t pages) {
  return level_words(pages, 0) + level_words(pages, 1) + level_words(pages, 2);
}

}  // namespace warpheap
