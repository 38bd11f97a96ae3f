// What is in somebody's hand: pages and slots that a warp has taken out of everybody's sight and
// will show again, as a retirement does with a span, a growth with the pages of one to be, a claim
// of a run with the pages that it met before it fails.
//
// No malloc may answer nullptr because of these. One word tells of them: how many warps have
// something in hand, and how often one has let go. Who takes raises the word before his first take
// and lets go when all can be found again. Who looks in vain reads it before his looks and again
// after them; he believes them when nothing is in hand and both readings are the same.
//
// Why that is enough: all changes of the word and the second reading are read-modify-writes and
// form a chain. A holder behind the second reading acquires it, so his takes come after all of the
// looks. One who let go before the first reading released what he had, so the looks saw it. All
// others are counted in the second reading or make it differ from the first. The looks themselves
// need no order for this.
#pragma once

#include <warpheap/atomic.hpp>
#include <warpheap/detail/warp.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// The low half of the word counts those who have something in hand, the high half those who let
/// go.
inline constexpr std::uint64_t hands_one_let_go = std::uint64_t{1} << 32;

/// To be called before the first take. Acquire: whoever looked in vain before it did so before the
/// takes.
__device__ __forceinline__ void take_in_hand(const heap_view& h) {
  atomic::fetch_add<order::acquire>(&h.state->in_hand.value, std::uint64_t{1});
}
/// All that was in hand can be found again. Release: by whoever sees that it was let go.
__device__ __forceinline__ void let_go(const heap_view& h) {
  atomic::fetch_add<order::release>(&h.state->in_hand.value, hands_one_let_go - 1);
}
/// What was in hand is the caller's for good, or nothing was: nobody has to look again.
__device__ __forceinline__ void keep_in_hand(const heap_view& h) {
  atomic::fetch_add<order::relaxed>(&h.state->in_hand.value, ~std::uint64_t{0});
}

/// The word before a look. Acquire: the looks see what those who let go had in hand.
__device__ __forceinline__ std::uint64_t hands_before(const heap_view& h) {
  return atomic::load<order::acquire>(&h.state->in_hand.value);
}
__device__ __forceinline__ bool any_hand(std::uint64_t hands) {
  return hands % hands_one_let_go != 0;
}
/// True when the looks since `before` have seen everything there was. Release: holders to come take
/// after the looks.
__device__ __forceinline__ bool nothing_was_in_hand(const heap_view& h, std::uint64_t before) {
  return !any_hand(before)
         && atomic::fetch_add<order::release>(&h.state->in_hand.value, std::uint64_t{0}) == before;
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
