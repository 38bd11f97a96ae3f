// Objects of 1..15 bytes, packed into 16-byte blocks as in Go, with explicit free in any order.
//
// Each block has a 16-bit mask out of band: a bit for each offset where a live object starts, all
// zero while the block is free. The one fetch_and that clears the last bit frees the block; a free
// that finds its bit clear is an error. An open block (one named by a warp's `tiny` word) also has
// bit 15 set, so that frees never bring its mask to zero; the thread that takes the block out of
// the word clears it. Byte 15 is handed out only when the block is full: bit 15 then stays for the
// object there, and the block's bit in `tiny_last` says that it is one.
//
// The tiny word holds {block, busy, next offset}, in global memory: two diverged groups of one
// warp, or two warps that share a cache slot, may interleave anywhere. A compare-and-swap takes the
// bytes and makes the word busy, an operation on the mask sets the bits of the new objects, and a
// store clears busy. A block whose word is busy is neither appended to nor closed: objects that
// have no bits yet could not keep it alive. No thread waits for that; others open blocks of their
// own.
//
// If the mask had all bits set when the block is opened, an append would need no fetch_or and no
// store, only 1 load and 1 compare-and-swap. But then, in an open block, a free of an unused offset
// would look like the free of an object, and the block would be freed with live objects in it. So
// an append, for all lanes of a group that fit into the block, has 1 load and 1 compare-and-swap
// that the caller waits for, and 1 fetch_or and 1 store that it does not wait for (device/budgets
// in the benchmark counts them).
#pragma once

#include <warpheap/detail/small.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// Number of a block: page * 512 + block within the page; 0 = none.
using block_index = std::uint64_t;

/// A warp's open block, in one word.
struct tiny_word {
  std::uint64_t bits = 0;

  __device__ static tiny_word make(block_index block, unsigned next) { return {block << 6 | next}; }
  __device__ tiny_word busy() const { return {bits | busy_bit}; }
  __device__ bool is_busy() const { return (bits & busy_bit) != 0; }
  __device__ block_index block() const { return bits >> 6; }
  __device__ unsigned next() const { return static_cast<unsigned>(bits) & 31; }

 private:
  static constexpr std::uint64_t busy_bit = 32;
};

/// Bit 15 of a mask: the block is open, or its last byte is an object.
inline constexpr unsigned open_bit = 0x8000;

/// Alignment that Go gives an object of this size. The size is a multiple of it, so objects of one
/// size lie side by side.
__device__ __forceinline__ unsigned tiny_alignment(unsigned size) {
  return (size & 7) == 0 ? 8 : (size & 3) == 0 ? 4 : (size & 1) == 0 ? 2 : 1;
}

/// Start offsets, as bits, of n objects of one size from `offset` on.
WARPHEAP_OUTLINED unsigned start_bits(unsigned offset, unsigned size, unsigned n) {
  unsigned started = 0;
  WARPHEAP_ROLLED
  for (unsigned i = 0; i < n; ++i) started |= 1u << (offset + i * size);
  return started;
}

/// Two blocks share a 32-bit word; each operation leaves the neighbour's half unchanged.
__device__ __forceinline__ std::uint32_t* mask_word(const heap_view& h, block_index b) {
  return h.tiny_mask + b / 2;
}
__device__ __forceinline__ unsigned mask_shift(block_index b) { return (b & 1) * 16; }

__device__ inline void free_block(const heap_view& h, block_index b) {
  const auto page = static_cast<page_index>(b / tiny_blocks_per_page);
  const auto slot = static_cast<unsigned>(b % tiny_blocks_per_page);  // spans of blocks have 1 page
  static_assert(span_pages(tiny_blocks) == 1);
  free_bits(h, index_of_word(page, slot / 64), std::uint64_t{1} << (slot % 64));
}

/// Clears bits of a block's mask; whoever clears the last one frees the block. Returns the old
/// mask. Acquire and release: all users' writes happen before the block's next use.
WARPHEAP_SLOW_PATH unsigned clear_mask(const heap_view& h, block_index b, unsigned clear) {
  const std::uint32_t old = atomic::fetch_and<order::acq_rel>(
      mask_word(h, b), ~(static_cast<std::uint32_t>(clear) << mask_shift(b)));
  const unsigned half = old >> mask_shift(b) & 0xffff;
  if (half != 0 && (half & ~clear) == 0) free_block(h, b);
  return half;
}

/// The word that holds a block's bit in `tiny_last`, and that bit.
__device__ __forceinline__ std::uint32_t* last_word(const heap_view& h, block_index b) {
  return h.tiny_last + b / 32;
}
__device__ __forceinline__ std::uint32_t last_bit(block_index b) {
  return std::uint32_t{1} << (b % 32);
}

/// Says that byte 15 of a block is an object, after the bits of all its other objects were set.
/// Release: a thread that sees it sees those bits.
WARPHEAP_OUTLINED void set_last(const heap_view& h, block_index b) {
  atomic::fetch_or<order::release>(last_word(h, b), last_bit(b));
}

