// malloc and free of objects that live in spans: 8 bytes to 32 KiB, and the blocks of tiny ones.
//
// malloc, warm: load the warp's hint and the word that it names; claim the lowest set bits with one
// fetch_and for the whole group of lanes; load the page's entry to verify that the word is still of
// this class; each lane takes the bit of its rank. free: load the entry, one fetch_or for all lanes
// with the same word.
#pragma once

#include <warpheap/detail/span_search.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// Slots that a group of lanes now holds: bits of one free word. got == 0: out of memory.
struct claim {
  word_index at;
  std::uint64_t got;
};

WARPHEAP_SLOW_ENTRY(give_back);

/// Passes one lane's claim to all lanes of the group. What the lanes do with their slots happens
/// after the claim and after what its acquire saw.
__device__ __forceinline__ claim broadcast(lane_mask group, claim c, unsigned lane) {
#ifndef __CUDACC__
  const simt::two_words both = simt::shuffle_two(group, {c.at, c.got}, lane);
  return {static_cast<word_index>(both.first), both.second};
#else
  c = {__shfl_sync(group, c.at, static_cast<int>(lane)),
       static_cast<std::uint64_t>(
           __shfl_sync(group, static_cast<unsigned long long>(c.got), static_cast<int>(lane)))};
  order_lanes(group);
  return c;
#endif
}

/// Address of the slot that a bit of a word stands for.
__device__ __forceinline__ std::byte* address_of(const heap_view& h, unsigned cls, word_index at,
                                                 unsigned bit) {
  return slot_address(h, page_of(at), cls, at % words_per_page * 64 + bit);
}

/// The calling warp's hint for a class: index of a word that had free slots.
__device__ __forceinline__ word_index* hint_of(const heap_view& h, unsigned cls) {
  return h.hint + std::size_t{cache_slot(h)} * span_classes + cls;
}

/// Claims up to n slots of a word that was seen to hold `seen`; 0 when others were faster, or the
/// word now belongs to another class (`at` is only a hint; the slots are given back then).
__device__ __forceinline__ std::uint64_t claim_bits(const heap_view& h, unsigned cls, word_index at,
                                                    std::uint64_t seen, unsigned n) {
  const std::uint64_t take = lowest_bits(seen, n);
  // Acquire: what the last holder wrote into the slot, and the entries of this incarnation.
  const std::uint64_t got = atomic::fetch_and<order::acquire>(h.word + at, ~take) & take;
  if (got == 0) return 0;
  // After the claim, not before: a held bit pins the span, so the entry cannot change any more.
  const page_entry e{atomic::load<order::relaxed>(h.entry + page_of(at))};
  if (e.cls() == cls) return got;
  give_back_entry(*h.self, at, got, e.cls());
  return 0;
}

/// The same for slow paths.
WARPHEAP_OUTLINED std::uint64_t claim_bits_outlined(const heap_view& h, unsigned cls, word_index at,
                                                    std::uint64_t seen, unsigned n) {
  return claim_bits(h, cls, at, seen, n);
}

/// Another word with free slots in the span of the hint; 0 when it has none, or is gone.
WARPHEAP_OUTLINED word_index find_beside_hint(const heap_view& h, unsigned cls) {
  const word_index at = atomic::load<order::relaxed>(hint_of(h, cls));
  const page_index p = page_of(at);
  const span_record r = load_record(h, p);  // page 0: never a live span
  if (!r.is_live() || r.is_retiring() || r.cls() != cls) return 0;
  return find_in_span(h, p, r, at + 1);  // the words before it are more likely to be empty
}

