#pragma once

// Which frees of its owner's a span takes without a closer look.

#include <array>
#include <cstddef>
#include <cstdint>

#include <warpheap/size_classes.hpp>

namespace warpheap {

/// From an address to the slot that begins there, or to a refusal, by one multiplication and one
/// comparison.
///
/// A span from which its owner does not take slots must not become empty unseen. One slot of it
/// that is not free is watched: its free is refused, and the closer look then watches another. So
/// nothing has to be counted. With d about 2^64 / size, the high half of offset * d is the slot.
/// The low half follows the slot, too, where one begins, and is beyond all of these elsewhere; a
/// limit on it refuses the one and all slots on one side of the watched one, which are free.
class own_frees {
 public:
  struct size {
    std::size_t bytes;       ///< of a slot
    unsigned size_class;     ///< 0: a large object, which has one slot
    const std::byte* slots;  ///< where they begin
  };

  /// Slot of an offset in a span of small objects; what is past the slots has higher numbers.
  static unsigned slot_of(std::size_t offset, unsigned size_class) {
    return static_cast<unsigned>(uint128{offset} * larger_divisor(size_class) >> 64);
  }

  /// Slots below `end`. With d * size = 2^64 + e, slot i begins at the product (i, i * e), and in
  /// between the low half is d at least.
  void take_below(unsigned end, const size& s) {
    const std::uint64_t d = larger_divisor(s.size_class);
    base_ = s.slots;
    divisor_ = d;
    limit_ = end * (d * s.bytes);
  }
  /// Slots above `first`; those past the end have to be free. With d * size = 2^64 - e and offsets
  /// counted from 1, slot i begins at (i, d - i * e), and in between it is more than d.
  void take_above(unsigned first, const size& s) {
    const std::uint64_t d = smaller_divisor(s.size_class);
    base_ = s.slots - 1;
    divisor_ = d;
    limit_ = d + first * (d * s.bytes);
  }
  void take_none() { limit_ = 0; }
  /// As after take_below(slots): none is watched.
  bool takes_all(unsigned slots, const size& s) const {
    return base_ == s.slots && limit_ == slots * (larger_divisor(s.size_class) * s.bytes);
  }

  static constexpr std::uint64_t refused = ~std::uint64_t{0};
  /// The slot that begins at p, an address in the pages of the span.
  std::uint64_t slot(const void* p) const {
    const uint128 product =
        uint128{static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - base_)} * divisor_;
    return static_cast<std::uint64_t>(product) < limit_ ? static_cast<std::uint64_t>(product >> 64)
                                                        : refused;
  }

 private:
  __extension__ using uint128 = unsigned __int128;
  // For each size the largest number that makes less than 2^64 with it; 0 for large objects.
  static constexpr std::array<std::uint64_t, num_classes> divisors = [] {
    std::array<std::uint64_t, num_classes> d{};
    for (unsigned c = 1; c < num_classes; ++c) d[c] = ~std::uint64_t{0} / class_to_size(c);
    return d;
  }();
  static std::uint64_t smaller_divisor(unsigned size_class) { return divisors[size_class]; }
  static std::uint64_t larger_divisor(unsigned size_class) { return divisors[size_class] + 2; }

  const std::byte* base_ = nullptr;
  std::uint64_t divisor_ = 0;
  std::uint64_t limit_ = 0;
};

}  // namespace warpheap
