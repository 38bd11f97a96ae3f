// What is in hand: pages and slots that a warp has taken out of sight and will make visible again.
// A retirement has its span in hand, a growth the pages of the span to be, a claim of a run the
// pages that it got before it fails.
//
// No malloc may answer nullptr because of these (up to max_hand_looks). One word counts the holders
// (warps with something in hand) and how often one has let go. A holder raises the word before its
// first take and lets go when everything can be found again. A searcher reads the word before its
// looks and, if they find nothing, again after them; it trusts them if nothing was in hand and both
// readings are equal.
//
// Why that suffices: all changes of the word and the second reading are read-modify-writes, so they
// form one chain. A holder later in the chain than the second reading acquires it, so its takes
// come after all of the looks. A holder that let go before the first reading released what it had,
// so the looks saw it. All others are counted in the second reading or make it differ from the
// first. The looks themselves need no order for this.
#pragma once

#include <warpheap/atomic.hpp>
#include <warpheap/detail/warp.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// The low half of the word counts the holders, the high half how often one has let go.
inline constexpr std::uint64_t hands_one_let_go = std::uint64_t{1} << 32;

/// To be called before the first take. Acquire: looks of searchers whose second reading precedes
/// this happen before the takes.
__device__ __forceinline__ void take_in_hand(const heap_view& h) {
  atomic::fetch_add<order::acquire>(&h.state->in_hand.value, std::uint64_t{1});
}
/// All that was in hand can be found again: by every thread that sees this change (release).
__device__ __forceinline__ void let_go(const heap_view& h) {
  atomic::fetch_add<order::release>(&h.state->in_hand.value, hands_one_let_go - 1);
}
/// What was in hand is the caller's for good, or nothing was: no searcher has to look again.
__device__ __forceinline__ void keep_in_hand(const heap_view& h) {
  atomic::fetch_add<order::relaxed>(&h.state->in_hand.value, ~std::uint64_t{0});
}

/// The word before a look. Acquire: the looks see what those that have let go had in hand.
__device__ __forceinline__ std::uint64_t hands_before(const heap_view& h) {
  return atomic::load<order::acquire>(&h.state->in_hand.value);
}
__device__ __forceinline__ bool any_hand(std::uint64_t hands) {
  return hands % hands_one_let_go != 0;
}
/// True when the looks since `before` have seen everything there was. Release: takes of later
/// holders come after the looks.
__device__ __forceinline__ bool nothing_was_in_hand(const heap_view& h, std::uint64_t before) {
  return !any_hand(before)
         && atomic::fetch_add<order::release>(&h.state->in_hand.value, std::uint64_t{0}) == before;
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
