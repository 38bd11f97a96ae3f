#pragma once

// Which slot of a span contains a byte, without a division.

#include <bit>
#include <cstddef>
#include <cstdint>

#include <warpheap/size_classes.hpp>

#include "host/span_classes.hpp"

namespace warpheap {

/// Division by the slot size of a class, by a multiplication. (The Go runtime has the same idea in
/// its divMagic; here the product also says whether an offset is a multiple, as in "Faster
/// remainder by direct computation", Lemire, Kaser and Kurz 2019, and which word has the slot's
/// bit.)
///
/// An offset times `divisor` is 2^64 times its quotient by 64 slots. So the upper half of the
/// product is the word; the lower half is the slot within it (6 bits) and the remainder, which is
/// small only for multiples of the size.
class slot_division {
  __extension__ using uint128 = unsigned __int128;

 public:
  /// Divides by nothing: every offset is in slot 0.
  constexpr slot_division() = default;
  /// The divisor is (2^58 + e) / elemsize, with 0 <= e < elemsize. So for the offset of slot i the
  /// low 58 bits of the product are i * e, less than the span's bytes, and for an offset between
  /// two slots they are 2^58 / elemsize or more: a comparison with rest_limit tells them apart.
  constexpr explicit slot_division(std::size_t elemsize)
      : divisor_(((std::uint64_t{1} << 58) - 1) / elemsize + 1) {}

  unsigned slot_of(std::size_t offset) const {
    return static_cast<unsigned>(uint128{offset} * divisor_ >> 58);
  }

  /// Where the bit of a slot is.
  struct place {
    std::uint64_t word;
    std::uint64_t bit;  ///< in its lowest six bits, where shifts look for it; more above them
    bool is_slot() const { return bit < rest_limit; }
  };
  /// is_slot is false where no slot begins (mspan_test tries every offset).
  place place_of(std::size_t offset) const {
    const uint128 product = uint128{offset} * divisor_;
    return {static_cast<std::uint64_t>(product >> 64),
            std::rotl(static_cast<std::uint64_t>(product), 6)};
  }

 private:
  /// Above the remainders of slots, below all others; small enough for an immediate operand.
  static constexpr std::uint64_t rest_limit = std::uint64_t{1} << 30;
  static_assert(max_host_span_pages * page_size < rest_limit >> 6
                && rest_limit >> 6 < (std::uint64_t{1} << 58) / max_small_size);

  std::uint64_t divisor_ = 0;
};

}  // namespace warpheap
