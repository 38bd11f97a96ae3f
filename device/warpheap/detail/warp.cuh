// What device code asks about the warp it runs in, the same on both backends.
#pragma once

#include <cstdint>
#include <warpheap/bits.hpp>
#include <warpheap/heap_view.hpp>
#include <warpheap/platform.hpp>

// Slow paths are real functions: the fast path keeps its registers and the reader his overview.
//
// A fast path enters them by NAME_entry, through a pointer in constant memory. ptxas gives the
// functions of a call graph that it knows registers side by side, up to 116 for a kernel with one
// malloc, and all of them count for the kernel's occupancy. Called by pointer they keep to the
// ABI: each saves what it uses on the stack, and the kernel needs no more than the largest of
// them. WARPHEAP_OUTLINED marks parts of slow paths that are functions for that reason alone, and
// WARPHEAP_ROLLED loops that would take more registers unrolled. Values that live across calls cost
// most, as only 14 registers are kept for the caller: what a search remembers is in memory, and
// members of the view are loaded anew. With these in place the most that a kernel is launched with
// fell from 116 to 40, and with parts that are small enough to 30 (sm_90).
#ifdef __CUDACC__
#define WARPHEAP_SLOW_PATH inline __device__ __noinline__
#define WARPHEAP_OUTLINED WARPHEAP_SLOW_PATH
#define WARPHEAP_SLOW_ENTRY(name) \
  [[maybe_unused]] static __constant__ decltype(&name) name##_entry = &name
#define WARPHEAP_ROLLED _Pragma("unroll 1")
#else
#define WARPHEAP_SLOW_PATH inline __attribute__((noinline))
#define WARPHEAP_OUTLINED inline
#define WARPHEAP_SLOW_ENTRY(name) [[maybe_unused]] inline constexpr auto name##_entry = &name
#define WARPHEAP_ROLLED
#endif

// On a GPU, lanes that part at a branch or leave a loop go on together only behind it: there the
// first to come wait for the last. (The executor's go on by themselves.) So no lane may leave a
// loop with what others wait for in there: a mailbox, something in hand. It does all that it has to
// do with that inside the loop, in a slow path, which is a function for this reason as well: parts
// of the loop's body that only leave it are behind its end for the compiler.

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

using lane_mask = unsigned;

/// Around each part of a call that one lane does alone: what it takes in hand it also lets go. On
/// the executor a block that fails takes its lanes out of their kernel anywhere, and the heap lives
/// on: mallocs of other kernels would wait for what a lane had in hand, and for nobody. On CUDA a
/// kernel that fails takes the context with it, and all that used the heap.
#ifdef __CUDACC__
struct unbroken {
  __device__ __forceinline__ unbroken() {}
};
#else
using simt::unbroken;
#endif

/// The lanes that make a call of the heap together, for group_of. On CUDA to be asked at the call's
/// begin, before lanes can part. The executor asks only in group_of: one collective instead of two.
__device__ __forceinline__ lane_mask converged() {
#ifdef __CUDACC__
  return __activemask();
#else
  return 0;
#endif
}

/// What lanes that work together have in common: the heap, as handles may differ from lane to lane,
/// and what they want of it. Heaps begin at multiples of 4 MiB.
__device__ __forceinline__ std::uint64_t key_of(const heap_view& h, unsigned what) {
  return reinterpret_cast<std::uint64_t>(h.base) + what;
}

/// Those of the lanes that have the same key.
__device__ __forceinline__ lane_mask group_of(lane_mask mask, unsigned long long key) {
#ifndef __CUDACC__
  if (mask == 0) return simt::converged_match(key);
#endif
  return __match_any_sync(mask, key);
}

/// Orders what the lanes of a group do to memory before and after. Shuffles, matches and reductions
/// pass values and order nothing: without it, one lane's release says nothing of what another
/// wrote. On the executor a warp's lanes are fibers of one thread.
__device__ __forceinline__ void order_lanes([[maybe_unused]] lane_mask group) {
#ifdef __CUDACC__
  __syncwarp(group);
#endif
}

/// How many lanes of the group come before the calling one.
__device__ __forceinline__ unsigned rank_in(lane_mask group) {
  return static_cast<unsigned>(__popc(group & ((1u << lane_id()) - 1)));
}

__device__ __forceinline__ unsigned leader_of(lane_mask group) {
  return static_cast<unsigned>(__ffs(static_cast<int>(group))) - 1;
}

/// The group without its first n lanes.
__device__ __forceinline__ lane_mask drop_lanes(lane_mask group, unsigned n) {
  for (; n > 0 && group != 0; --n) group &= group - 1;
  return group;
}

/// Lane of the given rank in the group.
WARPHEAP_OUTLINED unsigned lane_of_rank(lane_mask group, unsigned rank) {
  return static_cast<unsigned>(bits::select(group, static_cast<int>(rank)));
}

/// The n lowest set bits of a free word, or all when it has no more. A fresh word is one run of
/// ones from some bit on, and needs no search.
__device__ __forceinline__ std::uint64_t lowest_bits(std::uint64_t word, unsigned n) {
  const std::uint64_t low = word & (0 - word);
  const std::uint64_t run = bits::low_mask(n) * low;  // n ones from the lowest set bit on
  if ((word & run) == run) return run;
  return bits::lowest_set(word, static_cast<int>(n));
}

/// Position of the set bit of the given rank.
__device__ __forceinline__ unsigned bit_of_rank(std::uint64_t word, unsigned rank) {
  const unsigned first = static_cast<unsigned>(__ffsll(static_cast<long long>(word))) - 1;
  const std::uint64_t run = word >> first;
  if ((run & (run + 1)) == 0) return first + rank;  // contiguous
  return static_cast<unsigned>(bits::select(word, static_cast<int>(rank)));
}

/// OR of a 64-bit value over the lanes of a group; every lane gets it.
__device__ __forceinline__ std::uint64_t reduce_or(lane_mask group, std::uint64_t value) {
#ifndef __CUDACC__
  return simt::reduce_or_64(group, value);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  const unsigned low = __reduce_or_sync(group, static_cast<unsigned>(value));
  const unsigned high = __reduce_or_sync(group, static_cast<unsigned>(value >> 32));
  return std::uint64_t{high} << 32 | low;
#else
  std::uint64_t all = 0;
  WARPHEAP_ROLLED
  for (lane_mask rest = group; rest != 0; rest &= rest - 1)
    all |= __shfl_sync(group, static_cast<unsigned long long>(value),
                       static_cast<int>(leader_of(rest)));
  return all;
#endif
}

/// Nanoseconds of a clock that all lanes share.
__device__ __forceinline__ std::uint64_t now_ns() {
#ifdef __CUDACC__
  std::uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
#else
  return simt::now_ns();
#endif
}

/// Index of the calling warp's cache slot. Two warps may share one (it holds hints, and words that
/// only atomics change), so a warp that moves or a collision costs time and nothing else.
__device__ __forceinline__ unsigned cache_slot(const heap_view& h) {
#ifdef __CUDACC__
  unsigned sm, warp;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
  asm volatile("mov.u32 %0, %%warpid;" : "=r"(warp));
  return (sm * 64 + warp) & (h.warp_slots - 1);  // a power of two on CUDA
#else
  return simt::warp_slot() % h.warp_slots;
#endif
}

/// A number that differs between warps, to spread them over equally good choices.
__device__ __forceinline__ std::uint32_t spread(const heap_view& h) {
  return (cache_slot(h) + 1) * 2654435761u;  // Knuth's multiplicative hash
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
