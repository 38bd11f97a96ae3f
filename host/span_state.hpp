#pragma once

// What a span's record stands for. (Go: mSpanState.)

#include <cstdint>

namespace warpheap {

/// What a span's pages are used for.
enum class span_state : std::uint8_t {
  dead,    ///< no pages: the record is in the pool
  in_use,  ///< objects
  manual,  ///< pages managed by someone else
};

}  // namespace warpheap
