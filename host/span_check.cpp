#include "host/span_check.hpp"

#include <cinttypes>
#include <cstdio>

#include <warpheap/bits.hpp>

namespace warpheap {

const char* span_error(const mspan& s) {
  const unsigned n = s.nelems();
  if (n == 0 || n > mspan::max_words * 64 || n * s.elemsize() > s.npages() * page_size)
    return "s.nelems does not fit the span";
  if (s.current_word() >= s.words()) return "s.freeindex > s.nelems";
  for (unsigned w = 0; w < s.words(); ++w) {
    const mspan::word_sets sets = s.sets(w);
    const std::uint64_t past_end = ~bits::low_mask(n - w * 64);
    // Slots past the end are never ready, and always free.
    if ((sets.ready & past_end) != 0 || (sets.free & past_end) != past_end)
      return "freeIndex is not valid";
    // A slot that is free twice makes fewer than none allocated.
    if ((sets.ready & sets.free) != 0) return "s.allocCount > s.nelems";
  }
  return nullptr;
}

void fatal_span(const mspan& s, const char* what) {
  std::fprintf(stderr,
               "warpheap: span %p: base %p, pages %zu, span class %u, slots %u of %zu bytes\n"
               "warpheap:   state %u, status %#" PRIxPTR ", sweepgen %" PRIu32
               ", current word %u\n",
               static_cast<const void*>(&s), static_cast<const void*>(s.base()), s.npages(),
               s.span_class(), s.nelems(), s.elemsize(), static_cast<unsigned>(s.state()),
               s.status().bits(), s.sweepgen(), s.current_word());
  for (unsigned w = 0; w < s.words() && w < mspan::max_words; ++w) {
    const mspan::word_sets sets = s.sets(w);
    std::fprintf(stderr,
                 "warpheap:   word %u: ready %016" PRIx64 " free %016" PRIx64 " remote %016" PRIx64
                 "\n",
                 w, sets.ready, sets.free, sets.remote);
  }
  fatal(what);
}

}  // namespace warpheap
