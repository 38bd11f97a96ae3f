// CUDA's vocabulary for a host compiler. Include <warpheap/platform.hpp>, not this.
//
// Names and types are CUDA's, so that code that compiles here compiles under nvcc: qualifiers,
// built-in variables, barriers, warp collectives, bit operations. A lane is a fiber of the SIMT
// executor (device/simt); everything that can make a lane wait is a call into it. The names are in
// warpheap::simt::words and reach the global scope by a using-directive, so that no symbol of these
// names can collide with one of CUDA's in the same binary.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <warpheap/bits.hpp>
#include <warpheap/simt_switch.hpp>
#include <warpheap/simt_vector_types.hpp>

// __noinline__ is missing on purpose: libstdc++ spells one of its attributes with it.
#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __maxnreg__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// A worker thread runs one block at a time, to its end, so its thread-local variables are shared by
// exactly the lanes of one block.
#define __shared__ static thread_local

#define WARPHEAP_WORD inline __attribute__((always_inline))

namespace warpheap::simt {
namespace detail {

struct block_view {
  words::uint3 block_index{};
  words::dim3 block_size;
  words::dim3 grid_size;
};

/// What the functions below need to know about the running lane.
struct lane_view {
  switch_frame frame;
  std::uint64_t result = 0;  ///< result of the collective it called last
  std::uint64_t second = 0;  ///< second operand or result of those that have two
  words::uint3 thread_index{};
  const block_view* block = nullptr;
  unsigned index = 0;  ///< in its warp
  unsigned warp_slot = 0;
  bool leaving = false;   ///< its block has failed
  unsigned unbroken = 0;  ///< open steps that it must complete all the same
};

/// One per OS thread. A lane never moves to another OS thread.
struct thread_state {
  /// Switch points left before `expired` is called; 0 stands for 2^32.
  unsigned countdown = 0;
  void (*expired)() = nullptr;
  lane_view* lane = nullptr;
};
inline constinit thread_local thread_state this_thread{};

[[noreturn]] void not_in_a_kernel();

inline const lane_view& this_lane() {
  lane_view* lane = this_thread.lane;
  if (lane == nullptr) [[unlikely]]
    not_in_a_kernel();
  return *lane;
}

enum class operation : std::uint8_t {
  syncwarp,
  ballot,
  any,
  all,
  shfl,
  shfl_up,
  shfl_down,
  shfl_xor,
  match_any,
  match_all,
  reduce_add,
  reduce_min,
  reduce_max,
  reduce_min_signed,
  reduce_max_signed,
  reduce_and,
  reduce_or,
  reduce_xor,
  shfl_two,
  reduce_or_64,
  activemask,
  converged_match,
  syncthreads,
  syncthreads_count,
  syncthreads_and,
  syncthreads_or,
  nanosleep,
};

// The arrive functions record that the running lane waits. Unless it can continue at once, they
// return the lane to run in its place; the caller must then switch to that lane, and call left()
// when it gets the thread back.

/// A collective is complete when every lane of `mask` has arrived with the same `op` and `mask`.
/// `source` is the lane to read from, for shuffles.
lane_view* arrive(operation op, unsigned mask, std::uint64_t value, unsigned source,
                  const char* file, unsigned line);
lane_view* arrive_active_mask(operation op, const char* file, unsigned line);
void left();

#ifdef WARPHEAP_SIMT_INLINE_SWITCH
WARPHEAP_WORD std::uint64_t collective(operation op, unsigned mask, std::uint64_t value,
                                       unsigned source, const char* file, unsigned line) {
  lane_view* me = this_thread.lane;
  if (lane_view* next = arrive(op, mask, value, source, file, line); next != nullptr) {
    switch_stacks(&me->frame, &next->frame);
    if (me->leaving) [[unlikely]]
      left();
  }
  return me->result;
}
WARPHEAP_WORD unsigned active_mask(operation op, const char* file, unsigned line) {
  lane_view* me = this_thread.lane;
  if (lane_view* next = arrive_active_mask(op, file, line); next != nullptr) {
    switch_stacks(&me->frame, &next->frame);
    if (me->leaving) [[unlikely]]
      left();
  }
  return static_cast<unsigned>(me->result);
}
#else
std::uint64_t collective(operation op, unsigned mask, std::uint64_t value, unsigned source,
                         const char* file, unsigned line);
unsigned active_mask(operation op, const char* file, unsigned line);
#endif
int block_barrier(operation op, bool predicate, const char* file, unsigned line);
void sleep_lane(unsigned nanoseconds, const char* file, unsigned line);
[[noreturn]] void trap(const char* file, unsigned line);
void* dynamic_shared_memory();
void full_fence();

}  // namespace detail

/// Called before each atomic. In an exploration, another lane may run here. In a normal launch it
/// costs a decrement and a branch, and gives way after some hundred calls in a row without a
/// switch, so that a lane that spins on an atomic cannot stall its block. Does nothing on a thread
/// that runs no kernel.
WARPHEAP_SIMT_UNTRACED inline void switch_point() {
  if (--detail::this_thread.countdown == 0) [[unlikely]] {
    if (detail::this_thread.expired != nullptr) detail::this_thread.expired();
  }
}

/// While one exists, the calling lane is not removed from its kernel when its block fails: it
/// completes a step of several changes. The exception is a collective or a barrier, which no other
/// lane will complete any more. Does nothing on a thread that runs no kernel.
class unbroken {
 public:
  WARPHEAP_SIMT_UNTRACED unbroken() : lane_(detail::this_thread.lane) {
    if (lane_ != nullptr) ++lane_->unbroken;
  }
  WARPHEAP_SIMT_UNTRACED ~unbroken() {
    if (lane_ != nullptr) --lane_->unbroken;
  }
  unbroken(const unbroken&) = delete;
  unbroken& operator=(const unbroken&) = delete;

