#include "host/span_check.hpp"

#include <cinttypes>
#include <cstdio>

namespace warpheap {

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
                 w, sets.ready, sets.free, s.remote_set(w));
  }
  fatal(what);
}

}  // namespace warpheap
