#pragma once

// The kinds of spans of the host heap, and how many pages and slots each has.

#include <array>
#include <cstdint>

#include <warpheap/contents.hpp>
#include <warpheap/size_classes.hpp>

// The least slots of a host span; fewer in the weak memory model (tests/relacy).
#ifndef WARPHEAP_LEAST_SPAN_SLOTS
#define WARPHEAP_LEAST_SPAN_SLOTS 32
#endif

namespace warpheap {

// Span classes of the host heap: those of the size classes, with and without pointers, and one more
// for the 16-byte blocks of tiny objects, whose spans carry a mask for each block.
inline constexpr unsigned tiny_span_class = num_span_classes;
inline constexpr unsigned host_span_classes = num_span_classes + 1;

constexpr unsigned host_span_size_class(unsigned span_class) {
  return span_class == tiny_span_class ? tiny_class : span_class_size_class(span_class);
}

// Pages and slots of a host span: those of the size class if they give many slots; otherwise a
// multiple that reaches 32 KiB (48 for slots of up to 128 B) or 512 slots, with at least 32 slots
// (16 for more than 4 KiB, 8 for the largest). With one slot per span, as in the class table for 8
// KiB, allocating and freeing a thousand objects in turn took 120 ns each, most of it for making
// spans; with 8 slots it took 16, with 16 it takes 11, with 32, 9. The fewer slots a span has, the
// fewer of them are free when it is taken up again: groups of 100 objects of 40 B, half freed at
// once and half after 100 more groups, took 23 ns for a malloc and its free with 256 slots, and
// 16.5 with 512. (With 64 KiB for all, 500 B took 30 ns instead of 38, but the benchmark's sh6 1.5
// MiB more; with 64 instead of 48 it takes 0.3 more.) Pages on which no object was put cost no
// memory, and slots that were never used become ready last. Where there is no run of this length,
// one of the class table's length is used (mcache::next_span).
constexpr unsigned host_span_pages(unsigned size_class) {
  const unsigned pages = class_to_pages(size_class), slots = class_to_objects(size_class);
  if (slots == 0) return 0;
  constexpr unsigned most_bytes = 256 << 10;
  const auto size = static_cast<unsigned>(class_to_size(size_class));
  constexpr unsigned least_slots = WARPHEAP_LEAST_SPAN_SLOTS;
  const unsigned fewer = least_slots / 2 * size <= most_bytes ? least_slots / 2 : most_bytes / size;
  const unsigned few = least_slots * size <= most_bytes / 2 ? least_slots : fewer;
  const unsigned most_pages = size <= 128 ? 6 : 4;
  const unsigned for_bytes = (most_pages + pages - 1) / pages,
                 for_slots = (512 + slots - 1) / slots;
  const unsigned least = (few + slots - 1) / slots;
  const unsigned wanted = for_bytes < for_slots ? for_bytes : for_slots;
  return pages * (wanted > least ? wanted : least);
}
constexpr unsigned host_span_objects(unsigned size_class, std::size_t pages) {
  return size_class == 0 ? 0 : static_cast<unsigned>(pages * page_size / class_to_size(size_class));
}
constexpr unsigned host_span_objects(unsigned size_class) {
  return host_span_objects(size_class, host_span_pages(size_class));
}

// Bytes before the first slot. Spans begin at page boundaries; without these bytes so would the
// slots of every span, and most objects of some hundred bytes would begin at multiples of 256,
// whose lines the processor's caches keep less well. Touching the ends of such objects again, after
// 20000 lines of others, mostly took 100 to 160 cycles on a fourth-generation EPYC, and 43 to 54
// where all of them lie 64 to 320 bytes further on; the benchmark's sh6 took 32 ns, and takes 28.
// (Bonwick, "The Slab Allocator", 1994, has a color for each slab; here one did as well as
// several.) A color comes out of the bytes that the slots leave over, so it costs none; where they
// leave none, as with all powers of two, there is no color, and slots are aligned to their size.
constexpr unsigned host_span_color(unsigned size_class) {
  const auto size = static_cast<unsigned>(class_to_size(size_class));
  if (size < 128) return 0;
  const unsigned color = size % 128 == 0 ? 128 : 64;
  const auto has_room = [=](unsigned pages) { return pages * page_size % size >= color; };
  return has_room(host_span_pages(size_class)) && has_room(class_to_pages(size_class)) ? color : 0;
}
/// The largest power of two, up to page_size, to which all slots of a class are aligned.
inline constexpr auto host_slot_alignments = [] {
  std::array<std::uint16_t, num_classes> alignments{};
  for (unsigned c = 0; c < num_classes; ++c) {
    const std::size_t all = class_to_size(c) | host_span_color(c) | page_size;
    alignments[c] = static_cast<std::uint16_t>(all & (~all + 1));
  }
  return alignments;
}();
/// The class for n bytes aligned to align, a power of two up to page_size; n is a multiple of it.
constexpr unsigned host_aligned_class(std::size_t n, std::size_t align) {
  unsigned size_class = size_to_class(n);
  while (host_slot_alignments[size_class] < align) ++size_class;
  return size_class;
}

inline constexpr unsigned max_host_span_pages = [] {
  unsigned most = 0;
  for (unsigned c = 0; c < num_classes; ++c) {
    most = host_span_pages(c) > most ? host_span_pages(c) : most;
  }
  return most;
}();

}  // namespace warpheap