/// Sets the mask of a block that the caller has just claimed. Relaxed: others learn of the block
/// only by the tiny word's compare-and-swap or by the pointers handed out.
WARPHEAP_SLOW_PATH void set_mask(const heap_view& h, block_index b, unsigned bits) {
  const std::uint32_t old = atomic::fetch_or<order::relaxed>(
      mask_word(h, b), static_cast<std::uint32_t>(bits) << mask_shift(b));
  const unsigned half = old >> mask_shift(b) & 0xffff;
  // A free block's mask is zero; set bits come from a stray free of a former object.
  if (half != 0) {
    report(h, error_kind::late_double_free,
           reinterpret_cast<std::uint64_t>(h.base) + b * tiny_block_bytes);
    if ((half & ~bits) != 0)
      atomic::fetch_and<order::relaxed>(
          mask_word(h, b), ~(static_cast<std::uint32_t>(half & ~bits) << mask_shift(b)));
  }
}

/// Closes a block that was just taken out of a tiny word.
WARPHEAP_OUTLINED void close_block(const heap_view& h, tiny_word r) {
  clear_mask(h, r.block(), open_bit);
}

/// Objects appended to the open block: n from `offset` on. n == 0: no room, or no open block.
struct tiny_append {
  block_index block;
  unsigned offset;
  unsigned n;
};

/// Sets the bits of objects that an append has just taken, and clears busy.
WARPHEAP_OUTLINED void publish_append(const heap_view& h, std::uint64_t* word, block_index b,
                                      unsigned started, unsigned next) {
  // Relaxed: a thread that frees one of the objects has its pointer from the caller.
  atomic::fetch_or<order::relaxed>(mask_word(h, b), std::uint32_t{started} << mask_shift(b));
  if (next != tiny_block_bytes)
    // Release: a thread that closes the block clears bit 15 of a mask that has these bits. A store,
    // because nobody else changes a busy word.
    atomic::store<order::release>(word, tiny_word::make(b, next).bits);
  else if ((started & open_bit) != 0)
    set_last(h, b);
  else
    clear_mask(h, b, open_bit);  // full, and no longer in a word; the new objects keep it alive
}

/// Determines where up to `want` objects of a size have room in an open block.
WARPHEAP_OUTLINED tiny_append room_in(tiny_word r, unsigned size, unsigned want) {
  const unsigned align = tiny_alignment(size);
  const unsigned offset = (r.next() + align - 1) & ~(align - 1);
  const unsigned room = offset < tiny_block_bytes ? (tiny_block_bytes - offset) / size : 0;
  return {r.block(), offset, room < want ? room : want};
}

/// Takes that room. False when the warp's word, read as r, has changed meanwhile.
WARPHEAP_OUTLINED bool take_room(const heap_view& h, tiny_word r, const tiny_append& a,
                                 unsigned size) {
  std::uint64_t* word = h.tiny + cache_slot(h);
  const unsigned next = a.offset + a.n * size;
  const bool full = next == tiny_block_bytes;
  const tiny_word to = full ? tiny_word{} : tiny_word::make(a.block, next).busy();
  // Acquire and release: the block's installation, with its mask, happens before. No ABA problem:
  // the word holds block and offset, and unless it is busy the mask has the bits of all objects
  // below the offset, so equal values mean the same state.
  if (!atomic::compare_exchange<order::acq_rel>(word, r.bits, to.bits)) return false;
  publish_append(h, word, a.block, start_bits(a.offset, size, a.n), next);
  return true;
}

/// One try to append to the warp's open block; false when another one is worthwhile.
WARPHEAP_OUTLINED bool try_append(const heap_view& h, unsigned size, unsigned want,
                                  tiny_append& a) {
  const tiny_word r{atomic::load<order::relaxed>(h.tiny + cache_slot(h))};
  if (r.block() == 0 || r.is_busy()) return true;
  a = room_in(r, size, want);
  if (a.n == 0 || take_room(h, r, a, size)) return true;
  a.n = 0;
  return false;
}

WARPHEAP_SLOW_PATH tiny_append append_tiny(const heap_view& h, unsigned size, unsigned want) {
  [[maybe_unused]] const unbroken step;
  tiny_append a{0, 0, 0};
  WARPHEAP_ROLLED
  while (!try_append(h, size, want, a)) {
  }
  return a;
}

/// Starts a fresh block with objects at the offsets `started`, without making it an open one.
WARPHEAP_OUTLINED void keep_closed(const heap_view& h, block_index b, unsigned started) {
  set_mask(h, b, started);
  if ((started & open_bit) != 0) set_last(h, b);
}

/// Makes a block the warp's open one, replacing the one in `r`.
WARPHEAP_OUTLINED void install_block(const heap_view& h, tiny_word r, tiny_word to) {
  if (!atomic::compare_exchange<order::acq_rel>(h.tiny + cache_slot(h), r.bits, to.bits))
    close_block(h, to);  // another group installed first; ours was never open to others
  else if (r.block() != 0)
    close_block(h, r);
}

