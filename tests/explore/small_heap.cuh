// A heap for explorations: the real device code and the real host side on a geometry so small that
// every edge of the protocol is met within a few steps, and the checks of what has to hold at rest.
//
// An exploration takes a few microseconds, a heap from the system a hundred times as long. So each
// thread has one set of arrays and pages, which a small_heap brings back to the state of a fresh
// heap: what a seed does must not depend on the seeds before it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
#include <warpheap/device_heap.cuh>
#include <warpheap/simt_explore.hpp>

#include "host/device_memory.hpp"
#include "host/host_heap.hpp"
#include "host/refill_service.hpp"
#include "tests/unwatched.hpp"

namespace warpheap {

/// Kinds of errors that are about a free: those before out_of_memory.
inline constexpr unsigned wrong_frees = static_cast<unsigned>(error_kind::out_of_memory);

/// Which bytes of the heap are in use. Plain memory: lanes switch at atomics only, so the checks
/// add no steps to the schedule.
class ownership {
 public:
  explicit ownership(const heap_view& view)
      : base_(view.base), bytes_(view.bytes), taken_(new unsigned char[view.bytes]()) {}

  void take(void* p, std::size_t size) {
    const std::size_t offset = offset_of(p);
    if (offset >= bytes_ || size > bytes_ - offset)
      throw std::runtime_error("a pointer outside of the heap");
    for (std::size_t i = 0; i < size; i += stride(size))
      if (std::exchange(taken_[offset + i], 1) != 0)
        throw std::runtime_error("a byte was handed out twice, at offset "
                                 + std::to_string(offset + i));
    const testing::unwatched notes;
    objects_.push_back({offset, size});
  }
  void give(void* p, std::size_t size) {
    const std::size_t offset = offset_of(p);
    for (std::size_t i = 0; i < size; i += stride(size))
      if (std::exchange(taken_[offset + i], 0) == 0)
        throw std::runtime_error("an object vanished while it was in use");
    const testing::unwatched notes;
    const auto object = std::find(objects_.begin(), objects_.end(), std::pair(offset, size));
    if (object == objects_.end()) throw std::runtime_error("an object of another size");
    *object = objects_.back();
    objects_.pop_back();
  }
  void forget_all() {
    for (const auto& [offset, size] : objects_) std::memset(taken_.get() + offset, 0, size);
    objects_.clear();
  }

 private:
  std::size_t offset_of(const void* p) const {
    return static_cast<std::size_t>(static_cast<const std::byte*>(p) - base_);
  }
  /// Large objects are whole pages: a mark here and there shows two owners as well.
  static std::size_t stride(std::size_t size) { return size > max_small_size ? 64 : 1; }

  const std::byte* base_;
  std::uint64_t bytes_;
  std::unique_ptr<unsigned char[]> taken_;
  std::vector<std::pair<std::size_t, std::size_t>> objects_;
};

/// What a small_heap is made of and leaves to the next one.
class heap_parts {
 public:
  heap_parts()
      : memory_(make_mmap_memory()),
        arrays_(*memory_, smallest(), true),
        pages(arrays_.view().base, arrays_.view().bytes, source()),
        owners(view()) {}

  const heap_view& view() const { return arrays_.view(); }

  /// As after construction.
  void reset(std::uint64_t timeout_ns) {
    refuse_commit = nullptr;
    owners.forget_all();
    pages.reset();
    for (page_index p = 0; p < view().pages; ++p) {
      page_run run{p, 0};
      while (pages.is_device_page(p)) ++run.count, ++p;
      pages.give_back_device_pages(run);
    }
    // All arenas are the device's, and the system will be asked again for the memory of each page.
    pages.give_back_device_pages(pages.take_device_pages(view().pages - 1, view().pages - 1));
    pages.trim();

    const heap_view& h = view();
    // Pages of a grant that nobody took are above `high_page`, and were never written to.
    const std::size_t used = h.state->high_page.value;
    clear(h.entry, used);
    clear(h.word, used * words_per_page);
    clear(h.rec, used);
    clear(h.tiny_mask, used * (tiny_blocks_per_page / 2));
    clear(h.tiny_last, used * (tiny_blocks_per_page / 32));
    clear(h.has_free, std::size_t{span_classes} * h.summary_stride);
    clear(h.stock, h.summary_stride);
    clear(h.hint, std::size_t{h.warp_slots} * span_classes);
    clear(h.tiny, h.warp_slots);
    clear(h.state, 1);
    clear(h.queue, 1);
    h.state->free_mailboxes.value = ~(std::uint64_t{1} << stock_mailbox);
    const_cast<heap_view*>(h.self)->refill_timeout_ns = timeout_ns;
    const_cast<heap_view*>(h.self)->stock_floor = h.stock_floor;
  }

