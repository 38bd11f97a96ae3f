// Built on malloc and free of single objects: sizes of live objects, calloc, realloc, aligned
// objects, and many objects of one size for one lane.
#pragma once

#include <warpheap/detail/route.cuh>

#ifndef __CUDACC__
#include <cstring>
#endif

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// Bytes that belong to the live object of a kernel that starts at p; 0 when there is none. Objects
/// below 16 bytes lie side by side and their sizes are not kept: for these, the bytes that can
/// belong to no other object, which may be fewer than were asked for but never 0.
WARPHEAP_SLOW_PATH std::size_t live_bytes(const heap_view& h, const void* p) {
  const std::uint64_t offset =
      reinterpret_cast<std::uint64_t>(p) - reinterpret_cast<std::uint64_t>(h.base);
  if (offset >= h.bytes) return 0;
  const auto page = static_cast<page_index>(offset >> page_shift);
  const page_entry e{atomic::load<order::relaxed>(h.entry + page)};
  const unsigned cls = e.cls();
  if (cls == large_class) return offset % page_size == 0 ? std::size_t{e.value()} * page_size : 0;
  if (cls == tiny_blocks) return tiny_bytes(h, offset);
  if (cls == no_class || cls >= span_classes) return 0;
  const slot_place at = place_of(page, e, static_cast<std::uint32_t>(offset & (page_size - 1)));
  if (at.at == 0 || (atomic::load<order::relaxed>(h.word + at.at) & at.mask()) != 0) return 0;
  return class_to_size(cls);
}
WARPHEAP_SLOW_ENTRY(live_bytes);

#ifdef __CUDACC__

/// Objects of at least this size are filled by all lanes of a group together, one after the other.
inline constexpr std::size_t shared_fill_bytes = 64;

/// Zeroes `bytes` bytes at p for each lane of the group; p is 8-aligned if bytes >= 16.
WARPHEAP_SLOW_PATH void zero_objects(lane_mask group, void* p, std::size_t bytes) {
  const bool alone = bytes < shared_fill_bytes;
  if (alone)
    for (std::size_t i = 0; i < bytes; ++i) static_cast<unsigned char*>(p)[i] = 0;
  __syncwarp(group);  // the previous owner is done with it, as its lane's malloc has acquired
  for (lane_mask rest = __ballot_sync(group, !alone); rest != 0; rest &= rest - 1) {
    const int lane = static_cast<int>(leader_of(rest));
    const auto to = reinterpret_cast<unsigned long long*>(
        __shfl_sync(group, reinterpret_cast<unsigned long long>(p), lane));
    // Slots are multiples of 8 bytes long.
    const std::size_t words = (__shfl_sync(group, bytes, lane) + 7) / 8;
    for (std::size_t i = rank_in(group); i < words; i += static_cast<unsigned>(__popc(group)))
      to[i] = 0;
  }
  __syncwarp(group);  // each lane sees what others wrote for it
}

WARPHEAP_OUTLINED void copy_words(lane_mask group, unsigned long long* to,
                                  const unsigned long long* from, std::size_t words) {
  WARPHEAP_ROLLED
  for (std::size_t i = rank_in(group); i < words; i += static_cast<unsigned>(__popc(group)))
    to[i] = from[i];
}

/// All lanes of the group copy together what the given lane wants copied.
WARPHEAP_OUTLINED void copy_together(lane_mask group, int lane, void* to, const void* from,
                                     std::size_t bytes) {
  copy_words(group,
             reinterpret_cast<unsigned long long*>(
                 __shfl_sync(group, reinterpret_cast<unsigned long long>(to), lane)),
             reinterpret_cast<const unsigned long long*>(
                 __shfl_sync(group, reinterpret_cast<unsigned long long>(from), lane)),
             (__shfl_sync(group, bytes, lane) + 7) / 8);
}

WARPHEAP_OUTLINED void copy_bytes(unsigned char* to, const unsigned char* from, std::size_t bytes) {
  WARPHEAP_ROLLED
  for (std::size_t i = 0; i < bytes; ++i) to[i] = from[i];
}