/// Opens a fresh block that already holds n objects of a size, or keeps it closed when the warp's
/// open one is busy or has at least as much room.
WARPHEAP_SLOW_PATH void start_block(const heap_view& h, block_index b, unsigned size, unsigned n) {
  [[maybe_unused]] const unbroken step;
  const unsigned started = start_bits(0, size, n), next = size * n;
  tiny_word r{atomic::load<order::relaxed>(h.tiny + cache_slot(h))};
  if (next == tiny_block_bytes || r.is_busy() || (r.block() != 0 && r.next() <= next)) {
    keep_closed(h, b, started);
    return;
  }
  set_mask(h, b, started | open_bit);
  install_block(h, r, tiny_word::make(b, next));
}

/// A fresh block with n objects of a size, for each lane of the group.
WARPHEAP_OUTLINED std::byte* malloc_block(const heap_view& h, lane_mask group, unsigned size,
                                          unsigned n) {
  auto* const block = static_cast<std::byte*>(malloc_small_outlined(h, group, tiny_blocks));
  if (block != nullptr)
    start_block(h, static_cast<std::uint64_t>(block - h.base) / tiny_block_bytes, size, n);
  return block;
}

/// Objects in fresh blocks: for each block, the first lane of its objects claims and starts it.
WARPHEAP_OUTLINED void* malloc_in_blocks(const heap_view& h, lane_mask group, unsigned size) {
  const unsigned per_block = tiny_block_bytes / size;
  const unsigned rank = rank_in(group), in_block = rank % per_block;
  const lane_mask claimers = __ballot_sync(group, in_block == 0);
  std::byte* block = nullptr;
  if (in_block == 0) {
    const unsigned left = static_cast<unsigned>(__popc(group)) - rank;
    block = malloc_block(h, claimers, size, left < per_block ? left : per_block);
  }
  block = reinterpret_cast<std::byte*>(
      __shfl_sync(group, reinterpret_cast<unsigned long long>(block),
                  static_cast<int>(lane_of_rank(claimers, rank / per_block))));
  order_lanes(group);
  return block == nullptr ? nullptr : block + in_block * size;
}

/// One object of `size` bytes, 1..15, for each lane of the group; nullptr where memory ran out.
/// All lanes of the group ask for the same size and call together.
WARPHEAP_SLOW_PATH void* malloc_tiny(const heap_view& h, lane_mask group, unsigned size) {
  const unsigned leader = leader_of(group);
  tiny_append a{0, 0, 0};
  if (lane_id() == leader) a = append_tiny(h, size, static_cast<unsigned>(__popc(group)));
  a.n = __shfl_sync(group, a.n, static_cast<int>(leader));
  a.offset = __shfl_sync(group, a.offset, static_cast<int>(leader));
  a.block = __shfl_sync(group, static_cast<unsigned long long>(a.block), static_cast<int>(leader));
  order_lanes(group);
  const unsigned rank = rank_in(group);
  if (rank < a.n) return h.base + a.block * tiny_block_bytes + a.offset + rank * size;
  return malloc_in_blocks(h, drop_lanes(group, a.n), size);
}

/// Frees one tiny object; false when there was none.
WARPHEAP_SLOW_PATH bool free_tiny(const heap_view& h, std::uint64_t offset) {
  const block_index b = offset / tiny_block_bytes;
  const unsigned bit = 1u << (offset % tiny_block_bytes);
  // Only the thread that clears the block's bit in `tiny_last` may clear bit 15. Relaxed: the mask
  // orders the accesses of the users of the block's bytes.
  const bool may =
      bit != open_bit
      || (atomic::fetch_and<order::relaxed>(last_word(h, b), ~last_bit(b)) & last_bit(b)) != 0;
  const bool live = may && (clear_mask(h, b, bit) & bit) != 0;
  if (!live) report(h, error_kind::double_free, reinterpret_cast<std::uint64_t>(h.base) + offset);
  return live;
}

/// Bytes that belong to the live tiny object at an offset of the heap and can belong to no other; 0
/// when there is none. 1 while the block is open, as objects may still be added anywhere after it.
WARPHEAP_SLOW_PATH unsigned tiny_bytes(const heap_view& h, std::uint64_t offset) {
  const block_index b = offset / tiny_block_bytes;
  const unsigned at = static_cast<unsigned>(offset % tiny_block_bytes);
  // Before the mask. Acquire: a block with an object in byte 15 is full, and its mask is complete.
  const bool last = (atomic::load<order::acquire>(last_word(h, b)) & last_bit(b)) != 0;
  // Acquire: bytes of a freed neighbour may now be this object's; the neighbour's owner is done
  // with them.
  const unsigned mask = atomic::load<order::acquire>(mask_word(h, b)) >> mask_shift(b) & 0xffff;
  if ((1u << at) == open_bit) return last;
  if ((mask >> at & 1) == 0) return 0;
  if ((mask & open_bit) != 0 && !last) return 1;
  const unsigned behind = mask >> at >> 1;
  return behind == 0 ? tiny_block_bytes - at
                     : static_cast<unsigned>(__ffs(static_cast<int>(behind)));
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
