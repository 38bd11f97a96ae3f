#pragma once

// Which free slots of a span become ready together.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <warpheap/bits.hpp>

namespace warpheap {

/// Chooses, of the free slots of a word, those that become ready, and knows which were never chosen
/// before. For the span's owner alone.
///
/// No more than 16 KiB are ready at a time, or two objects, or one of more than 16 KiB: so an owner
/// who frees what it has just taken gets the same few objects again, which the processor's caches
/// have, and not each in turn.
class ready_window {
 public:
  /// For other slots, of which none was ever ready.
  void init(std::size_t elemsize) {
    size_ = static_cast<std::uint8_t>(slots_at_once(elemsize));
    fresh_from_ = 0;
  }
  /// For a new owner of the slots.
  void restart() { end_ = word_bits; }

  /// Of the free slots of word w, which are not none: the lowest and the next ones, as many as are
  /// ready at once; all, when those before them were taken and none was freed.
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
      // What is not free was chosen before: that may be all that is left of the word.
      const unsigned end = chosen == free ? word_bits : end_;
      if (w * word_bits + end > fresh_from_)
        fresh_from_ = static_cast<std::uint16_t>(w * word_bits + end);
    }
    return chosen;
  }

  /// The same where all those were chosen before, and some may be again; else 0, and nothing done.
  std::uint64_t choose_again(unsigned w, std::uint64_t free) {
    const unsigned lowest = bits::lowest_bit(free);
    if (lowest >= end_) return 0;
    const unsigned size = size_;
    if (w * word_bits + std::min(lowest + size, word_bits) > fresh_from_) return 0;
    end_ = static_cast<std::uint8_t>(lowest + size);
    is_fresh_ = false;
    return free & ~std::uint64_t{0} >> (word_bits - size) << lowest;
  }

  /// None of those that were chosen last had been chosen before.
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
  std::uint8_t size_ = word_bits;  // as many at once
  std::uint8_t end_ = word_bits;   // the slot of the word behind those chosen last; may be above it
  bool is_fresh_ = false;
};

}  // namespace warpheap
