// A heap for the weak-memory check: the arrays of a heap_view in the block that weak::memory
// models, no host side, no user memory. Who owns which bytes, and whether their uses are ordered,
// is kept beside it.
#pragma once

#include <warpheap/device_heap.cuh>

#include "relacy/weak_memory.hpp"

namespace warpheap::weak {

/// Users' bytes, of which a few stand for all: each has one owner, and relacy says whether all uses
/// of it are ordered.
class user_bytes {
 public:
  /// `stride`: the distance of the bytes that stand for an object; divides all sizes in use.
  explicit user_bytes(std::uint32_t stride) : stride_(stride) {}

  void begin_execution() {
    for (; used_ > 0; --used_) places_[used_ - 1].data = {};
    for (unsigned i = 0; i < kept_; ++i) places_[used_++] = {kept_places_[i], true, {}};
  }
  void keep_what_is_taken() {
    kept_ = 0;
    for (unsigned i = 0; i < used_; ++i)
      if (places_[i].taken) kept_places_[kept_++] = places_[i].offset;
  }

  void take(std::uint64_t offset, std::uint64_t size) {
    for_each(offset, size, [](place& b) {
      if (std::exchange(b.taken, true)) fail("a byte was handed out twice");
      write(b);
    });
  }
  void use(std::uint64_t offset, std::uint64_t size) {
    for_each(offset, size, [](place& b) {
      if (!b.taken) fail("an object vanished while it was in use");
      write(b);
    });
  }
  void give(std::uint64_t offset, std::uint64_t size) {
    use(offset, size);
    for_each(offset, size, [](place& b) { b.taken = false; });
  }

 private:
  struct place {
    std::uint64_t offset = 0;
    bool taken = false;
    rl::var_data_impl<max_threads> data{};
  };
  static constexpr unsigned most_places = 512;

  static void write(place& b) {
    if (the_memory.running() && !b.data.store(*rl::ctx().threadx_))
      rl::ctx().fail_test("two uses of a user's byte are not ordered", rl::test_result_data_race,
                          {});
  }
  template <class F>
  void for_each(std::uint64_t offset, std::uint64_t size, F f) {
    if (size <= max_small_size) {
      for (std::uint64_t at = offset; at < offset + size; at += stride_) f(find(at));
      return;
    }
    // Whole pages: the bytes where small objects of these tests can lie.
    for (std::uint64_t at = offset; at < offset + size; at += page_size)
      for (const unsigned in_page : {0, 64, 128, 4096, 4160}) f(find(at + in_page));
  }
  place& find(std::uint64_t offset) {
    for (unsigned i = 0; i < used_; ++i)
      if (places_[i].offset == offset) return places_[i];
    if (used_ == most_places) fail("too many bytes are in use");
    places_[used_].offset = offset;
    places_[used_].taken = false;
    return places_[used_++];
  }