 private:
  static heap_options smallest() {
    heap_options o;
    o.reserve_bytes = min_reserve_bytes;
    return o;
  }
  page_source source() {
    return {.context = this,
            .commit =
                [](void* self, std::byte*, std::size_t) {
                  const auto* refuse = static_cast<heap_parts*>(self)->refuse_commit;
                  return refuse == nullptr || !(*refuse)();
                },
            .decommit = [](void*, std::byte*, std::size_t) { return true; }};
  }
  template <class T>
  static void clear(T* array, std::size_t n) {
    std::memset(static_cast<void*>(array), 0, n * sizeof(T));
  }

  std::unique_ptr<memory_backend> memory_;
  device_memory arrays_;

 public:
  host_heap pages;
  ownership owners;
  /// Whether the system refuses memory for pages, asked each time.
  const std::function<bool()>* refuse_commit = nullptr;
};

/// A heap with the real host side, but no thread: the service is an actor of the exploration. One
/// at a time on each thread.
class small_heap {
 public:
  /// `behind`: pages left free in front of the device's, so that these lie in another word of the
  /// bitmaps and searches go by way of the levels above.
  explicit small_heap(std::uint32_t stock_pages, std::uint64_t timeout_ns = 20'000,
                      std::uint32_t behind = 0)
      : parts_(this_thread_parts(timeout_ns)),
        service_(*parts_.view().queue, parts_.pages, {}, std::chrono::microseconds(1)),
        view_(parts_.view()) {
    view_.refill_timeout_ns = timeout_ns;
    page_run in_front;
    if (behind != 0) in_front = parts_.pages.take_device_pages(behind, behind);
    if (stock_pages != 0)
      core::accept_pages(view_, parts_.pages.take_device_pages(stock_pages, stock_pages));
    parts_.pages.give_back_device_pages(in_front);
  }
  ~small_heap() { parts_.refuse_commit = nullptr; }
  small_heap(const small_heap&) = delete;
  small_heap& operator=(const small_heap&) = delete;

  const heap_view& view() const { return view_; }
  device_heap device() const { return device_heap(view_); }
  host_heap& host() { return parts_.pages; }
  refill_service& service() { return service_; }
  ownership* owners() { return &parts_.owners; }
  void serve() { view_.queue->service_alive = 1; }
  /// What the stock has above half more than this goes home. (Else never: the heap is too small.)
  void keep_in_stock(std::uint32_t pages) {
    view_.stock_floor = pages;
    const_cast<heap_view*>(view_.self)->stock_floor = pages;
  }

  /// From now on the system refuses memory whenever `refuse` says so, which has to outlive the
  /// heap.
  void refuse_memory_when(const std::function<bool()>& refuse) { parts_.refuse_commit = &refuse; }

  /// Retires of empty spans at every free, as under pressure.
  void press() { view_.state->pressure.value = 1; }
  /// All warps share one cache slot: hints and tiny blocks are fought for.
  device_heap device_with_one_slot() const {
    heap_view v = view_;
    v.warp_slots = 1;
    return device_heap(v);
  }

  /// Objects of spans that stay live over a check.
  std::vector<void*> kept;

  /// Throws when something that has to hold at rest does not. Nothing but `kept` may be live.
  void check_at_rest() const;

  void close_tiny_blocks() {
    for (unsigned i = 0; i < view_.warp_slots; ++i) {
      const core::tiny_word r{std::exchange(view_.tiny[i], 0)};
      if (r.block() != 0) core::close_block(view_, r);
    }
  }

 private:
  static heap_parts& this_thread_parts(std::uint64_t timeout_ns) {
    thread_local std::unique_ptr<heap_parts> parts;
    if (parts == nullptr) parts = std::make_unique<heap_parts>();
    parts->reset(timeout_ns);
    return *parts;
  }
  [[noreturn]] static void fail(const std::string& what, page_index p) {
    throw std::runtime_error(what + ", page " + std::to_string(p));
  }
  void check_page(page_index p, const std::map<core::word_index, std::uint64_t>& held) const;
  bool findable(const std::uint64_t* level, std::uint32_t i) const {
    for (unsigned l = 0; l < 3; ++l, i /= 64) {
      if ((level[i / 64] >> (i % 64) & 1) == 0) return false;
      level += level_words(view_.pages, l);
    }
    return true;
  }

