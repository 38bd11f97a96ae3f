#pragma once

// One thread's spans: allocation without a lock. (Go: mcache.)

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <warpheap/size_classes.hpp>

#include "host/mcentral.hpp"
#include "host/mheap.hpp"
#include "host/mspan.hpp"

namespace warpheap {

/// A figure that one thread writes and others read.
class owned_counter {
 public:
  void add(std::uint64_t n) {
    // Relaxed, load and store: there is no other writer, and nothing is published by it.
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// What a thread did. Sums over threads are figures of the heap; see host_heap_stats.
struct alloc_counters {
  std::array<owned_counter, num_classes> mallocs;
  std::array<owned_counter, num_classes> frees;
  owned_counter tiny_mallocs, tiny_frees, tiny_blocks_taken, tiny_blocks_freed;
  owned_counter large_bytes_taken, large_bytes_freed;
  owned_counter out_of_memory, refused, refills;
  std::array<owned_counter, 8> frees_by_status;

  void add(const alloc_counters& other);
};

/// Where the next object of less than 16 bytes goes. (Go: the tiny allocator.)
class tiny_rule {
 public:
  static constexpr unsigned none = ~0u;

  /// Offset for n bytes in the open block, aligned to what n may need; none if they do not fit.
  unsigned place(unsigned n) {
    const unsigned align = (n & 7) == 0 ? 8 : (n & 3) == 0 ? 4 : (n & 1) == 0 ? 2 : 1;
    const unsigned at = (offset_ + align - 1) & ~(align - 1);
    if (!open_ || at + n > tiny_size) return none;
    offset_ = at + n;
    return at;
  }
  /// An object of n bytes got a new block: whether that one has more room than the open one, and is
  /// the open one from now on.
  bool keep_new(unsigned n) {
    if (open_ && n >= offset_) return false;
    open_ = true;
    offset_ = n;
    return true;
  }
  void forget() {
    open_ = false;
    offset_ = 0;
  }
  bool has_block() const { return open_; }
  unsigned offset() const { return offset_; }

 private:
  bool open_ = false;
  unsigned offset_ = 0;
};

/// Belongs to one thread; figures may be read by all.
class mcache {
 public:
  mcache(mheap& heap, mcentral_set& central);

  /// A slot of a small-object class; nullptr when there is no room.
  void* alloc(unsigned span_class) { return take(span_class).address(); }
  /// n bytes, 1 <= n < tiny_size, without pointers; nullptr when there is no room.
  void* alloc_tiny(unsigned n);

  /// Gives all spans, the open tiny block, pages and records back.
  void flush();
  /// Forgets spans and the tiny block, whose pages the heap frees itself.
  void forget_spans();

  page_stock& stock() { return stock_; }
  alloc_counters counters;

 private:
  struct slot_ref {
    mspan* span = nullptr;
    unsigned index = 0;
    void* address() const { return span == nullptr ? nullptr : span->slot_address(index); }
  };

  slot_ref take(unsigned span_class) {
    mspan* s = spans_[span_class];
    unsigned i = s->next_free_fast();
    if (i == mspan::no_index) {
      i = next_free(span_class);
      if (i == mspan::no_index) return {};
      s = spans_[span_class];
    }
    s->take(i);
    return {s, i};
  }
  unsigned next_free(unsigned span_class);
  bool refill(unsigned span_class);
  void close_tiny();

  mheap* heap_;
  mcentral_set* central_;
  std::array<mspan*, host_span_classes> spans_;
  tiny_rule tiny_;
  slot_ref tiny_block_;  // the open block, while tiny_ has one with room
  page_stock stock_;
};

}  // namespace warpheap
