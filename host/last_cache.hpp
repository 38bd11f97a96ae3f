#pragma once

// The cache that a thread used last, as its fast paths find it.

#include <cstdint>

#include "host/one_instruction.hpp"
#include "host/span_sync.hpp"

namespace warpheap {

class mcache;

/// Trivial to destroy, so that reading it costs no check for construction and works at any time in
/// a thread's life.
///
/// `cache` is a cache of this thread that exists, or null: a span that has it for its owner is this
/// thread's, of whatever heap. Whoever ends caches of other threads, at a reset or with a heap,
/// takes them out of here before anyone can get their addresses (forget).
///
/// Relaxed, if the span's owner is read first (mspan::seen_status, acquire). If that owner is a new
/// cache at the address of an old one, forget came before the new one was made, and so before this
/// load, which cannot find the old one. In the other order it could.
struct last_cache {
  std::uint64_t heap_id = 0;  ///< 0: none
  span_atomic<mcache*> cache{nullptr};
  bool thread_ended = false;
  /// The cache, once the thread has one, where one heap serves the whole process without layers
  /// around it, and is never reset nor destroyed: a malloc need not ask whose the cache is.
  mcache* direct = nullptr;

  mcache* get() const { return cache.load(std::memory_order_relaxed); }
  /// Whether it is the owner that a span's status names, and is not tiny blocks' or pending.
  bool is(std::uintptr_t status) const { return is_equal(cache, status); }
  void set(mcache* c) { cache.store(c, std::memory_order_relaxed); }
  /// By any thread while this one cannot end. An exchange: this one may be on its way to another.
  void forget(mcache* c) { cache.compare_exchange_strong(c, nullptr, std::memory_order_relaxed); }
};

/// initial-exec: one load from the thread's block, also in a shared library. It takes a few bytes
/// of the room that the C library has for libraries that are loaded late.
extern constinit thread_local last_cache last_used [[gnu::tls_model("initial-exec")]];

}  // namespace warpheap
