#pragma once

// The size classes of small objects: the slot sizes, the number of slots in a span, and the class
// that serves a request. All of it is derived at compile time from five rules (see
// detail::make_size_classes); the numbers are those of the Go runtime since 1.16.

#include <cstddef>
#include <cstdint>

#include <warpheap/bits.hpp>
#include <warpheap/hd.hpp>

namespace warpheap {

/// Bytes of a heap page, the unit of spans.
inline constexpr std::size_t page_size = 8192;
inline constexpr unsigned page_shift = 13;
/// Largest request served from a size class; a larger object has its own pages (class 0).
inline constexpr std::size_t max_small_size = 32768;
/// Size of the block into which smaller objects are packed.
inline constexpr std::size_t tiny_size = 16;
/// Classes 0..67; class 0 stands for large objects.
inline constexpr unsigned num_classes = 68;
/// Class of the blocks that hold tiny objects.
inline constexpr unsigned tiny_class = 2;
/// A class and its noscan bit.
inline constexpr unsigned num_span_classes = num_classes << 1;
/// No class has more slots in a span of class_to_pages pages.
inline constexpr unsigned max_objects_per_span = page_size / 8;
/// slot_index is exact for offsets below this.
inline constexpr std::size_t max_slot_offset = std::size_t{2} << 20;

namespace detail {

/// Requests up to here are looked up in steps of 8 bytes, larger ones in steps of 128.
inline constexpr std::size_t fine_limit = 1024 - 8;
inline constexpr unsigned coarse_base = 120;  // (fine_limit + 1 + 127) >> 7 is 8; 128 + 0 = 120 + 8
inline constexpr unsigned lookup_entries = coarse_base + ((max_small_size + 127) >> 7) + 1;

struct size_class_table {
  unsigned count = 1;  // class 0 is the empty entry
  std::uint16_t size[num_classes]{};
  std::uint8_t pages[num_classes]{};
  std::uint32_t magic[num_classes]{};  // ceil(2^32 / (size / 4))
  std::uint8_t lookup[lookup_entries]{};
};

WARPHEAP_HD constexpr unsigned lookup_index(std::size_t n) {
  const unsigned m = static_cast<unsigned>(n);
  return m <= fine_limit ? (m + 7) >> 3 : coarse_base + ((m + 127) >> 7);
}

/// Step from one candidate size to the next, from a power of two on: 8 below 32, then an eighth of
/// the size within 16 and 256, so that rounding a request up wastes about an eighth at most.
constexpr std::size_t step_from(std::size_t power) {
  if (power >= 2048) return 256;
  if (power >= 128) return power / 8;
  return power >= 32 ? 16 : 8;
}

/// The fewest pages whose tail, after as many slots as fit, is at most an eighth of them.
constexpr std::size_t span_pages_for(std::size_t size) {
  std::size_t bytes = page_size;
  while (bytes % size > bytes / 8) bytes += page_size;
  return bytes / page_size;
}

constexpr size_class_table make_size_classes() {
  size_class_table t;
  std::size_t step = 8;
  for (std::size_t size = step; size <= max_small_size; size += step) {
    if (bits::is_power_of_two(size)) step = step_from(size);
    const std::size_t pages = span_pages_for(size);
    const std::size_t bytes = pages * page_size;
    const unsigned last = t.count - 1;
    // Of two sizes with equally many slots in equally many pages, only the larger is useful.
    if (last > 0 && t.pages[last] == pages && bytes / t.size[last] == bytes / size) {
      t.size[last] = static_cast<std::uint16_t>(size);
      continue;
    }
    t.size[t.count] = static_cast<std::uint16_t>(size);
    t.pages[t.count] = static_cast<std::uint8_t>(pages);
    ++t.count;
  }
  // Widens slots as long as equally many fit; multiples of 128 keep the coarse look-up exact.
  for (unsigned c = 1; c < t.count; ++c) {
    const std::size_t bytes = t.pages[c] * page_size;
    const std::size_t wider = bytes / (bytes / t.size[c]) / 128 * 128;
    if (wider > t.size[c]) t.size[c] = static_cast<std::uint16_t>(wider);
    t.magic[c] = static_cast<std::uint32_t>(((std::uint64_t{1} << 32) + t.size[c] / 4u - 1)
                                            / (t.size[c] / 4u));
  }
  unsigned c = 0;
  for (std::size_t n = 0; n <= max_small_size; n += n < 1024 ? 8 : 128) {
    if (n > t.size[c]) ++c;
    t.lookup[lookup_index(n)] = static_cast<std::uint8_t>(c);
  }
  return t;
}

inline constexpr size_class_table size_classes = make_size_classes();
static_assert(size_classes.count == num_classes);
static_assert(size_classes.size[num_classes - 1] == max_small_size);
static_assert(size_classes.size[tiny_class] == tiny_size);

#ifdef __CUDACC__
// Kernels index their own copy: one per translation unit in constant memory, so that no relocatable
// device code is needed.
[[maybe_unused]] static __constant__ constexpr size_class_table device_size_classes =
    make_size_classes();
#endif

WARPHEAP_HD constexpr const size_class_table& size_class_tables() {
#ifdef __CUDA_ARCH__
  return device_size_classes;
#else
  return size_classes;
#endif
}

}  // namespace detail

/// Class that serves n bytes, 0 <= n <= max_small_size, in one table look-up; 0 for n == 0.
WARPHEAP_HD constexpr unsigned size_to_class(std::size_t n) {
  return detail::size_class_tables().lookup[detail::lookup_index(n)];
}

/// Bytes of a slot of class c (0 for class 0).
WARPHEAP_HD constexpr std::size_t class_to_size(unsigned c) {
  return detail::size_class_tables().size[c];
}

/// Pages of a host span of class c (0 for class 0).
WARPHEAP_HD constexpr unsigned class_to_pages(unsigned c) {
  return detail::size_class_tables().pages[c];
}

/// Multiplier for slot_index.
WARPHEAP_HD constexpr std::uint32_t class_to_magic(unsigned c) {
  return detail::size_class_tables().magic[c];
}

/// Slots in a host span of class c (0 for class 0).
WARPHEAP_HD constexpr unsigned class_to_objects(unsigned c) {
  const std::size_t size = class_to_size(c);
  return size == 0 ? 0 : static_cast<unsigned>(class_to_pages(c) * page_size / size);
}

/// Alignment of every slot of class c in a span that starts with a slot: the largest power of two
/// that divides its size, at most a page. (Spans of the host may start with a color:
/// host/span_classes.hpp.)
WARPHEAP_HD constexpr std::size_t class_to_align(unsigned c) {
  const std::size_t size = class_to_size(c);
  const std::size_t lowest = size & (~size + 1);
  return lowest > page_size ? page_size : lowest;
}

/// offset / size for the class with this class_to_magic, for offset < max_slot_offset. Sizes are
/// multiples of 8, so offset / size == (offset / 4) / (size / 4). With d = size / 4 <= 2^13 and the
/// magic ceil(2^32 / d), the scaled product exceeds the true quotient by less than (offset / 4 * d
/// / 2^32) / d < 1 / d: its integer part is exact.
WARPHEAP_HD constexpr std::uint32_t slot_index(std::uint32_t offset, std::uint32_t magic) {
  return static_cast<std::uint32_t>((std::uint64_t{offset >> 2} * magic) >> 32);
}

/// A class with its noscan bit: objects with and without pointers never share a span.
WARPHEAP_HD constexpr unsigned make_span_class(unsigned c, bool noscan) {
  return c << 1 | (noscan ? 1u : 0u);
}
WARPHEAP_HD constexpr unsigned span_class_size_class(unsigned sc) { return sc >> 1; }
WARPHEAP_HD constexpr bool span_class_noscan(unsigned sc) { return (sc & 1) != 0; }

/// Bytes that a request for n really gets: the slot size up to max_small_size (ignoring tiny
/// packing), whole pages above. 0 when rounding up to pages overflows, and for n == 0.
WARPHEAP_HD constexpr std::size_t round_up_size(std::size_t n) {
  if (n <= max_small_size) return class_to_size(size_to_class(n));
  return bits::add_overflows(n, page_size - 1) ? 0 : bits::align_up(n, page_size);
}

static_assert(class_to_size(tiny_class) == tiny_size, "bad TinySizeClass");
static_assert(size_to_class(1) == 1 && size_to_class(17) == 3 && size_to_class(1024) == 32
              && size_to_class(1025) == 33 && size_to_class(max_small_size) == num_classes - 1);
static_assert(class_to_objects(1) == max_objects_per_span);

}  // namespace warpheap
