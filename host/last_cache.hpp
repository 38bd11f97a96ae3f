#pragma once

// The cache that a thread used last, as its fast paths find it.

#include <cstdint>

#include "host/one_instruction.hpp"
#include "host/span_sync.hpp"

namespace warpheap {

class mcache;

/// Trivially destructible, so that reading it needs no check for construction and works at any time
/// in a thread's life.
///
/// `cache` is an existing cache of this thread, or null: a span that has it as its owner is this
/// thread's, in whatever heap. A thread that ends other threads' caches, at a reset or with a heap,
/// removes them here before their addresses can be reused (forget).
///
/// Relaxed, if the span's owner is read first (mspan::seen_status, acquire). If that owner is a new
/// cache at the address of an old one, forget came before the new one was made, and so before this
/// load, which cannot find the old one. With the loads in the other order it could.
struct last_cache {
  std::uint64_t heap_id = 0;  ///< 0: none
  span_atomic<mcache*> cache{nullptr};
  bool thread_ended = false;
  /// The thread's cache, once it has one, where one heap serves the whole process without layers
  /// around it and is never reset or destroyed: a malloc need not check which heap's cache it is.
  mcache* direct = nullptr;

  mcache* get() const { return cache.load(std::memory_order_relaxed); }
  /// Whether it is the owner named by a span's status that has neither mark, tiny nor pending.
  bool is(std::uintptr_t status) const { return is_equal(cache, status); }
  void set(mcache* c) { cache.store(c, std::memory_order_relaxed); }
  /// By any thread while this one cannot end. An exchange: this one may be switching to another
  /// cache.
  void forget(mcache* c) { cache.compare_exchange_strong(c, nullptr, std::memory_order_relaxed); }
};

/// initial-exec: one load from the thread's block, also in a shared library. It takes a few bytes
/// of the room that the C library reserves for libraries that are loaded late.
extern constinit thread_local last_cache last_used [[gnu::tls_model("initial-exec")]];

}  // namespace warpheap
