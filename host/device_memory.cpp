#include "host/device_memory.hpp"

#include <algorithm>
#include <limits>

namespace warpheap {

namespace {

/// Lays out arrays one behind the other, each on a boundary of 128 bytes, an L2 cache line. Throws
/// heap_error when their size overflows.
class layout {
 public:
  template <class T>
  std::size_t add(std::size_t n) {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    if (end_ > most - 127) throw too_large();
    const std::size_t at = bits::align_up(end_, 128);
    if (n > (most - at) / sizeof(T)) throw too_large();
    end_ = at + n * sizeof(T);
    return at;
  }
  std::size_t bytes() const { return end_; }

 private:
  static heap_error too_large() {
    return heap_error("the metadata of the heap that was asked for is larger than any memory");
  }

  std::size_t end_ = 0;
};

}  // namespace

// As this constructor delegates to another, the destructor runs if it throws.
device_memory::device_memory(memory_backend& memory, const heap_options& options, bool kernels)
    : device_memory(memory) {
  const std::size_t bytes = options.reserve_bytes / chunk_bytes * chunk_bytes;
  const std::size_t most = memory.max_reserve();
  if (bytes > most)
    throw no_room("a heap of " + format_bytes(bytes) + " was asked for, but " + memory.device_name()
                  + " has room for " + format_bytes(most)
                  + "; set heap_options::reserve_bytes or WARPHEAP=reserve=SIZE");
  view_.base = memory.reserve(bytes);
  if (view_.base == nullptr)
    throw no_room("cannot reserve arena virtual address space: the system refused "
                  + format_bytes(bytes)
                  + "; set heap_options::reserve_bytes or WARPHEAP=reserve=SIZE");
  if (reinterpret_cast<std::uintptr_t>(view_.base) % chunk_bytes != 0)
    throw heap_error("misrounded allocation in mallocinit: the reservation is not aligned to "
                     + format_bytes(chunk_bytes));
  view_.bytes = bytes;
  view_.pages = static_cast<std::uint32_t>(bytes / page_size);
  view_.summary_stride = static_cast<std::uint32_t>(bits::align_up(summary_words(view_.pages), 16));
  if (!kernels) return;

  view_.warp_slots = memory.warp_slots();
  view_.refill_timeout_ns = options.refill_timeout_ns != 0 ? options.refill_timeout_ns
                                                           : memory.default_refill_timeout_ns();
  view_.stock_floor =
      static_cast<std::uint32_t>(std::max<std::size_t>(stock_pages(options), chunk_pages));
  const std::size_t pages = view_.pages;
  layout l;
  const std::size_t self = l.add<heap_view>(1);
  const std::size_t state = l.add<device_state>(1);
  const std::size_t entry = l.add<std::uint32_t>(pages);
  const std::size_t word = l.add<std::uint64_t>(pages * words_per_page);
  const std::size_t rec = l.add<std::uint64_t>(pages);
  const std::size_t mask = l.add<std::uint32_t>(pages * (tiny_blocks_per_page / 2));
  const std::size_t last = l.add<std::uint32_t>(pages * (tiny_blocks_per_page / 32));
  const std::size_t has_free =
      l.add<std::uint64_t>(std::size_t{span_classes} * view_.summary_stride);
  const std::size_t stock = l.add<std::uint64_t>(view_.summary_stride);
  const std::size_t hint = l.add<std::uint32_t>(std::size_t{view_.warp_slots} * span_classes);
  const std::size_t tiny = l.add<std::uint64_t>(view_.warp_slots);

  const std::size_t events = l.add<device_event>(options.device_events);

  array_bytes_ = l.bytes();
  arrays_ = static_cast<std::byte*>(memory.allocate_device(array_bytes_));
  view_.queue = static_cast<refill_queue*>(memory.allocate_pinned(sizeof(refill_queue)));
  if (arrays_ == nullptr || view_.queue == nullptr)
    throw no_room("no memory for " + format_bytes(array_bytes_) + " of metadata of a heap of "
                  + format_bytes(bytes));
  view_.self = reinterpret_cast<const heap_view*>(arrays_ + self);
  view_.state = reinterpret_cast<device_state*>(arrays_ + state);
  view_.entry = reinterpret_cast<std::uint32_t*>(arrays_ + entry);
  view_.word = reinterpret_cast<std::uint64_t*>(arrays_ + word);
  view_.rec = reinterpret_cast<std::uint64_t*>(arrays_ + rec);
  view_.tiny_mask = reinterpret_cast<std::uint32_t*>(arrays_ + mask);
  view_.tiny_last = reinterpret_cast<std::uint32_t*>(arrays_ + last);
  view_.has_free = reinterpret_cast<std::uint64_t*>(arrays_ + has_free);
  view_.stock = reinterpret_cast<std::uint64_t*>(arrays_ + stock);
  view_.hint = reinterpret_cast<std::uint32_t*>(arrays_ + hint);
  view_.tiny = reinterpret_cast<std::uint64_t*>(arrays_ + tiny);

  memory.copy_to_device(arrays_ + self, &view_, sizeof view_);
  // All words are zero except this one: mailbox 0 is the stock's, the others are free.
  const std::uint64_t free_boxes = ~(std::uint64_t{1} << stock_mailbox);
  memory.copy_to_device(&view_.state->free_mailboxes.value, &free_boxes, sizeof free_boxes);
  if (options.device_events == 0) return;
  device_observation& o = view_.state->observed;
  const auto* const ring = reinterpret_cast<device_event*>(arrays_ + events);
  const std::uint64_t slots = options.device_events;
  memory.copy_to_device(&o.events, &ring, sizeof ring);
  memory.copy_to_device(&o.event_slots, &slots, sizeof slots);
}

std::size_t device_memory::stock_pages(const heap_options& options) const {
  return std::min<std::size_t>(options.initial_stock_bytes, view_.bytes / 4) / page_size;
}

std::uint32_t* device_memory::marks() {
  if (marks_ == nullptr) marks_ = memory_.allocate_device(view_.bytes / 8);
  if (marks_ == nullptr)
    throw no_room("no memory for marks of objects of kernels: " + format_bytes(view_.bytes / 8));
  return static_cast<std::uint32_t*>(marks_);
}

device_memory::~device_memory() {
  if (marks_ != nullptr) memory_.free_device(marks_, view_.bytes / 8);
  if (view_.queue != nullptr) memory_.free_pinned(view_.queue, sizeof(refill_queue));
  if (arrays_ != nullptr) memory_.free_device(arrays_, array_bytes_);
  if (view_.base != nullptr) memory_.release(view_.base, view_.bytes);
}

}  // namespace warpheap