/// Copies `bytes` bytes for each lane of the group, in the same way.
WARPHEAP_SLOW_PATH void copy_objects(lane_mask group, void* to, const void* from,
                                     std::size_t bytes) {
  const bool alone = bytes < shared_fill_bytes;
  if (alone)
    copy_bytes(static_cast<unsigned char*>(to), static_cast<const unsigned char*>(from), bytes);
  __syncwarp(group);  // lanes that copy an object see what its owner wrote into it
  WARPHEAP_ROLLED
  for (lane_mask rest = __ballot_sync(group, !alone); rest != 0; rest &= rest - 1) {
    const int lane = static_cast<int>(leader_of(rest));
    copy_together(group, lane, to, from, bytes);
  }
  __syncwarp(group);
}

#else

inline void zero_objects(lane_mask, void* p, std::size_t bytes) {
  if (bytes != 0) std::memset(p, 0, bytes);
}

/// Not checked by ThreadSanitizer up to 16 bytes: for a tiny object more bytes are copied than it
/// may have, while the owners of its neighbours write theirs.
__attribute__((no_sanitize("thread"))) inline void copy_tiny(void* to, const void* from,
                                                             std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i)
    static_cast<volatile unsigned char*>(to)[i] =
        static_cast<const volatile unsigned char*>(from)[i];
}
inline void copy_objects(lane_mask, void* to, const void* from, std::size_t bytes) {
  if (bytes <= tiny_size)
    copy_tiny(to, from, bytes);
  else
    std::memcpy(to, from, bytes);
}

#endif
WARPHEAP_SLOW_ENTRY(zero_objects);

/// Bytes of n objects. An overflowing product becomes more than any heap has, which malloc rejects.
__device__ __forceinline__ std::size_t calloc_bytes(std::size_t n, std::size_t size) {
  return bits::mul_overflows(n, size) ? ~std::size_t{0} : n * size;
}

/// As C's calloc, for all lanes of the mask.
__device__ __forceinline__ void* calloc(const heap_view& h, lane_mask mask, std::size_t n,
                                        std::size_t size) {
  const std::size_t bytes = calloc_bytes(n, size);
  void* p = malloc(h, mask, bytes);
  zero_objects_entry(mask, p, p == nullptr ? 0 : bytes);
  return p;
}

/// live_bytes; an address without a live object of a kernel is reported.
WARPHEAP_OUTLINED std::size_t live_bytes_or_report(const heap_view& h, void* p) {
  const std::size_t bytes = live_bytes(h, p);
  if (bytes == 0) report(h, error_kind::not_allocated, reinterpret_cast<std::uint64_t>(p));
  return bytes;
}

/// Whether an object of `old` bytes can stay in place when resized to `size`: if it still fills
/// more than half of its slot; whole pages also by giving pages back (`rest`, which the caller
/// releases) or by taking the pages that follow.
WARPHEAP_SLOW_PATH bool stays(const heap_view& h, const void* p, std::size_t old, std::size_t size,
                              page_run& rest) {
  const std::uint64_t offset =
      reinterpret_cast<std::uint64_t>(p) - reinterpret_cast<std::uint64_t>(h.base);
  const auto page = static_cast<page_index>(offset >> page_shift);
  const page_entry e{atomic::load<order::relaxed>(h.entry + page)};
  if (e.cls() != large_class || size <= max_small_size || size > h.bytes)
    return size <= old && size > old / 2;
  const auto n = static_cast<std::uint32_t>(bits::ceil_div(size, page_size));
  if (n != e.value() && !resize_large(h, page, e, n)) return false;
  if (n < e.value()) rest = {page + n, e.value() - n};
  return true;
}

/// The lanes of the mask with the same heap and route.
WARPHEAP_OUTLINED lane_mask group_outlined(const heap_view& h, lane_mask mask, unsigned route) {
  return __match_any_sync(mask, static_cast<unsigned long long>(key_of(h, route)));
}

/// malloc and free for a realloc that moves its object. `resized` is called for objects that stay.
struct plain_moves {
  WARPHEAP_OUTLINED static void* malloc(const heap_view& h, lane_mask mask, std::size_t size) {
    const unsigned route = route_outlined(size);
    return malloc_outlined(h, group_outlined(h, mask, route), route, size);
  }
  static __device__ void free(const heap_view& h, lane_mask mask, void* p) {
    free_outlined(h, mask, p);
  }
  static __device__ void resized(const heap_view&, lane_mask, bool, void*, std::size_t) {}
};

