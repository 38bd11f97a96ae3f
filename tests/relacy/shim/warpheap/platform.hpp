// Stands in for common/warpheap/platform.hpp in the weak-memory check: every thread of relacy is a
// warp of one lane. The device core is compiled against this and the atomic.hpp beside it, which
// are found before the real ones.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <warpheap/hd.hpp>

#include "relacy/weak_memory.hpp"

#define WARPHEAP_BACKEND_NS on_relacy

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline

namespace warpheap {

namespace simt {
inline std::uint64_t now_ns() { return weak::the_memory.tick(); }
inline unsigned warp_slot() { return weak::current_thread(); }
struct unbroken {
  unbroken() {}
};
struct two_words {
  std::uint64_t first;
  std::uint64_t second;
};
inline two_words shuffle_two(unsigned, two_words value, unsigned) { return value; }
inline std::uint64_t reduce_or_64(unsigned, std::uint64_t value) { return value; }
inline unsigned converged_match(std::uint64_t) { return 1; }
}  // namespace simt

inline namespace on_relacy {

inline unsigned lane_id() { return 0; }

inline unsigned __activemask() { return 1; }
inline unsigned __ballot_sync(unsigned, int predicate) { return predicate != 0 ? 1 : 0; }
template <class T>
T __shfl_sync(unsigned, T value, int) {
  return value;
}
template <class T>
unsigned __match_any_sync(unsigned, T) {
  return 1;
}
inline unsigned __reduce_or_sync(unsigned, unsigned value) { return value; }
inline void __nanosleep(unsigned) { weak::yield(); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }

}  // namespace on_relacy
}  // namespace warpheap