/// The path when the hint fails; `h` is the copy in device memory. Tries another word of the hint's
/// span first, by four loads; only then is read what it takes to conclude that there is none
/// anywhere.
WARPHEAP_SLOW_PATH claim claim_slow(const heap_view& h, unsigned cls, unsigned n) {
  [[maybe_unused]] const unbroken step;
  WARPHEAP_ROLLED
  for (unsigned round = 0; round < max_search_rounds; ++round) {
    word_index at = round == 0 ? find_beside_hint(h, cls) : 0;
    if (at == 0) at = search_word(h, cls);
    if (at == 0) break;
    atomic::store<order::relaxed>(hint_of(h, cls), at);
    const std::uint64_t seen = atomic::load<order::relaxed>(h.word + at);
    if (seen == 0) continue;
    if (const std::uint64_t got = claim_bits_outlined(h, cls, at, seen, n)) return {at, got};
  }
  return {0, 0};
}
WARPHEAP_SLOW_ENTRY(claim_slow);

/// The word that the warp's hint names, and its value; {0, 0} when there is no hint.
struct hinted_word {
  word_index at;
  std::uint64_t seen;
};
__device__ __forceinline__ hinted_word follow_hint(const heap_view& h, unsigned cls) {
  const word_index at = atomic::load<order::relaxed>(hint_of(h, cls));
  return {at, at != 0 ? atomic::load<order::relaxed>(h.word + at) : 0};
}

/// Slots for n lanes, or as many as one word has. Called by one lane for its group.
__device__ __forceinline__ claim claim_slots(const heap_view& h, unsigned cls, unsigned n) {
  const hinted_word w = follow_hint(h, cls);
  if (w.seen != 0)
    if (const std::uint64_t got = claim_bits(h, cls, w.at, w.seen, n)) return {w.at, got};
  return claim_slow_entry(*h.self, cls, n);
}

/// The same for slow paths.
WARPHEAP_OUTLINED claim claim_slots_outlined(const heap_view& h, unsigned cls, unsigned n) {
  const hinted_word w = follow_hint(h, cls);
  if (w.seen != 0)
    if (const std::uint64_t got = claim_bits_outlined(h, cls, w.at, w.seen, n)) return {w.at, got};
  return claim_slow(h, cls, n);
}

/// claim_slots for all lanes of a group at once; each gets the claim.
WARPHEAP_OUTLINED claim claim_together(const heap_view& h, lane_mask group, unsigned cls,
                                       unsigned n) {
  claim c{0, 0};
  if (lane_id() == leader_of(group)) c = claim_slots_outlined(h, cls, n);
  return broadcast(group, c, leader_of(group));
}

/// Address of the slot with the given rank in a claim.
__device__ __forceinline__ std::byte* address_of_rank(const heap_view& h, unsigned cls,
                                                      const claim& c, unsigned rank) {
  return address_of(h, cls, c.at, bit_of_rank(c.got, rank));
}
WARPHEAP_OUTLINED std::byte* address_of_rank_outlined(const heap_view& h, unsigned cls,
                                                      const claim& c, unsigned rank) {
  return address_of_rank(h, cls, c, rank);
}

/// One object of the class for each lane of the group; nullptr for lanes that got no memory.
/// All lanes of the group call it together, with the same class.
__device__ __forceinline__ void* malloc_small(const heap_view& h, lane_mask group, unsigned cls) {
  for (lane_mask waiting = group;;) {
    const unsigned leader = leader_of(waiting);
    claim c{0, 0};
    if (lane_id() == leader) c = claim_slots(h, cls, static_cast<unsigned>(__popc(waiting)));
    c = broadcast(waiting, c, leader);
    if (c.got == 0) return nullptr;
    const auto served = static_cast<unsigned>(bits::popcount(c.got));
    const unsigned rank = rank_in(waiting);
    if (rank < served) return address_of_rank(h, cls, c, rank);
    waiting = drop_lanes(waiting, served);
  }
}

/// The same for slow paths.
WARPHEAP_OUTLINED void* malloc_small_outlined(const heap_view& h, lane_mask group, unsigned cls) {
  for (lane_mask waiting = group;;) {
    const claim c = claim_together(h, waiting, cls, static_cast<unsigned>(__popc(waiting)));
    if (c.got == 0) return nullptr;
    const auto served = static_cast<unsigned>(bits::popcount(c.got));
    const unsigned rank = rank_in(waiting);
    if (rank < served) return address_of_rank_outlined(h, cls, c, rank);
    waiting = drop_lanes(waiting, served);
  }
}