/// Bytes to copy when an object of `old` bytes moves to one of `size`. For a tiny object, all up to
/// the end of its block: they may belong to it.
WARPHEAP_OUTLINED std::size_t bytes_to_move(const void* p, std::size_t old, std::size_t size) {
  if (old != 0 && old < tiny_size)
    old = tiny_block_bytes - reinterpret_cast<std::uint64_t>(p) % tiny_block_bytes;
  return old < size ? old : size;
}

/// Resizes the object in place if possible; all lanes of the mask call together.
template <class Moves>
WARPHEAP_OUTLINED bool resize_in_place(const heap_view& h, lane_mask mask, void* p, std::size_t old,
                                       std::size_t size) {
  [[maybe_unused]] const unbroken step;
  page_run rest{};
  const bool stay = old != 0 && size != 0 && stays(h, p, old, size, rest);
  Moves::resized(h, mask, stay, p, size);
  // Only now: the pages' next owners record their events after the one that says the object shrank.
  if (rest.count != 0) release_pages(h, rest);
  return stay;
}

template <class Moves>
WARPHEAP_OUTLINED void* move_object(const heap_view& h, lane_mask mask, void* p, std::size_t old,
                                    std::size_t size) {
  const std::size_t bytes = bytes_to_move(p, old, size);
  void* moved = Moves::malloc(h, mask, size);
  copy_objects(mask, moved, p, moved == nullptr ? 0 : bytes);
  Moves::free(h, mask, moved == nullptr ? nullptr : p);
  return moved;
}

/// As C's realloc, for all lanes of the mask. A pointer to no live object of a kernel is reported,
/// and its lane gets nullptr.
template <class Moves>
__device__ __forceinline__ void* realloc_by(const heap_view& h, lane_mask mask, void* p,
                                            std::size_t size) {
  if (p == h.base) p = nullptr;
  const std::size_t old = p != nullptr ? live_bytes_or_report(h, p) : 0;
  const bool stay = resize_in_place<Moves>(h, mask, p, old, size);
  const bool moves = !stay && (old != 0 || p == nullptr);
  mask = __ballot_sync(mask, moves);
  if (!moves) return stay ? p : nullptr;
  return move_object<Moves>(h, mask, p, old, size);
}
WARPHEAP_SLOW_PATH void* realloc(const heap_view& h, lane_mask mask, void* p, std::size_t size) {
  return realloc_by<plain_moves>(h, mask, p, size);
}
WARPHEAP_SLOW_ENTRY(realloc);

WARPHEAP_OUTLINED unsigned aligned_route_outlined(std::size_t align, std::size_t size) {
  return aligned_route(align, size);
}

/// Whole pages at a multiple of `align`.
WARPHEAP_OUTLINED void* aligned_pages(const heap_view& h, std::size_t align, std::size_t size) {
  void* p = nullptr;
  if (bits::is_power_of_two(align))
    p = align <= page_size ? malloc_pages(h, size) : malloc_pages_aligned(h, size, align);
  if (p == nullptr) report_out_of_memory(h, large_class);
  return p;
}

/// `size` bytes at a multiple of `align` for each lane of the mask.
WARPHEAP_SLOW_PATH void* aligned_alloc(const heap_view& h, lane_mask mask, std::size_t align,
                                       std::size_t size) {
  const unsigned route = aligned_route_outlined(align, size);
  const lane_mask group = group_outlined(h, mask, route);
  if (route < span_classes) return malloc_outlined(h, group, route, class_to_size(route));
  if (route != route_pages) return malloc_outlined(h, group, route, route - route_tiny);
  return aligned_pages(h, align, size == 0 ? 1 : size);
}
WARPHEAP_SLOW_ENTRY(aligned_alloc);

