#pragma once

// The cache that a thread used last, as its fast paths find it.

#include <cstdint>

namespace warpheap {

class mcache;

/// Trivial, so that reading it costs no check for construction and works at any time in a thread's
/// life.
struct last_cache {
  std::uint64_t heap_id = 0;  ///< 0: none
  mcache* cache = nullptr;
  bool thread_ended = false;
};

/// initial-exec: one load from the thread's block, also in a shared library. It takes a few bytes
/// of the room that the C library has for libraries that are loaded late.
extern constinit thread_local last_cache last_used [[gnu::tls_model("initial-exec")]];

}  // namespace warpheap
