#pragma once

// Which objects below 16 bytes live in a 16-byte block.
//
// A block holds several objects, so each has a bit in the masks, which says that it is free, and
// pins the span until then. The block's bit in `remote` (mspan.hpp) says that other threads have
// freed objects of the block, or are about to. It is set first: after the free itself, a thread
// touches nothing of the span except the pending mark. So the collector may find a block of which
// nothing is freed yet, and leaves its bit set as long as objects of the block live. When none
// lives, no thread is about to free one.

#include <cstdint>

#include <warpheap/bits.hpp>
#include <warpheap/size_classes.hpp>

#include "host/span_sync.hpp"

namespace warpheap {

/// The mask of a tiny block, 32 bits: the low half says at which offsets live objects begin, the
/// high half at which offsets objects ever began. An offset that is "live" without having begun is
/// the frontier: the block is open, and its next object goes there or above. A block whose low half
/// is 0 holds nothing, and its slot is free; a mask of 0 is a block that was never used.
namespace tiny_mask {
constexpr std::uint32_t live(unsigned offset) { return 1u << offset; }
constexpr std::uint32_t started(unsigned offset) { return 1u << (16 + offset); }
constexpr std::uint32_t frontier(unsigned offset) { return offset < 16 ? live(offset) : 0; }
constexpr std::uint32_t frontier_of(std::uint32_t mask) { return mask & 0xffff & ~(mask >> 16); }
constexpr bool holds_nothing(std::uint32_t mask) { return (mask & 0xffff) == 0; }
constexpr bool is_live(std::uint32_t mask, unsigned offset) {
  return (mask >> offset & mask >> (16 + offset) & 1) != 0;
}
/// Bytes of the object at an offset: up to the next object, the frontier, or the end of the block.
constexpr unsigned extent(std::uint32_t mask, unsigned offset) {
  const std::uint32_t ends = (mask | mask >> 16) & 0xffff & ~bits::low_mask(offset + 1);
  return (ends != 0 ? static_cast<unsigned>(bits::countr_zero(ends)) : 16) - offset;
}
/// The mask after an object of n bytes was put at an offset at or above the frontier.
constexpr std::uint32_t with_object(std::uint32_t mask, unsigned offset, unsigned n) {
  return (mask & ~frontier_of(mask)) | live(offset) | started(offset) | frontier(offset + n);
}
}  // namespace tiny_mask

/// The masks of a span of tiny blocks, for as many blocks as a span has slots. They are split like
/// the span's free bits: `mask` is written only by the owner of the span, `freed` (offsets, in the
/// place of the low half) by all other threads. The first word is for the link of the free list: a
/// late free of a stale pointer still finds masks after it.
struct tiny_mask_block {
  static constexpr unsigned blocks = page_size / tiny_size;
  void* link = nullptr;
  span_atomic<std::uint32_t> mask[blocks]{};
  span_atomic<std::uint16_t> freed[blocks]{};

  void clear() {
    for (auto& m : mask) m.store(0, std::memory_order_relaxed);
    for (auto& f : freed) f.store(0, std::memory_order_relaxed);
  }
  /// Ends all objects. Where they started stays known, for frees of stale pointers.
  void end_all() {
    for (auto& m : mask) {
      const std::uint32_t old = m.load(std::memory_order_relaxed);
      m.store(old & ~std::uint32_t{0xffff}, std::memory_order_relaxed);
    }
    for (auto& f : freed) f.store(0, std::memory_order_relaxed);
  }
  /// The mask without what others have freed. seq_cst: if a thread sets the span's place and then
  /// finds an object here, the free of that object sees the place (mcentral.hpp).
  std::uint32_t current(unsigned block) const {
    return mask[block].load(std::memory_order_relaxed)
           & ~std::uint32_t{freed[block].load(std::memory_order_seq_cst)};
  }
};

/// Where the next object of less than 16 bytes goes. (Go: the tiny allocator.)
class tiny_rule {
 public:
  static constexpr unsigned none = ~0u;

  /// Offset for n bytes in the open block, with the alignment n may need; none if they do not fit.
  unsigned place(unsigned n) {
    const unsigned align = (n & 7) == 0 ? 8 : (n & 3) == 0 ? 4 : (n & 1) == 0 ? 2 : 1;
    const unsigned at = (offset_ + align - 1) & ~(align - 1);
    if (!open_ || at + n > tiny_size) return none;
    offset_ = at + n;
    return at;
  }
  /// An object of n bytes got a new block: whether that block has more room than the open one, and
  /// so replaces it.
  bool keep_new(unsigned n) {
    if (open_ && n >= offset_) return false;
    open_ = true;
    offset_ = n;
    return true;
  }
  void forget() {
    open_ = false;
    offset_ = 0;
  }
  unsigned offset() const { return offset_; }

 private:
  bool open_ = false;
  unsigned offset_ = 0;
};

}  // namespace warpheap