/// Writes the addresses of the first n slots of a claim.
WARPHEAP_OUTLINED void write_addresses(const heap_view& h, unsigned cls, claim c, unsigned n,
                                       void** out) {
  std::byte* const first = address_of(h, cls, c.at, 0);
  const auto bytes = static_cast<std::uint32_t>(slot_bytes(cls));
  WARPHEAP_ROLLED
  for (; n != 0; --n, c.got &= c.got - 1)
    *out++ = first + static_cast<std::uint32_t>(bits::countr_zero(c.got)) * bytes;
}

WARPHEAP_OUTLINED std::uint64_t lowest_bits_outlined(std::uint64_t word, unsigned n) {
  return lowest_bits(word, n);
}

/// Takes a lane's share of a claim for several lanes: up to `want` slots after the first `before`.
/// Writes their addresses and returns their number.
WARPHEAP_OUTLINED unsigned take_share(const heap_view& h, unsigned cls, claim c, unsigned before,
                                      unsigned want, void** out) {
  c.got &= ~lowest_bits_outlined(c.got, before);
  const auto left = static_cast<unsigned>(bits::popcount(c.got));
  const unsigned mine = left < want ? left : want;
  write_addresses(h, cls, c, mine, out);
  return mine;
}

/// Numbers of objects, each up to 64, that the lanes of a group want: the sum over the lanes below
/// the calling one, and over all.
struct wishes {
  unsigned before;
  unsigned total;
};
WARPHEAP_OUTLINED wishes add_wishes(lane_mask group, unsigned want) {
  wishes w{0, 0};
  for (unsigned b = 0; b < 7; ++b) {
    const lane_mask with = __ballot_sync(group, (want >> b & 1) != 0);
    w.before += rank_in(with) << b;
    w.total += static_cast<unsigned>(__popc(with)) << b;
  }
  return w;
}

/// Adds up the wishes of a group's lanes and claims up to a whole word for all of them by one
/// operation. Returns how many slots the calling lane got; no_share when there is no memory.
inline constexpr unsigned no_share = ~0u;
WARPHEAP_OUTLINED unsigned claim_share(const heap_view& h, lane_mask group, unsigned cls,
                                       unsigned want, void** out) {
  if (want > 64) want = 64;
  const wishes w = add_wishes(group, want);
  const claim c = claim_together(h, group, cls, w.total < 64 ? w.total : 64);
  return c.got != 0 ? take_share(h, cls, c, w.before, want, out) : no_share;
}

/// Slots of one class for lanes that want several. Returns how many the calling lane got.
WARPHEAP_SLOW_PATH unsigned malloc_n_small(const heap_view& h, lane_mask waiting, unsigned cls,
                                           unsigned n, void** out) {
  unsigned have = 0;
  while (have < n) {
    const unsigned share = claim_share(h, waiting, cls, n - have, out + have);
    if (share == no_share) break;
    have += share;
    waiting = __ballot_sync(waiting, have < n);
  }
  while (have < n) {
    void* p = malloc_without_span(h, class_to_size(cls));
    if (p == nullptr) break;
    out[have++] = p;
  }
  return have;
}

/// The same for tiny and large objects; returns how many of the n were not available.
WARPHEAP_OUTLINED unsigned malloc_one_by_one(const heap_view& h, lane_mask group, std::size_t size,
                                             unsigned n, void** out) {
  for (;;) {
    void* p = plain_moves::malloc(h, group, size);
    if (p != nullptr) {
      *out++ = p;
      --n;
    }
    const bool on = p != nullptr && n != 0;
    group = __ballot_sync(group, on);
    if (!on) return n;
  }
}

/// Up to n objects of `size` bytes for each lane of the mask, their addresses in out[0..]; returns
/// their number.
WARPHEAP_SLOW_PATH unsigned malloc_n(const heap_view& h, lane_mask mask, std::size_t size,
                                     unsigned n, void** out) {
  mask = __ballot_sync(mask, n != 0);
  if (n == 0) return 0;
  const unsigned route = route_outlined(size);
  const lane_mask group = group_outlined(h, mask, route);
  if (route < span_classes) return malloc_n_small(h, group, route, n, out);
  return n - malloc_one_by_one(h, group, size, n, out);
}
WARPHEAP_SLOW_ENTRY(malloc_n);

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
