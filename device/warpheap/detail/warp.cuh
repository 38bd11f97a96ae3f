// What device code asks about the warp that it runs in; the same on both backends.
#pragma once

#include <cstdint>
#include <warpheap/bits.hpp>
#include <warpheap/heap_view.hpp>
#include <warpheap/platform.hpp>

// Slow paths are real functions: the fast path keeps its registers and stays readable.
//
// A fast path calls them as NAME_entry, through a pointer in constant memory. If ptxas knows a call
// graph, it allocates the registers of its functions side by side (up to 116 for a kernel with one
// malloc), and all of them count towards the kernel's occupancy. Functions called by pointer follow
// the ABI: each saves on the stack the registers that it uses, and the kernel needs no more than
// the largest of them. WARPHEAP_OUTLINED marks parts of slow paths that are functions for this
// reason alone, WARPHEAP_ROLLED loops that would take more registers if unrolled. Values that live
// across calls cost most, as only 14 registers are callee-saved: so the state of a search is in
// memory, and members of the view are loaded again. These measures reduced the most registers that
// a kernel is launched with from 116 to 40, and splitting functions into small parts to 30 (sm_90).
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

// On a GPU, lanes that diverge at a branch or leave a loop reconverge only after it, where the
// first to arrive wait for the last. (The executor's lanes do not wait.) So no lane may leave a
// loop while it holds what lanes still in the loop wait for: a mailbox, or something in hand. It
// finishes its work with that inside the loop, in a slow path, which is a function for this reason
// as well: the compiler may move parts of the loop's body that only lead out of the loop past its
// end.

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

using lane_mask = unsigned;

/// Surrounds each part of a call that one lane executes alone: what the lane takes in hand there,
/// it also lets go there. On the executor, a block that fails removes its lanes from the kernel at
/// any point while the heap lives on: mallocs of other kernels would wait forever for what such a
/// lane had in hand. On CUDA, a kernel that fails destroys the context and with it all users of the
/// heap.
#ifdef __CUDACC__
struct unbroken {
  __device__ __forceinline__ unbroken() {}
};
#else
using simt::unbroken;
#endif

/// The lanes that make a call of the heap together, for group_of. On CUDA, to be called at the
/// start of the heap's call, before lanes can diverge. The executor determines them in group_of:
/// one collective instead of two.
__device__ __forceinline__ lane_mask converged() {
#ifdef __CUDACC__
  return __activemask();
#else
  return 0;
#endif
}

/// What lanes that work together must agree on: the heap, as handles may differ from lane to lane,
/// and what they want from it. Heaps start at multiples of 4 MiB.
__device__ __forceinline__ std::uint64_t key_of(const heap_view& h, unsigned what) {
  return reinterpret_cast<std::uint64_t>(h.base) + what;
}

/// The lanes of the mask that have the same key.
__device__ __forceinline__ lane_mask group_of(lane_mask mask, unsigned long long key) {
#ifndef __CUDACC__
  if (mask == 0) return simt::converged_match(key);
#endif
  return __match_any_sync(mask, key);
}

/// Orders the memory accesses of a group's lanes before the call and after it. Shuffles, matches
/// and reductions pass values but order nothing: without this call, one lane's release would not
/// cover another lane's writes. On the executor, a warp's lanes are fibers of one thread.
__device__ __forceinline__ void order_lanes([[maybe_unused]] lane_mask group) {
#ifdef __CUDACC__
  __syncwarp(group);
#endif
}

/// Number of lanes of the group before the calling one.
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

/// The lane of the given rank in the group.
WARPHEAP_OUTLINED unsigned lane_of_rank(lane_mask group, unsigned rank) {
  return static_cast<unsigned>(bits::select(group, static_cast<int>(rank)));
}

/// The n lowest set bits of a free word, or all if it has fewer. In a fresh word, the set bits are
/// one contiguous run, which needs no search.
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

/// Index of the calling warp's cache slot. Two warps may share a slot: it holds only hints, and
/// words that are changed only by atomics. So a collision, or a warp that moves, costs nothing but
/// time.
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