  heap_parts& parts_;
  refill_service service_;
  heap_view view_;
};

inline void small_heap::check_page(page_index p,
                                   const std::map<core::word_index, std::uint64_t>& held) const {
  const heap_view& h = view_;
  const page_entry e{h.entry[p]};
  const span_record r{h.rec[p]};
  if (e.cls() == large_class) fail("a large object that nobody has", p);
  if (r.is_retiring()) fail("a span was left retiring", p);
  if (r.is_live() && (e.cls() != r.cls() || e.value() != 0)) fail("record of another class", p);
  for (unsigned w = 0; w < words_per_page; ++w) {
    const std::uint64_t word = h.word[core::index_of_word(p, w)];
    const bool used = r.is_live() && w < span_words(r.cls());
    const auto taken = held.find(core::index_of_word(p, w));
    const std::uint64_t free = full_word & ~(taken == held.end() ? 0 : taken->second);
    if (word != (used ? free : 0)) fail(used ? "a slot is lost" : "a stray free bit", p);
    if (word != 0 && ((r.nonempty() >> w & 1) == 0 || !findable(h.has_free_of(r.cls()), p)))
      fail("a free slot that no search finds", p);
  }
  for (unsigned i = 0; i < tiny_blocks_per_page / 2; ++i)
    if (h.tiny_mask[std::size_t{p} * (tiny_blocks_per_page / 2) + i] != 0)
      fail("the mask of a free tiny block is not zero", p);
  for (unsigned i = 0; i < tiny_blocks_per_page / 32; ++i)
    if (h.tiny_last[std::size_t{p} * (tiny_blocks_per_page / 32) + i] != 0)
      fail("byte 15 of a free tiny block is an object", p);
  if (r.is_live())
    for (unsigned i = 1; i < span_pages(r.cls()); ++i)
      if (page_entry{h.entry[p + i]}.bits != page_entry::make(r.cls(), i).bits)
        fail("entry of an inner page", p + i);
}

inline void small_heap::check_at_rest() const {
  const heap_view& h = view_;
  std::map<core::word_index, std::uint64_t> held;
  for (void* p : kept) {
    const auto offset = static_cast<std::size_t>(static_cast<std::byte*>(p) - h.base);
    const auto page = static_cast<page_index>(offset / page_size);
    const core::slot_place place =
        core::place_of(page, page_entry{h.entry[page]}, offset % page_size);
    held[place.at] |= place.mask();
  }
  std::uint64_t in_stock = 0;
  std::uint32_t spans[span_classes] = {};
  for (page_index p = 0; p < h.pages; ++p) {
    const page_entry e{h.entry[p]};
    const bool stocked = (h.stock[p / 64] >> (p % 64) & 1) != 0;
    in_stock += stocked;
    if (stocked != (e.cls() == stock_class)) fail("entry and stock disagree", p);
    if (stocked && !findable(h.stock, p)) fail("a stock page that no search finds", p);
    if ((e.cls() != no_class) != parts_.pages.is_device_page(p)) fail("two owners or none", p);
    if (p >= h.state->high_page.value) continue;
    check_page(p, held);
    if (const span_record r{h.rec[p]}; r.is_live()) ++spans[r.cls()];
  }
  if (in_stock != h.state->stock_pages.value)
    throw std::runtime_error("the count of stock pages is "
                             + std::to_string(h.state->stock_pages.value) + ", the stock has "
                             + std::to_string(in_stock));
  if (!std::equal(spans, spans + span_classes, h.state->spans))
    throw std::runtime_error("the counts of spans are wrong");
  if (core::any_hand(h.state->in_hand.value))
    throw std::runtime_error("something is in hand that nobody has");
  if (h.state->waiting.value != 0) throw std::runtime_error("a wait is counted that is over");
  if (h.state->large_objects.value != 0 || h.state->large_pages.value != 0)
    throw std::runtime_error("large objects are counted that nobody has");
  if (h.state->free_mailboxes.value != ~std::uint64_t{1})
    throw std::runtime_error("a mailbox is lost");
  for (unsigned kind = 0; kind < wrong_frees; ++kind)
    if (h.state->errors[kind] != 0)
      throw std::runtime_error(std::string("reported without cause: ")
                               + to_string(static_cast<error_kind>(kind)));
}

}  // namespace warpheap