/// Word and bit of a small object's slot.
struct slot_place {
  word_index at;      ///< 0 when the address is not the start of a slot
  std::uint32_t bit;  ///< its number: one register to keep, where a mask would take two

  __device__ std::uint64_t mask() const { return std::uint64_t{1} << bit; }
};

__device__ __forceinline__ slot_place place_of(page_index page, page_entry e,
                                               std::uint32_t offset_in_page) {
  const page_index first = page - e.value();
  const std::uint32_t offset = (e.value() << page_shift) + offset_in_page;
  const unsigned cls = e.cls();
  const std::uint32_t slot = slot_index(offset, class_to_magic(cls));
  if (slot * static_cast<std::uint32_t>(class_to_size(cls)) != offset) return {0, 0};
  return {index_of_word(first, slot / 64), slot % 64};
}

/// The rare cases of a free: a second free, or a word that became non-zero or full.
WARPHEAP_SLOW_PATH void after_free(const heap_view& h, word_index at, std::uint64_t old,
                                   std::uint64_t bits) {
  [[maybe_unused]] const unbroken step;
  const bool full = (old | bits) == full_word;
  if ((old & bits) != 0)
    report_twice(h, error_kind::double_free, at,
                 page_entry{atomic::load<order::relaxed>(h.entry + page_of(at))}.cls(), old & bits);
  if (old == 0) mark_nonempty(h, at);
  if (!full) return;
  if (atomic::load<order::relaxed>(&h.state->pressure.value) != 0)
    retire_span(h, page_of(at));
  else
    retire_surplus(h, page_of(at));
}
WARPHEAP_SLOW_ENTRY(after_free);

/// Gives slots of one word back, for a group or one lane. Returns the word's previous value.
__device__ __forceinline__ std::uint64_t free_bits(const heap_view& h, word_index at,
                                                   std::uint64_t bits) {
  // Release: the owners' writes to their objects happen before the next claim.
  const std::uint64_t old = atomic::fetch_or<order::release>(h.word + at, bits);
  if (old == 0 || (old | bits) == full_word || (old & bits) != 0)
    after_free_entry(*h.self, at, old, bits);
  return old;
}

/// Reports a second free by another lane of the same call.
WARPHEAP_SLOW_PATH void report_same_call(const heap_view& h, slot_place place) {
  const page_entry e{atomic::load<order::relaxed>(h.entry + page_of(place.at))};
  report_twice(h, error_kind::double_free, place.at, e.cls(), place.mask());
}
WARPHEAP_SLOW_ENTRY(report_same_call);

/// Frees one slot for each lane; all lanes of `group` have the same word and call together. With
/// `Tell`, one shuffle tells each lane whether its slot was in use; without, all answer true.
template <bool Tell = false>
__device__ __forceinline__ bool free_small(const heap_view& h, lane_mask group, slot_place place) {
  const std::uint64_t bits = reduce_or(group, place.mask());
  [[maybe_unused]] bool first = true;
  if (static_cast<unsigned>(bits::popcount(bits)) != static_cast<unsigned>(__popc(group))) {
    // Two lanes free one object in this very call. All but the first of them report it.
    const lane_mask same = __match_any_sync(group, place.bit);
    first = lane_id() == leader_of(same);
    if (!first) report_same_call_entry(*h.self, place);
  }
  unsigned long long old = 0;
  order_lanes(group);  // so that the leader's release covers the writes of all lanes
  if (lane_id() == leader_of(group)) old = free_bits(h, place.at, bits);
  if constexpr (Tell) {
    old = __shfl_sync(group, old, static_cast<int>(leader_of(group)));
    return first && (old & place.mask()) == 0;
  }
  return true;
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