  std::uint32_t stride_;
  place places_[most_places];
  unsigned used_ = 0;
  std::uint64_t kept_places_[most_places];
  unsigned kept_ = 0;
};

/// Kinds of errors that are about a free: those before out_of_memory.
inline constexpr unsigned wrong_frees = static_cast<unsigned>(error_kind::out_of_memory);

struct heap_shape {
  page_index first_page = 1;       ///< of the pages that the device owns
  std::uint32_t pages = 1;         ///< how many it owns
  unsigned warp_slots = 1;         ///< 1: all threads share hints and open tiny blocks
  std::uint32_t stride = 64;       ///< see user_bytes
  bool pressure = false;           ///< frees retire empty spans
  std::uint32_t host_pages = 0;    ///< behind them: pages that the host lends on request
  std::uint64_t timeout_ns = 300;  ///< of requests; each look at the clock takes 10
};

/// One at a time.
class weak_heap {
 public:
  /// `classes`: those that the scenario uses; the lists of all others are not modelled.
  weak_heap(heap_shape shape, std::initializer_list<unsigned> classes)
      : bytes(shape.stride), shape_(shape) {
    const std::uint32_t pages = shape.first_page + shape.pages + shape.host_pages + 1;
    const std::size_t stride = summary_words(pages);
    const std::size_t sizes[] = {sizeof(heap_view),
                                 sizeof(device_state),
                                 sizeof(refill_queue),
                                 pages * sizeof(std::uint32_t),
                                 pages * words_per_page * sizeof(std::uint64_t),
                                 pages * sizeof(std::uint64_t),
                                 pages * (tiny_blocks_per_page / 2) * sizeof(std::uint32_t),
                                 pages * (tiny_blocks_per_page / 32) * sizeof(std::uint32_t),
                                 span_classes * stride * sizeof(std::uint64_t),
                                 stride * sizeof(std::uint64_t),
                                 shape.warp_slots * span_classes * sizeof(std::uint32_t),
                                 shape.warp_slots * sizeof(std::uint64_t),
                                 places_in_use * sizeof(std::uint64_t)};
    std::size_t total = 0;
    for (const std::size_t size : sizes) total += rounded(size);
    next_ = the_memory.map(total);
    auto* self = carve<heap_view>(1, "view");
    view_.self = self;
    view_.state = carve<device_state>(1, "state");
    view_.queue = carve<refill_queue>(1, "queue");
    // Never touched: the heap computes addresses and no more.
    view_.base = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40);
    view_.pages = pages;
    view_.bytes = std::uint64_t{pages} << page_shift;
    view_.summary_stride = static_cast<std::uint32_t>(stride);
    view_.entry = carve<std::uint32_t>(pages, "entry");
    view_.word = carve<std::uint64_t>(pages * words_per_page, "word");
    view_.rec = carve<std::uint64_t>(pages, "rec");
    view_.tiny_mask = carve<std::uint32_t>(pages * (tiny_blocks_per_page / 2), "tiny_mask");
    view_.tiny_last = carve<std::uint32_t>(pages * (tiny_blocks_per_page / 32), "tiny_last");
    view_.has_free = carve<std::uint64_t>(span_classes * stride, "has_free");
    view_.stock = carve<std::uint64_t>(stride, "stock");
    view_.hint = carve<std::uint32_t>(shape.warp_slots * span_classes, "hint");
    view_.warp_slots = shape.warp_slots;
    view_.tiny = carve<std::uint64_t>(shape.warp_slots, "tiny");
    places_ = carve<std::uint64_t>(places_in_use, "place");
    *self = view_;
    device_state& s = *view_.state;
    s.free_mailboxes.value = ~std::uint64_t{1};
    s.pressure.value = shape.pressure;
    if (shape.host_pages == 0)
      s.denied.value = 1;  // runs of a page and up: there is no host to ask
    view_.refill_timeout_ns = self->refill_timeout_ns = shape.timeout_ns;

    for (unsigned cls = 0; cls < span_classes; ++cls)
      if (std::find(classes.begin(), classes.end(), cls) == classes.end())
        the_memory.silence(view_.has_free_of(cls), stride * sizeof(std::uint64_t));
    if (shape.host_pages == 0) {
      the_memory.silence(view_.queue, sizeof(refill_queue));
      for (padded_counter* counter : {&s.stock_request, &s.stock_min, &s.free_mailboxes})
        the_memory.silence(counter, sizeof *counter);
    } else {
      hand_over_queue();
    }
    for (padded_counter* counter :
         {&s.device_pages, &s.denied, &s.denied_until_ns, &s.host_requests, &s.host_waits,
          &s.longest_wait_ns, &s.host_served, &s.large_pages, &s.large_objects, &s.home_pages})
      the_memory.silence(counter, sizeof *counter);
    the_memory.silence(s.classes, sizeof s.classes);
    the_memory.silence(s.errors, sizeof s.errors);
    the_memory.silence(&s.ring_next, sizeof s.ring_next);
    the_memory.silence(s.ring_kind, sizeof s.ring_kind);
    the_memory.silence(s.ring_address, sizeof s.ring_address);

