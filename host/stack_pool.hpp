#pragma once

// Scratch stacks: memory for coroutines, signal handlers and other work that comes and goes. (Go:
// stackpool, stackLarge and mcache.stackcache.)
//
// Sizes are powers of two. Those below 32 KiB, four orders, are cut from spans of 32 KiB; larger
// ones have a span each. A thread keeps up to 32 KiB of each order for itself, and exchanges half
// of that with the pool at a time, so that a thread that takes and gives back a stack in turn does
// not come here.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include <warpheap/bits.hpp>

#include "host/mheap.hpp"
#include "host/span_list.hpp"

namespace warpheap {

/// Bytes of a stack pool. A stack is in use, in a thread's cache, or free in the pool.
struct stack_pool_stats {
  std::size_t inuse_bytes = 0;  ///< stacks handed out to users
  std::size_t idle_bytes = 0;   ///< the rest: free, or in the caches of threads
  std::size_t sys_bytes = 0;    ///< pages of the heap that hold stacks: the sum of the two
};

/// The stacks of a heap that no thread has cached. Thread-safe; its locks are taken before mheap's.
class stack_pool {
 public:
  static constexpr std::size_t smallest = 2048;
  static constexpr unsigned orders = 4;
  /// Size of a thread's cache for one order, and of the spans that small stacks are cut from.
  static constexpr std::size_t cache_bytes = std::size_t{32} << 10;
  static_assert(cache_bytes % page_size == 0, "cache size must be a multiple of page size");
  static_assert(smallest << orders == cache_bytes);
  static constexpr unsigned span_stacks = cache_bytes / smallest;  ///< at most, in one span
  /// Bytes of large stacks that are kept for reuse, at most.
  static constexpr std::size_t max_kept_bytes = std::size_t{1} << 20;

  explicit stack_pool(mheap& heap) : heap_(&heap) {}
  stack_pool(const stack_pool&) = delete;
  stack_pool& operator=(const stack_pool&) = delete;

  /// The size of the stack for a request of `bytes`: a power of two; 0 if there is none.
  static constexpr std::size_t rounded(std::size_t bytes) {
    if (bytes <= smallest) return smallest;
    if (bytes > ~std::size_t{0} / 2) return 0;
    return std::size_t{1} << (64 - bits::countl_zero(static_cast<std::uint64_t>(bytes - 1)));
  }
  static constexpr bool is_small(std::size_t size) { return size < cache_bytes; }
  /// For a small size.
  static constexpr unsigned order_of(std::size_t size) {
    return static_cast<unsigned>(bits::countr_zero(static_cast<std::uint64_t>(size / smallest)));
  }
  static constexpr std::size_t size_of(unsigned order) { return smallest << order; }

  /// Takes up to n small stacks. Returns their number, less than n when there is no room.
  unsigned take(unsigned order, void** stacks, unsigned n);
  void give(unsigned order, void* const* stacks, unsigned n);
  /// A stack of `size` bytes, a power of two from cache_bytes on; nullptr when there is no room.
  void* take_large(std::size_t size);
  void give_large(void* p, std::size_t size);
  /// Gives the kept large stacks back to the heap. Returns their bytes.
  std::size_t release();

  /// A stack that was taken goes to a user, and counts as in use from now on.
  void begin_use(void* p, std::size_t size);
  /// The user gives it back; aborts unless a stack of this size is in use there.
  void end_use(void* p, std::size_t size);

  stack_pool_stats stats() const;
  std::size_t inuse_bytes() const { return inuse_.load(std::memory_order_relaxed); }

  /// For a fork, and for figures: no other thread is in here between the two. No stack's pages come
  /// or go meanwhile, except those of stacks still being made.
  void lock() const;
  void unlock() const;

 private:
  // A cache line each: threads that use different orders do not meet.
  struct alignas(64) pool {
    mutable std::mutex mutex;
    span_list partial;  // spans with free stacks
  };

  mheap* heap_;
  std::array<pool, orders> pools_;
  struct {
    mutable std::mutex mutex;
    std::array<span_list, 48> free;  // by log2 of their pages
    std::size_t bytes = 0;
  } large_;
  std::atomic<std::size_t> inuse_{0};
  std::atomic<std::size_t> sys_{0};  // changes under one of the locks
};

/// The small stacks that one thread keeps.
class stack_cache {
 public:
  /// A stack of an order; nullptr when there is no room.
  void* take(stack_pool& pool, unsigned order) {
    kept& k = kept_[order];
    if (k.count == 0) {
      k.count = pool.take(order, k.stacks.data(), half(order));
      if (k.count == 0) return nullptr;
    }
    return k.stacks[--k.count];
  }
  void give(stack_pool& pool, unsigned order, void* p) {
    kept& k = kept_[order];
    if (k.count == 2 * half(order)) {
      k.count -= half(order);
      pool.give(order, &k.stacks[k.count], half(order));
    }
    k.stacks[k.count++] = p;
  }
  /// Gives all of them back.
  void flush(stack_pool& pool) {
    for (unsigned order = 0; order < stack_pool::orders; ++order) {
      pool.give(order, kept_[order].stacks.data(), kept_[order].count);
      kept_[order].count = 0;
    }
  }
  /// The bytes that are kept of an order.
  std::size_t bytes(unsigned order) const {
    return kept_[order].count * stack_pool::size_of(order);
  }

 private:
  /// Stacks in half a cache.
  static constexpr unsigned half(unsigned order) {
    return static_cast<unsigned>(stack_pool::cache_bytes / 2 / stack_pool::size_of(order));
  }
  struct kept {
    unsigned count = 0;
    std::array<void*, stack_pool::span_stacks> stacks;
  };
  std::array<kept, stack_pool::orders> kept_;
};

}  // namespace warpheap
