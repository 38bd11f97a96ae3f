// Stands in for host/mheap.hpp in the weak-memory check of spans: a few records of spans, each with
// pages of its own, under a lock.
#pragma once

#include <cstddef>
#include <mutex>

#include "host/mspan.hpp"
#include "host/span_list.hpp"

namespace warpheap {

struct page_stock {};

class mheap {
 public:
  static constexpr unsigned most_spans = 4;
  /// Blocks of a tiny span that may be used: masks of others keep their old values.
  static constexpr unsigned tiny_blocks = 2;

  /// Every span has these pages, whatever its class.
  explicit mheap(std::size_t span_pages) : span_pages_(span_pages) {}

  mspan* alloc_span(std::size_t n, unsigned span_class, span_status status, page_stock&) {
    if (n < span_pages_) return nullptr;  // there is no other run, whatever its length
    if (n != span_pages_) weak::fail("a span of another size");
    mspan* s = nullptr;
    {
      const std::scoped_lock lock(mutex_);
      for (unsigned i = 0; i < most_spans && s == nullptr; ++i)
        if (spans_[i].state() == span_state::dead && !std::exchange(taken_[i], true))
          s = &spans_[i];
    }
    if (s == nullptr) return nullptr;
    s->init(base() + static_cast<std::size_t>(s - spans_) * n * page_size, n, span_class);
    s->set_state(span_state::in_use);
    s->reset_phase(sweepgen());
    tiny_mask_block* masks = nullptr;
    if (span_class == tiny_span_class) {
      masks = &masks_[index_of(s)];
      for (unsigned i = 0; i < tiny_blocks; ++i) {
        masks->mask[i].store(0, std::memory_order_relaxed);
        masks->freed[i].store(0, std::memory_order_relaxed);
      }
    }
    s->tiny_masks.store(masks, std::memory_order_relaxed);
    s->set_status(status);
    return s;
  }
  void free_span(mspan* s) {
    s->free_all();
    s->set_place(span_place::none);
    s->set_state(span_state::dead);
    const std::scoped_lock lock(mutex_);
    s->tiny_masks.store(nullptr, std::memory_order_relaxed);
    if (!std::exchange(taken_[s - spans_], false)) weak::fail("a span was freed twice");
  }
  void flush(page_stock&) {}

  mspan* span_of(const void* p) {
    return &spans_[static_cast<std::size_t>(static_cast<const std::byte*>(p) - base())
                   / (span_pages_ * page_size)];
  }
  unsigned spans() const {
    return static_cast<unsigned>(std::count(taken_, taken_ + most_spans, true));
  }
  mspan& span(unsigned i) { return spans_[i]; }
  std::size_t index_of(const mspan* s) const { return static_cast<std::size_t>(s - spans_); }
  // Never touched: spans compute addresses and no more.
  static std::byte* base() { return reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40); }

  // One cycle, in which nothing is unswept.
  std::uint32_t sweepgen() const { return 4; }
  void next_sweep_cycle() { weak::fail("a bulk free is not modelled"); }
  std::size_t unswept_spans() const { return 0; }
  std::size_t unswept_pages() const { return 0; }
  void note_swept(const mspan&) { weak::fail("a span was swept"); }
  void free_swept_span(mspan*) { weak::fail("a span was swept"); }
  // Never so many that caches look for spans without objects.
  std::size_t span_pages() const { return 0; }
  bool has_plenty() const { return false; }
  std::size_t room_pages() const { return reserve_pages(); }
  std::size_t reserve_pages() const { return std::size_t{1} << 20; }

 private:
  std::size_t span_pages_;
  span_mutex mutex_;
  bool taken_[most_spans] = {};
  mspan spans_[most_spans];
  tiny_mask_block masks_[most_spans];
};

}  // namespace warpheap