    if (shape.pages != 0) core::give_pages(view_, {shape.first_page, shape.pages});
  }

  const heap_view& view() const { return view_; }
  page_index first_host_page() const { return shape_.first_page + shape_.pages; }
  std::uint32_t host_pages() const { return shape_.host_pages; }

  /// An object of the calling thread, nullptr when there is no memory.
  void* take(std::size_t size) {
    void* p = device_heap(view_).malloc(size);
    if (p == nullptr) return nullptr;
    const std::uint64_t offset = offset_of(p);
    // The object pins its pages, so what their entry says now it says until the free.
    const page_entry e{the_memory.latest(view_.entry[offset >> page_shift])};
    const unsigned expected = size < tiny_size        ? tiny_blocks
                              : size > max_small_size ? large_class
                                                      : size_to_class(size);
    // Half a page and more is served by whole pages when no span can be had.
    if (e.cls() != expected && (size <= page_size / 2 || e.cls() != large_class))
      fail("a slot of another class");
    bytes.take(offset, size);
    return p;
  }
  void give(void* p, std::size_t size) {
    if (p == nullptr) return;
    bytes.give(offset_of(p), size);
    device_heap(view_).free(p);
  }
  /// Puts an object into a place that all threads know, and takes out what was there.
  void* swap(unsigned place, void* p) {
    return reinterpret_cast<void*>(
        atomic::exchange<order::acq_rel>(places_ + place, reinterpret_cast<std::uint64_t>(p)));
  }
  /// An object before the executions begin, which is live in the beginning of each.
  void* keep(std::size_t size) {
    void* p = take(size);
    bytes.keep_what_is_taken();
    return p;
  }
  void give_kept(void* p, std::size_t size) {
    give(p, size);
    bytes.keep_what_is_taken();
  }

  void begin_execution() {
    the_memory.begin_execution();
    bytes.begin_execution();
  }

  void close_tiny_blocks() {
    for (unsigned i = 0; i < view_.warp_slots; ++i) {
      const core::tiny_word r{atomic::exchange<order::acq_rel>(view_.tiny + i, std::uint64_t{0})};
      if (r.block() != 0) core::close_block(view_, r);
    }
  }

  /// Objects of spans that are live when check_at_rest is called.
  struct live_object {
    void* p;
    std::size_t size;
  };

  /// Ends the test when something does not hold that has to at rest: each page has one owner, words
  /// hold the bits of free slots and no others, marks on all levels lead to each of them.
  void check_at_rest(std::span<const live_object> live = {}) const {
    const heap_view& h = view_;
    std::uint64_t in_stock = 0;
    for (page_index p = shape_.first_page; p < first_host_page() + host_pages(); ++p) {
      const page_entry e{latest(h.entry[p])};
      const span_record r{latest(h.rec[p])};
      const bool stocked = (latest(h.stock[p / 64]) >> (p % 64) & 1) != 0;
      in_stock += stocked;
      if (stocked && e.cls() != stock_class) fail("a page of the stock that is no stock page");
      if (stocked && !findable(h.stock, p)) fail("a stock page that no search finds");
      if (r.is_retiring()) fail("a span was left retiring");
      if (r.is_live() && (e.cls() != r.cls() || e.value() != 0)) fail("record of another class");
      if (!stocked && e.cls() == stock_class) fail("a page is lost");
      for (unsigned w = 0; w < words_per_page; ++w) {
        const std::uint64_t word = latest(h.word[core::index_of_word(p, w)]);
        const bool used = r.is_live() && w < span_words(r.cls());
        std::uint64_t expected = used ? full_word : 0;
        for (const live_object& object : live)
          if (object.p != nullptr && object.size >= tiny_size) expected &= ~bit_in(object, p, w);
        if (word != expected) fail(word < expected ? "a slot is lost" : "a stray free bit");
        if (word != 0 && ((r.nonempty() >> w & 1) == 0 || !findable(h.has_free_of(r.cls()), p)))
          fail("a free slot that no search finds");
      }
      for (unsigned i = 0; i < 4; ++i)
        if (latest(h.tiny_mask[std::size_t{p} * (tiny_blocks_per_page / 2) + i]) != 0)
          fail("the mask of a free tiny block is not zero");
      if (latest(h.tiny_last[std::size_t{p} * (tiny_blocks_per_page / 32)]) != 0)
        fail("byte 15 of a free tiny block is an object");
      if (r.is_live())
        for (unsigned i = 1; i < span_pages(r.cls()); ++i)
          if (latest(h.entry[p + i]) != page_entry::make(r.cls(), i).bits)
            fail("entry of an inner page");
    }
    if (in_stock != latest(h.state->stock_pages.value)) fail("the count of stock pages is wrong");
    if (core::any_hand(latest(h.state->in_hand.value))) fail("something is in a hand");
    if (latest(h.state->waiting.value) != 0) fail("a wait is counted that is over");
    for (unsigned kind = 0; kind < wrong_frees; ++kind)
      if (latest(h.state->errors[kind]) != 0) fail("an error was reported without cause");
  }

