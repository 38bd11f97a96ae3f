#pragma once

// What a span's record must say, whenever its owner looks: else something has overwritten it.

#include "host/mspan.hpp"

namespace warpheap {

/// What is wrong with the record of a span with slots, in the words that Go has for it; nullptr if
/// nothing is. For the span's owner.
const char* span_error(const mspan& s);

/// Reports a broken span with all that its record says, on standard error, and aborts.
[[noreturn]] void fatal_span(const mspan& s, const char* what);

/// Aborts by fatal_span if the record is broken.
inline void check_span(const mspan& s) {
  if (const char* what = span_error(s); what != nullptr) [[unlikely]]
    fatal_span(s, what);
}

}  // namespace warpheap
