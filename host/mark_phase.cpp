#include "host/mark_phase.hpp"

namespace warpheap {

void mark_phase::end(bool drop) {
  on_.store(false, std::memory_order_relaxed);
  begun_.store(false, std::memory_order_relaxed);
  lost_.store(false, std::memory_order_relaxed);
  if (drop) all_.drop();
}

/// Called by the span's owner, or by the thread that reads its words, to note births in it.
span_marks* mark_phase::births_of(mspan& s) {
  return of(s, s.first(), s.span_class(), [] { return true; });
}

void mark_phase::note_births(mspan& s) {
  span_marks* const births = births_of(s);
  if (births == nullptr) return;
  for (unsigned w = 0; w < s.words(); ++w) {
    const std::uint64_t ready = s.sets(w).ready;
    if (ready == 0) continue;
    if (!s.is_tiny()) {
      births->set_born(w, ready);
      continue;
    }
    for (std::uint64_t rest = ready; rest != 0; rest &= rest - 1)
      births->set_born_bytes(w * 64 + bits::lowest_bit(rest), 0xffff);
  }
}

void mark_phase::note_tiny_births(mspan& s) {
  const auto* const masks = s.tiny_masks.load(std::memory_order_acquire);
  span_marks* const births = masks == nullptr ? nullptr : births_of(s);
  if (births == nullptr) return;
  for (unsigned i = 0; i < tiny_mask_block::blocks; ++i) {
    const std::uint32_t frontier =
        tiny_mask::frontier_of(masks->mask[i].load(std::memory_order_relaxed));
    // All bytes from the frontier on.
    if (frontier != 0) births->set_born_bytes(i, ~(frontier - 1) & 0xffff);
  }
}

void mark_phase::note_large_birth(mspan& s) {
  if (span_marks* const births = births_of(s); births != nullptr) births->set_born(0, 1);
}

}  // namespace warpheap
