#pragma once

// What a span's record must say whenever its owner looks; otherwise something has overwritten it.

#include <cstdint>

#include <warpheap/bits.hpp>

#include "host/mspan.hpp"

namespace warpheap {

/// What is wrong with the record of a span with slots, in Go's words; nullptr if nothing is. For
/// the span's owner.
inline const char* span_error(const mspan& s) {
  const unsigned n = s.nelems();
  if (n == 0 || n > mspan::max_words * 64 || s.words() != (n + 63) / 64
      || s.past_last() != ~bits::low_mask(n - (s.words() - 1) * 64)
      || s.limit() > s.base() + s.npages() * page_size)
    return "s.nelems does not fit the span";
  if (s.current_word() >= s.words()) return "s.freeindex > s.nelems";
  // Every refill comes here: no branch for each word.
  std::uint64_t both = 0;
  for (unsigned w = 0; w < s.words(); ++w) {
    const mspan::word_sets sets = s.sets(w);
    both |= sets.ready & sets.free;
  }
  // Slots past the end are never ready, and always free.
  const mspan::word_sets last = s.sets(s.words() - 1);
  if (((last.ready | ~last.free) & s.past_last()) != 0) return "freeIndex is not valid";
  // A slot that is free in both sets would make the number of allocated slots negative.
  if (both != 0) return "s.allocCount > s.nelems";
  return nullptr;
}

/// Reports a broken span with all its record's fields on standard error, and aborts.
[[noreturn]] void fatal_span(const mspan& s, const char* what);

/// Aborts through fatal_span if the record is broken.
inline void check_span(const mspan& s) {
  if (const char* what = span_error(s); what != nullptr) [[unlikely]]
    fatal_span(s, what);
}

}  // namespace warpheap