 private:
  detail::lane_view* lane_;
};

/// A small dense index of the running warp, below warp_slots(): no two warps that run at the same
/// time share one (in an exploration of more warps than that, they wrap around).
inline unsigned warp_slot() { return detail::this_lane().warp_slot; }
/// The number of values of warp_slot(). Grows when set_worker_threads() raises the pool's size.
unsigned warp_slots();
/// Nanoseconds of a steady clock; of a virtual clock in an exploration. Callable from any thread.
std::uint64_t now_ns();
/// Launches submitted and not yet finished. Callable from any thread.
std::size_t active_kernels();

namespace detail {

/// The types that CUDA exchanges between lanes; smaller integers are promoted, as by its overloads.
template <class T>
concept exchangeable = std::is_arithmetic_v<T> && sizeof(T) <= 8;
template <exchangeable T>
using promoted = decltype(+T{});

template <class T>
WARPHEAP_WORD std::uint64_t to_bits(T value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
WARPHEAP_WORD T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// The lane that a shuffle reads from, as PTX's shfl computes it: within segments of `width` lanes,
/// or the lane itself where the segment ends.
WARPHEAP_WORD unsigned shuffle_source(operation op, unsigned operand, int width) {
  const unsigned lane = this_lane().index;
  const unsigned segment = lane & (32u - static_cast<unsigned>(width));
  const unsigned last = segment | (static_cast<unsigned>(width) - 1u);
  operand &= 31u;
  switch (op) {
    case operation::shfl: return segment | (operand & (static_cast<unsigned>(width) - 1u));
    case operation::shfl_up: return lane >= segment + operand ? lane - operand : lane;
    case operation::shfl_down: return lane + operand <= last ? lane + operand : lane;
    default: return (lane ^ operand) <= last ? lane ^ operand : lane;
  }
}

}  // namespace detail

namespace words {

#define WARPHEAP_SITE const char *file = __builtin_FILE(), unsigned line = __builtin_LINE()

constexpr int warpSize = 32;

WARPHEAP_WORD void __syncthreads(WARPHEAP_SITE) {
  detail::block_barrier(detail::operation::syncthreads, false, file, line);
}
WARPHEAP_WORD int __syncthreads_count(int predicate, WARPHEAP_SITE) {
  return detail::block_barrier(detail::operation::syncthreads_count, predicate != 0, file, line);
}
WARPHEAP_WORD int __syncthreads_and(int predicate, WARPHEAP_SITE) {
  return detail::block_barrier(detail::operation::syncthreads_and, predicate != 0, file, line);
}
WARPHEAP_WORD int __syncthreads_or(int predicate, WARPHEAP_SITE) {
  return detail::block_barrier(detail::operation::syncthreads_or, predicate != 0, file, line);
}
WARPHEAP_WORD void __syncwarp(unsigned mask = 0xffffffffu, WARPHEAP_SITE) {
  detail::collective(detail::operation::syncwarp, mask, 0, 0, file, line);
}
WARPHEAP_WORD unsigned __activemask(WARPHEAP_SITE) {
  return detail::active_mask(detail::operation::activemask, file, line);
}

WARPHEAP_WORD unsigned __ballot_sync(unsigned mask, int predicate, WARPHEAP_SITE) {
  return static_cast<unsigned>(
      detail::collective(detail::operation::ballot, mask, predicate != 0, 0, file, line));
}
WARPHEAP_WORD int __any_sync(unsigned mask, int predicate, WARPHEAP_SITE) {
  return static_cast<int>(
      detail::collective(detail::operation::any, mask, predicate != 0, 0, file, line));
}
WARPHEAP_WORD int __all_sync(unsigned mask, int predicate, WARPHEAP_SITE) {
  return static_cast<int>(
      detail::collective(detail::operation::all, mask, predicate != 0, 0, file, line));
}

#define WARPHEAP_SHUFFLE(name, op, operand_type)                                         \
  template <detail::exchangeable T>                                                      \
  WARPHEAP_WORD detail::promoted<T> name(unsigned mask, T value, operand_type operand,   \
                                         int width = 32, WARPHEAP_SITE) {                \
    return detail::from_bits<detail::promoted<T>>(detail::collective(                    \
        op, mask, detail::to_bits<detail::promoted<T>>(value),                           \
        detail::shuffle_source(op, static_cast<unsigned>(operand), width), file, line)); \
  }
WARPHEAP_SHUFFLE(__shfl_sync, detail::operation::shfl, int)
WARPHEAP_SHUFFLE(__shfl_up_sync, detail::operation::shfl_up, unsigned)
WARPHEAP_SHUFFLE(__shfl_down_sync, detail::operation::shfl_down, unsigned)
WARPHEAP_SHUFFLE(__shfl_xor_sync, detail::operation::shfl_xor, int)
#undef WARPHEAP_SHUFFLE

template <detail::exchangeable T>
WARPHEAP_WORD unsigned __match_any_sync(unsigned mask, T value, WARPHEAP_SITE) {
  return static_cast<unsigned>(detail::collective(detail::operation::match_any, mask,
                                                  detail::to_bits<detail::promoted<T>>(value), 0,
                                                  file, line));
}
template <detail::exchangeable T>
WARPHEAP_WORD unsigned __match_all_sync(unsigned mask, T value, int* equal, WARPHEAP_SITE) {
  const auto same = static_cast<unsigned>(
      detail::collective(detail::operation::match_all, mask,
                         detail::to_bits<detail::promoted<T>>(value), 0, file, line));
  *equal = same != 0;
  return same;
}

#define WARPHEAP_REDUCE(name, type, op)                                       \
  WARPHEAP_WORD type name(unsigned mask, type value, WARPHEAP_SITE) {         \
    return detail::from_bits<type>(                                           \
        detail::collective(op, mask, detail::to_bits(value), 0, file, line)); \
  }
WARPHEAP_REDUCE(__reduce_add_sync, unsigned, detail::operation::reduce_add)
WARPHEAP_REDUCE(__reduce_add_sync, int, detail::operation::reduce_add)
WARPHEAP_REDUCE(__reduce_min_sync, unsigned, detail::operation::reduce_min)
WARPHEAP_REDUCE(__reduce_min_sync, int, detail::operation::reduce_min_signed)
WARPHEAP_REDUCE(__reduce_max_sync, unsigned, detail::operation::reduce_max)
WARPHEAP_REDUCE(__reduce_max_sync, int, detail::operation::reduce_max_signed)
WARPHEAP_REDUCE(__reduce_and_sync, unsigned, detail::operation::reduce_and)
WARPHEAP_REDUCE(__reduce_or_sync, unsigned, detail::operation::reduce_or)
WARPHEAP_REDUCE(__reduce_xor_sync, unsigned, detail::operation::reduce_xor)
#undef WARPHEAP_REDUCE

WARPHEAP_WORD void __nanosleep(unsigned nanoseconds, WARPHEAP_SITE) {
  detail::sleep_lane(nanoseconds, file, line);
}
[[noreturn]] WARPHEAP_WORD void __trap(WARPHEAP_SITE) { detail::trap(file, line); }
WARPHEAP_WORD long long clock64() { return static_cast<long long>(now_ns()); }

WARPHEAP_WORD void __threadfence() { detail::full_fence(); }
WARPHEAP_WORD void __threadfence_block() { detail::full_fence(); }
WARPHEAP_WORD void __threadfence_system() { detail::full_fence(); }

WARPHEAP_WORD int __popc(unsigned x) { return bits::popcount(x); }
WARPHEAP_WORD int __popcll(unsigned long long x) { return bits::popcount(x); }
WARPHEAP_WORD int __ffs(int x) { return __builtin_ffs(x); }
WARPHEAP_WORD int __ffsll(long long x) { return __builtin_ffsll(x); }
WARPHEAP_WORD int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
WARPHEAP_WORD int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
WARPHEAP_WORD unsigned long long __brevll(unsigned long long x) {
  x = ((x >> 1) & 0x5555555555555555u) | ((x & 0x5555555555555555u) << 1);
  x = ((x >> 2) & 0x3333333333333333u) | ((x & 0x3333333333333333u) << 2);
  x = ((x >> 4) & 0x0f0f0f0f0f0f0f0fu) | ((x & 0x0f0f0f0f0f0f0f0fu) << 4);
  return __builtin_bswap64(x);
}
WARPHEAP_WORD unsigned __brev(unsigned x) { return static_cast<unsigned>(__brevll(x) >> 32); }
WARPHEAP_WORD unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((std::uint64_t{a} * b) >> 32);
}
WARPHEAP_WORD unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using wide = unsigned __int128;
  return static_cast<unsigned long long>((static_cast<wide>(a) * b) >> 64);
}
template <class T>
WARPHEAP_WORD T __ldg(const T* address) {
  return *address;
}

#define WARPHEAP_MIN_MAX(type)                                 \
  constexpr type min(type a, type b) { return b < a ? b : a; } \
  constexpr type max(type a, type b) { return a < b ? b : a; }
WARPHEAP_MIN_MAX(int)
WARPHEAP_MIN_MAX(unsigned)
WARPHEAP_MIN_MAX(long)
WARPHEAP_MIN_MAX(unsigned long)
WARPHEAP_MIN_MAX(long long)
WARPHEAP_MIN_MAX(unsigned long long)
WARPHEAP_MIN_MAX(float)
WARPHEAP_MIN_MAX(double)
#undef WARPHEAP_MIN_MAX

}  // namespace words