  /// Takes what there is of a size and gives it back: nothing may be out of reach.
  void exhaust(std::size_t size, unsigned expected) {
    void* all[64];
    unsigned n = 0;
    while (n < 64 && (all[n] = take(size)) != nullptr) ++n;
    for (unsigned i = 0; i < n; ++i) give(all[i], size);
    if (n != expected) fail("slots are out of reach");
  }

  user_bytes bytes;

 private:
  static constexpr unsigned places_in_use = 4;

  /// Flags and claims of the queue are modelled; what they hand over has to be ordered by them.
  void hand_over_queue() {
    refill_queue& q = *view_.queue;
    for (const unsigned box : {0, 1, 2}) {
      the_memory.hand_over(&q.request[box].min_pages, 8);
      the_memory.hand_over(&q.reply[box].first, 12);
      the_memory.hand_over(&view_.state->mailbox_seq[box], 4);
    }
    the_memory.hand_over(q.home.runs, sizeof q.home.runs);
    the_memory.hand_over(&q.home.count, sizeof q.home.count);
    the_memory.hand_over(&view_.state->stock_min, 8);
    for (std::uint32_t* word : {&q.service_alive, &q.host_frees_pending})
      the_memory.silence(word, sizeof *word);
    q.service_alive = 1;
  }

  static std::size_t rounded(std::size_t bytes) { return (bytes + 127) / 128 * 128; }
  template <class T>
  T* carve(std::size_t n, const char* name) {
    T* array = new (next_) T[n]{};
    the_memory.name(array, sizeof(T) <= 8 ? sizeof(T) : 8, name);
    next_ += rounded(n * sizeof(T));
    return array;
  }
  template <class T>
  static T latest(const T& word) {
    return the_memory.latest(word);
  }
  std::uint64_t offset_of(const void* p) const {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - view_.base);
  }
  std::uint64_t bit_in(const live_object& object, page_index p, unsigned w) const {
    const std::uint64_t offset = offset_of(object.p);
    const auto page = static_cast<page_index>(offset >> page_shift);
    const core::slot_place place = core::place_of(page, page_entry{latest(view_.entry[page])},
                                                  static_cast<std::uint32_t>(offset % page_size));
    return place.at == core::index_of_word(p, w) ? place.mask() : 0;
  }
  bool findable(const std::uint64_t* level, std::uint32_t i) const {
    for (unsigned l = 0; l < 3; ++l, i /= 64) {
      if ((latest(level[i / 64]) >> (i % 64) & 1) == 0) return false;
      level += level_words(view_.pages, l);
    }
    return true;
  }

  heap_shape shape_;
  heap_view view_;
  std::byte* next_ = nullptr;
  std::uint64_t* places_ = nullptr;
};

}  // namespace warpheap::weak
