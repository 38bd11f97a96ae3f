#pragma once

// Which free slots of a span become ready together.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <warpheap/bits.hpp>

namespace warpheap {

/// Chooses which free slots of a word become ready, and knows which were never chosen before. For
/// the span's owner only.
///
/// At most 16 KiB are ready at a time, or two objects, or one of more than 16 KiB: so an owner that
/// frees what it has just taken gets the same few objects again, which are in the processor's
/// caches, instead of each slot in turn.
class ready_window {
 public:
  /// For new slots, none of which was ever ready.
  void init(std::size_t elemsize) {
    size_ = static_cast<std::uint8_t>(slots_at_once(elemsize));
    fresh_from_ = 0;
  }
  /// For a new owner of the slots.
  void restart() { end_ = word_bits; }

  /// Of the free slots of word w, of which there is at least one: the lowest and those after it, as
  /// many as may be ready at once; or all, when the slots before them were taken and none of those
  /// was freed.
  std::uint64_t choose(unsigned w, std::uint64_t free) {
    const unsigned lowest = bits::lowest_bit(free);
    std::uint64_t chosen = free;
    if (size_ != word_bits) {
      unsigned size = word_bits;
      if (lowest < end_) {
        size = size_;
        chosen &= ~std::uint64_t{0} >> (word_bits - size) << lowest;
      }
      end_ = static_cast<std::uint8_t>(lowest + size);
    }
    is_fresh_ = false;
    if ((w + 1) * word_bits > fresh_from_) [[unlikely]] {
      is_fresh_ = w * word_bits + lowest >= fresh_from_;
      // Slots that are not free were chosen before, so these may be all that is left of the word.
      const unsigned end = chosen == free ? word_bits : end_;
      if (w * word_bits + end > fresh_from_)
        fresh_from_ = static_cast<std::uint16_t>(w * word_bits + end);
    }
    return chosen;
  }

  /// The same if all of those were chosen before and some may be again; otherwise 0, with nothing
  /// done.
  std::uint64_t choose_again(unsigned w, std::uint64_t free) {
    const unsigned lowest = bits::lowest_bit(free);
    if (lowest >= end_) return 0;
    const unsigned size = size_;
    if (w * word_bits + std::min(lowest + size, word_bits) > fresh_from_) return 0;
    end_ = static_cast<std::uint8_t>(lowest + size);
    is_fresh_ = false;
    return free & ~std::uint64_t{0} >> (word_bits - size) << lowest;
  }

  /// None of the slots chosen last had been chosen before.
  bool is_fresh() const { return is_fresh_; }

 private:
  static constexpr unsigned word_bits = 64;

  static constexpr unsigned slots_at_once(std::size_t elemsize) {
    constexpr unsigned bytes = 16 << 10;
    if (elemsize > bytes) return 1;
    if (elemsize > bytes / 2) return 2;
    return elemsize < bytes / word_bits ? word_bits : static_cast<unsigned>(bytes / elemsize);
  }

  std::uint16_t fresh_from_ = 0;   // no slot from this one on was ever chosen
  std::uint8_t size_ = word_bits;  // how many become ready at once
  std::uint8_t end_ = word_bits;   // the slot after those chosen last; may lie past the word
  bool is_fresh_ = false;
};

}  // namespace warpheap