// What takes CUDA several instructions, and the executor one collective.

struct two_words {
  std::uint64_t first;
  std::uint64_t second;
};
/// __shfl_sync of two words.
WARPHEAP_WORD two_words shuffle_two(unsigned mask, two_words value, unsigned from, WARPHEAP_SITE) {
  detail::lane_view* me = detail::this_thread.lane;
  me->second = value.second;
  const std::uint64_t first =
      detail::collective(detail::operation::shfl_two, mask, value.first, from, file, line);
  return {first, me->second};
}
/// __reduce_or_sync of 64 bits.
WARPHEAP_WORD std::uint64_t reduce_or_64(unsigned mask, std::uint64_t value, WARPHEAP_SITE) {
  return detail::collective(detail::operation::reduce_or_64, mask, value, 0, file, line);
}
/// __match_any_sync(__activemask(), value).
WARPHEAP_WORD unsigned converged_match(std::uint64_t value, WARPHEAP_SITE) {
  detail::this_thread.lane->second = value;
  return detail::active_mask(detail::operation::converged_match, file, line);
}

#undef WARPHEAP_SITE

}  // namespace warpheap::simt

#undef WARPHEAP_WORD

#include <warpheap/simt_atomics.hpp>

using namespace warpheap::simt::words;

// Expressions, not objects, because their values belong to the running lane.
#define threadIdx (::warpheap::simt::detail::this_lane().thread_index)
#define blockIdx (::warpheap::simt::detail::this_lane().block->block_index)
#define blockDim (::warpheap::simt::detail::this_lane().block->block_size)
#define gridDim (::warpheap::simt::detail::this_lane().block->grid_size)
