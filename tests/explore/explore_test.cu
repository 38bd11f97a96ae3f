// The device core under all kinds of schedules: real malloc, free, retire and refill, on a geometry
// so small that every edge of the protocol is met within a few steps: two slots in a word, a few
// pages, warps of four lanes. Each test runs many seeds; a failure says which.
//
// What is checked: during the run, that no slot has two owners and that contents stay; at the end,
// that every page has one owner, that words hold no bits but their span's, that every free slot is
// found by the search, and that nothing is lost: an exhausting kernel gets every slot there is.
#define WARPHEAP_SLOTS_PER_WORD 2

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>
#include <warpheap/device_heap.cuh>
#include <warpheap/simt_explore.hpp>

#include "host/device_memory.hpp"
#include "host/host_heap.hpp"
#include "host/refill_service.hpp"
#include "test_scale.hpp"

namespace warpheap {
namespace {

/// Which bytes of the heap are in use. Plain memory: lanes switch at atomics only, so the checks
/// add no steps to the schedule.
struct ownership {
  heap_view h;
  // calloc: untouched memory, as most of the heap's bytes are never looked at.
  std::unique_ptr<unsigned char, decltype(&std::free)> bytes;
  unsigned char* taken = bytes.get();

  explicit ownership(const heap_view& view)
      : h(view), bytes(static_cast<unsigned char*>(std::calloc(view.bytes, 1)), &std::free) {}

  void take(void* p, std::size_t size) {
    const auto offset = static_cast<std::size_t>(static_cast<std::byte*>(p) - h.base);
    if (offset >= h.bytes || size > h.bytes - offset)
      throw std::runtime_error("a pointer outside of the heap");
    for (std::size_t i = 0; i < size; i += stride(size))
      if (std::exchange(taken[offset + i], 1) != 0)
        throw std::runtime_error("a byte was handed out twice, at offset "
                                 + std::to_string(offset + i));
  }
  void give(void* p, std::size_t size) {
    const auto offset = static_cast<std::size_t>(static_cast<std::byte*>(p) - h.base);
    for (std::size_t i = 0; i < size; i += stride(size))
      if (std::exchange(taken[offset + i], 0) == 0)
        throw std::runtime_error("an object vanished while it was in use");
  }
  /// Large objects are whole pages: a mark here and there shows two owners as well.
  static std::size_t stride(std::size_t size) { return size > max_small_size ? 64 : 1; }
};

/// A heap with the real host side, but no thread: the service is an actor of the exploration.
class small_heap {
 public:
  /// `behind`: pages left free in front of the device's, so that these lie in another word of the
  /// bitmaps and searches go by way of the levels above.
  explicit small_heap(std::uint32_t stock_pages, std::uint64_t timeout_ns = 20'000,
                      std::uint32_t behind = 0)
      : memory_(make_mmap_memory()),
        arrays_(*memory_, options(timeout_ns), true),
        pages_(arrays_.view().base, arrays_.view().bytes, page_source{}),
        service_(*view().queue, pages_, {}, std::chrono::microseconds(1)),
        owners(view()) {
    page_run in_front;
    if (behind != 0) in_front = pages_.take_device_pages(behind, behind);
    if (stock_pages != 0)
      core::give_pages(view(), pages_.take_device_pages(stock_pages, stock_pages));
    pages_.give_back_device_pages(in_front);
  }

  const heap_view& view() const { return arrays_.view(); }
  device_heap device() const { return device_heap(view()); }
  host_heap& host() { return pages_; }
  refill_service& service() { return service_; }
  void serve() { view().queue->service_alive = 1; }

  /// Retires of empty spans at every free, as under pressure.
  void press() { view().state->pressure.value = 1; }
  /// All warps share one cache slot: hints and tiny blocks are fought for.
  device_heap device_with_one_slot() const {
    heap_view v = view();
    v.warp_slots = 1;
    return device_heap(v);
  }

  /// Objects of spans that stay live over a check.
  std::vector<void*> kept;

  /// Throws when something that has to hold at rest does not. Nothing but `kept` may be live.
  void check_at_rest() const {
    const heap_view& h = view();
    std::map<core::word_index, std::uint64_t> held;
    for (void* p : kept) {
      const auto offset = static_cast<std::size_t>(static_cast<std::byte*>(p) - h.base);
      const auto page = static_cast<page_index>(offset / page_size);
      const core::slot_place place =
          core::place_of(page, page_entry{h.entry[page]}, offset % page_size);
      held[place.at] |= place.bit;
    }
    const auto fail = [](const std::string& what, page_index p) {
      throw std::runtime_error(what + ", page " + std::to_string(p));
    };
    std::uint64_t in_stock = 0;
    for (page_index p = 0; p < h.pages; ++p) {
      const page_entry e{h.entry[p]};
      const span_record r{h.rec[p]};
      const bool stocked = (h.stock[p / 64] >> (p % 64) & 1) != 0;
      in_stock += stocked;
      if (stocked != (e.cls() == stock_class)) fail("entry and stock disagree", p);
      if (stocked && !findable(h.stock, p)) fail("a stock page that no search finds", p);
      if ((e.cls() != no_class) != pages_.is_device_page(p)) fail("two owners or none", p);
      if (p >= h.state->high_page.value) continue;
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
      if (r.is_live())
        for (unsigned i = 1; i < span_pages(r.cls()); ++i)
          if (page_entry{h.entry[p + i]}.bits != page_entry::make(r.cls(), i).bits)
            fail("entry of an inner page", p + i);
    }
    if (in_stock != h.state->stock_pages.value)
      throw std::runtime_error("the count of stock pages is "
                               + std::to_string(h.state->stock_pages.value) + ", the stock has "
                               + std::to_string(in_stock));
    if (h.state->free_mailboxes.value != ~std::uint64_t{1})
      throw std::runtime_error("a mailbox is lost");
    for (unsigned kind = 0; kind + 1 < error_kinds; ++kind)
      if (h.state->errors[kind] != 0)
        throw std::runtime_error(std::string("reported without cause: ")
                                 + to_string(static_cast<error_kind>(kind)));
  }

  void close_tiny_blocks() {
    for (unsigned i = 0; i < view().warp_slots; ++i) {
      const core::tiny_word r{std::exchange(view().tiny[i], 0)};
      if (r.block() != 0) core::close_block(view(), r);
    }
  }

 private:
  static heap_options options(std::uint64_t timeout_ns) {
    heap_options o;
    o.reserve_bytes = min_reserve_bytes;
    o.refill_timeout_ns = timeout_ns;
    return o;
  }
  bool findable(const std::uint64_t* level, std::uint32_t i) const {
    for (unsigned l = 0; l < 3; ++l, i /= 64) {
      if ((level[i / 64] >> (i % 64) & 1) == 0) return false;
      level += level_words(view().pages, l);
    }
    return true;
  }

  std::unique_ptr<memory_backend> memory_;
  device_memory arrays_;
  host_heap pages_;
  refill_service service_;

 public:
  ownership owners;
};

/// Runs a scenario under many seeds, half of them with random scheduling and half with PCT.
void explore_seeds(std::uint64_t seeds,
                   const std::function<void(simt::explore_options)>& scenario) {
  const char* replay = std::getenv("WARPHEAP_EXPLORE_SEED");
  const std::uint64_t first = replay != nullptr ? std::strtoull(replay, nullptr, 0) : 1;
  const std::uint64_t last = replay != nullptr ? first : testing::scaled(seeds);
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    simt::explore_options o;
    o.seed = seed;
    o.how = seed % 2 == 0 ? simt::strategy::random : simt::strategy::pct;
    o.depth = 2 + static_cast<unsigned>(seed / 2 % 4);
    o.expected_steps = 400;
    o.max_steps = 4'000'000;
    try {
      scenario(o);
    } catch (const std::exception& error) {
      FAIL() << error.what() << "\nreplay with WARPHEAP_EXPLORE_SEED=" << seed;
    }
  }
}

/// Each lane takes and frees objects of a class, `keep` at a time.
__global__ void take_and_free(device_heap heap, ownership* owners, std::size_t size,
                              unsigned rounds, unsigned keep) {
  void* mine[4] = {};
  for (unsigned r = 0; r < rounds; ++r) {
    for (unsigned k = 0; k < keep; ++k) {
      mine[k] = heap.malloc(size);
      if (mine[k] != nullptr) owners->take(mine[k], size);
    }
    for (unsigned k = 0; k < keep; ++k) {
      if (mine[k] == nullptr) continue;
      owners->give(mine[k], size);
      heap.free(mine[k]);
    }
  }
}

/// Takes everything there is of a class, then frees it: nothing may be out of reach.
void exhaust(small_heap& h, std::size_t size, std::uint64_t expected) {
  std::vector<void*> all;
  simt::explore_options o;
  o.max_steps = 40'000'000;
  const std::function<void()> body = [&] {
    const device_heap heap = h.device();
    while (void* p = heap.malloc(size)) all.push_back(p);
    for (void* p : all) heap.free(p);
  };
  simt::explore(o, {{{1, 1, 0}, body, "exhaust"}});
  if (all.size() != expected)
    throw std::runtime_error("of " + std::to_string(expected) + " slots, "
                             + std::to_string(all.size()) + " can be had");
}

TEST(Explore, LanesShareTheSlotsOfOneWord) {
  explore_seeds(1500, [](const simt::explore_options& o) {
    small_heap h(1, 20'000, 100);
    simt::explore(o, {simt::explored(1, 4, take_and_free, h.device(), &h.owners, 128u, 2u, 1u),
                      simt::explored(1, 4, take_and_free, h.device(), &h.owners, 128u, 2u, 1u)});
    h.check_at_rest();
    exhaust(h, 128, 2);
    h.check_at_rest();
  });
}

TEST(Explore, WordsOfOneSpanEmptyAndFill) {
  explore_seeds(1500, [](const simt::explore_options& o) {
    small_heap h(1);  // class 32: four words of two slots
    simt::explore(o, {simt::explored(1, 3, take_and_free, h.device(), &h.owners, 32u, 2u, 2u),
                      simt::explored(1, 2, take_and_free, h.device(), &h.owners, 32u, 2u, 3u),
                      simt::explored(1, 1, take_and_free, h.device(), &h.owners, 32u, 4u, 1u)});
    h.check_at_rest();
    exhaust(h, 32, 8);
    h.check_at_rest();
  });
}

/// Allocates one object before the exploration, to be kept over its end.
void keep_one(small_heap& h, std::size_t size) {
  const std::function<void()> body = [&] { h.kept.push_back(h.device().malloc(size)); };
  simt::explore({}, {{{1, 1, 0}, body, "keep"}});
}

TEST(Explore, FreesOfASpanThatStaysInUseAreFound) {
  explore_seeds(3000, [](const simt::explore_options& o) {
    small_heap h(1, 20'000, o.seed % 3 * 50);
    keep_one(h, 64);  // two words of two slots, one taken: no retirement hides a lost mark
    simt::explore(o, {simt::explored(1, 2, take_and_free, h.device(), &h.owners, 64u, 2u, 1u),
                      simt::explored(1, 1, take_and_free, h.device(), &h.owners, 64u, 2u, 2u),
                      simt::explored(1, 1, take_and_free, h.device(), &h.owners, 64u, 2u, 3u)});
    h.check_at_rest();
    exhaust(h, 64, 3);
    h.check_at_rest();
  });
}

__global__ void free_pointer(device_heap heap, void* p) { heap.free(p); }

__global__ void free_and_say(device_heap heap, void* p, bool* done) {
  heap.free(p);
  __atomic_store_n(done, true, __ATOMIC_RELEASE);
}

/// Takes all slots of a class, sees that there are no more, and frees the first when told.
__global__ void free_one_of_all(device_heap heap, std::vector<void*>* kept, std::size_t size,
                                unsigned slots, const bool* go) {
  for (unsigned i = 0; i < 3 * slots && kept->size() < slots; ++i)
    if (void* p = heap.malloc(size)) kept->push_back(p);
  if (void* more = heap.malloc(size)) heap.free(more);
  for (unsigned i = 0; i < 50 && !__atomic_load_n(go, __ATOMIC_ACQUIRE); ++i) __nanosleep(100);
  if (kept->empty()) return;
  heap.free(kept->front());
  kept->erase(kept->begin());
}

TEST(Explore, LateMarksGoToTheSpanThatTheyHit) {
  // One of two frees that empty a span is late with its mark: the span has become another class's
  // by then, and is full.
  explore_seeds(6000, [](simt::explore_options o) {
    o.expected_steps = 40;
    small_heap h(1);
    h.press();
    keep_one(h, 128);
    keep_one(h, 128);
    void* first = h.kept[0];
    void* second = h.kept[1];
    h.kept.clear();
    bool done = false;
    simt::explore(o, {simt::explored(1, 1, free_and_say, h.device(), first, &done),
                      simt::explored(1, 1, free_pointer, h.device(), second),
                      simt::explored(1, 1, free_one_of_all, h.device(), &h.kept, 64u, 4u, &done)});
    h.check_at_rest();
  });
}

TEST(Explore, SlotsClaimedByAStaleHintComeBack) {
  explore_seeds(3000, [](simt::explore_options o) {
    o.expected_steps = 60;
    small_heap h(1);
    const device_heap d = h.device_with_one_slot();
    // The hint of one class points to word 0 of the page, the page is another's, and only word 0
    // has a free slot.
    h.press();
    simt::explore({}, {simt::explored(1, 1, take_and_free, d, &h.owners, 128u, 1u, 1u)});
    for (int i = 0; i < 4; ++i) keep_one(h, 64);
    const auto in_word_0 = std::find_if(h.kept.begin(), h.kept.end(), [&](void* p) {
      return (static_cast<std::byte*>(p) - h.view().base) % page_size < 64 * 64;
    });
    simt::explore({}, {simt::explored(1, 1, free_pointer, d, *in_word_0)});
    h.kept.erase(in_word_0);
    simt::explore(o, {simt::explored(1, 1, take_and_free, d, &h.owners, 128u, 2u, 1u),
                      simt::explored(1, 1, take_and_free, d, &h.owners, 64u, 1u, 2u)});
    h.check_at_rest();
  });
}

TEST(Explore, SpansMoveBetweenClassesUnderStaleHints) {
  explore_seeds(4000, [](const simt::explore_options& o) {
    small_heap h(2);
    h.press();
    const device_heap d = h.device_with_one_slot();
    simt::explore(o, {simt::explored(1, 2, take_and_free, d, &h.owners, 128u, 2u, 1u),
                      simt::explored(1, 2, take_and_free, d, &h.owners, 64u, 2u, 1u),
                      simt::explored(1, 1, take_and_free, d, &h.owners, 128u, 3u, 2u)});
    h.check_at_rest();
  });
}

__global__ void retire_pages(device_heap heap, unsigned rounds, page_index pages) {
  for (unsigned r = 0; r < rounds; ++r) core::retire_span(heap.view, 1 + r % pages);
}

TEST(Explore, AnybodyRetiresAnythingAtAnyTime) {
  explore_seeds(4000, [](const simt::explore_options& o) {
    small_heap h(3);
    const device_heap d = h.device();
    simt::explore(o, {simt::explored(1, 2, take_and_free, d, &h.owners, 64u, 2u, 2u),
                      simt::explored(1, 2, take_and_free, d, &h.owners, 128u, 2u, 1u),
                      simt::explored(1, 1, retire_pages, d, 12u, page_index{3}),
                      simt::explored(1, 1, retire_pages, d, 12u, page_index{2})});
    h.check_at_rest();
  });
}

/// Lanes hand their objects to others through a few shared places.
struct exchange_table {
  unsigned long long places[4] = {};
};

__global__ void hand_over(device_heap heap, ownership* owners, exchange_table* table,
                          std::size_t size, unsigned rounds) {
  for (unsigned r = 0; r < rounds; ++r) {
    void* p = heap.malloc(size);
    if (p != nullptr) owners->take(p, size);
    // Acquire and release: who hands an object over has to synchronise, as with any memory.
    p = reinterpret_cast<void*>(atomic::exchange<order::acq_rel>(
        &table->places[(threadIdx.x + r) % 4], reinterpret_cast<unsigned long long>(p)));
    if (p == nullptr) continue;
    owners->give(p, size);
    heap.free(p);
  }
}

TEST(Explore, ObjectsAreFreedByOtherLanes) {
  explore_seeds(2000, [](const simt::explore_options& o) {
    for (const std::size_t size : {std::size_t{128}, std::size_t{4}}) {
      small_heap h(3);
      h.press();
      exchange_table table;
      simt::explore(o, {simt::explored(1, 4, hand_over, h.device(), &h.owners, &table, size, 2u),
                        simt::explored(1, 2, hand_over, h.device(), &h.owners, &table, size, 3u)});
      for (unsigned long long& place : table.places) {
        if (place == 0) continue;
        void* p = reinterpret_cast<void*>(place);
        simt::explore(o, {simt::explored(1, 1, free_pointer, h.device(), p)});
      }
      h.close_tiny_blocks();
      h.check_at_rest();
    }
  });
}

/// Tiny objects of the lane's own size; warps share the open block.
__global__ void take_tiny(device_heap heap, ownership* owners, unsigned rounds) {
  const unsigned sizes[] = {1, 8, 5, 3, 12, 4};
  void* mine[2] = {};
  for (unsigned r = 0; r < rounds; ++r) {
    const std::size_t size = sizes[(threadIdx.x + r + blockDim.x) % 6];
    for (void*& p : mine)
      if ((p = heap.malloc(size)) != nullptr) owners->take(p, size);
    for (void* p : mine) {
      if (p == nullptr) continue;
      owners->give(p, size);
      heap.free(p);
    }
  }
}

TEST(Explore, TinyObjectsOfWarpsThatShareABlock) {
  explore_seeds(4000, [](const simt::explore_options& o) {
    small_heap h(2);
    const device_heap d = h.device_with_one_slot();
    simt::explore(o, {simt::explored(1, 2, take_tiny, d, &h.owners, 2u),
                      simt::explored(1, 3, take_tiny, d, &h.owners, 2u),
                      simt::explored(1, 1, take_tiny, d, &h.owners, 3u)});
    h.close_tiny_blocks();
    h.check_at_rest();
  });
}

TEST(Explore, RunsOfPagesAreTakenWholeOrNotAtAll) {
  explore_seeds(2000, [](const simt::explore_options& o) {
    small_heap h(70);  // more than a word of the stock's bitmap
    simt::explore(o,
                  {simt::explored(1, 2, take_and_free, h.device(), &h.owners, 200'000u, 2u, 1u),
                   simt::explored(1, 2, take_and_free, h.device(), &h.owners, 50'000u, 2u, 2u),
                   simt::explored(1, 1, take_and_free, h.device(), &h.owners, 300'000u, 2u, 1u)});
    h.check_at_rest();
    exhaust(h, 70 * page_size, 1);
    h.check_at_rest();
  });
}

/// Lets the device look at what the host has granted in the meantime, and closes all rounds.
void settle(small_heap& h) {
  for (int i = 0; i < 4; ++i) {
    h.service().poll_once();
    core::poll_stock_reply(h.view());
  }
}

TEST(Explore, TheServiceGrantsPagesToWarpsThatGiveUp) {
  explore_seeds(2000, [](const simt::explore_options& o) {
    // The limit is a few steps: requests are answered before, at and after it.
    small_heap h(1, 200 + o.seed % 16 * 150);
    h.serve();
    const std::vector<simt::actor> actors = {{[&] { return h.service().poll_once(); }}};
    simt::explore(
        o,
        {simt::explored(1, 2, take_and_free, h.device(), &h.owners, 128u, 2u, 2u),
         simt::explored(1, 2, take_and_free, h.device(), &h.owners, std::size_t{5} << 20, 2u, 1u),
         simt::explored(1, 1, take_and_free, h.device(), &h.owners, std::size_t{6} << 20, 3u, 1u),
         simt::explored(1, 1, take_and_free, h.device(), &h.owners, 50'000u, 2u, 2u)},
        actors);
    settle(h);
    h.check_at_rest();
  });
}

TEST(Explore, TheServiceClosesAMailboxBeforeItsNextRound) {
  explore_seeds(1000, [](const simt::explore_options& o) {
    small_heap h(0, 100 + o.seed % 16 * 40);
    h.serve();
    // One mailbox for both warps: rounds that were given up are at once in the way of the next.
    h.view().state->free_mailboxes.value = 2;
    const std::vector<simt::actor> actors = {{[&] { return h.service().poll_once(); }}};
    simt::explore(
        o,
        {simt::explored(1, 1, take_and_free, h.device(), &h.owners, std::size_t{5} << 20, 4u, 1u),
         simt::explored(1, 1, take_and_free, h.device(), &h.owners, std::size_t{6} << 20, 4u, 1u)},
        actors);
    settle(h);
    h.view().state->free_mailboxes.value |= ~std::uint64_t{1};
    h.check_at_rest();
  });
}

TEST(Explore, TheServiceDiesAtAnyMoment) {
  explore_seeds(1000, [](const simt::explore_options& o) {
    small_heap h(1, 3'000);
    h.serve();
    unsigned polls = 1 + static_cast<unsigned>(o.seed % 7);
    const std::vector<simt::actor> actors = {
        {[&] { return polls > 0 && (--polls, h.service().poll_once()); }}};
    const std::vector<simt::explored_kernel> kernels = {
        simt::explored(1, 2, take_and_free, h.device(), &h.owners, 128u, 2u, 2u),
        simt::explored(1, 2, take_and_free, h.device(), &h.owners, std::size_t{5} << 20, 2u, 1u)};
    simt::explore(o, kernels, actors);
    settle(h);
    h.check_at_rest();
    // A new service finds a heap that works.
    polls = 1'000'000;
    simt::explore(o, kernels, actors);
    settle(h);
    h.check_at_rest();
  });
}

TEST(Explore, OfTwoFreesOneIsReported) {
  explore_seeds(1000, [](const simt::explore_options& o) {
    for (const std::size_t size : {std::size_t{3}, std::size_t{128}, std::size_t{40000}}) {
      small_heap h(6);
      void* p = nullptr;
      simt::explore(o, {{{1, 1, 0}, [&] { p = h.device().malloc(size); }, "malloc"}});
      simt::explore(o, {simt::explored(1, 1, free_pointer, h.device(), p),
                        simt::explored(1, 2, free_pointer, h.device(), p)});
      std::uint64_t reported = 0;
      for (unsigned kind = 0; kind + 1 < error_kinds; ++kind)
        reported += std::exchange(h.view().state->errors[kind], 0);
      if (reported != 2)
        throw std::runtime_error(std::to_string(reported) + " errors for two frees too many");
      h.close_tiny_blocks();
      h.check_at_rest();
    }
  });
}

__global__ void malloc_one(device_heap heap, std::size_t size, void** out) {
  *out = heap.malloc(size);
}

TEST(Explore, NobodyFailsWhileAnotherWarpReclaims) {
  for (const std::size_t size : {std::size_t{40'000}, std::size_t{64}})
    explore_seeds(300, [&](const simt::explore_options& o) {
      small_heap h(24);
      // All pages are in empty spans of another class.
      std::vector<void*> all;
      const std::function<void()> fill = [&] {
        while (void* p = h.device().malloc(128)) all.push_back(p);
        h.view().state->pressure.value = 0;
        for (void* p : all) h.device().free(p);
      };
      simt::explore({}, {{{1, 1, 0}, fill, "fill"}});
      void *a = nullptr, *b = nullptr;
      simt::explore(o, {simt::explored(1, 1, malloc_one, h.device(), size, &a),
                        simt::explored(1, 1, malloc_one, h.device(), size, &b)});
      if (a == nullptr || b == nullptr)
        throw std::runtime_error("nullptr while most pages are in empty spans");
    });
}

TEST(Explore, ADenialEndsWhenADeclinedGrantComesBack) {
  explore_seeds(600, [](simt::explore_options o) {
    o.how = simt::strategy::random;
    small_heap h(0, 3'000);
    h.serve();
    unsigned calls = 0;
    const unsigned patience = static_cast<unsigned>(o.seed % 200);
    const simt::actor slow_service{[&] { return calls++ < patience || h.service().poll_once(); },
                                   false};
    void *a = nullptr, *b = nullptr, *c = nullptr;
    simt::explore(o,
                  {simt::explored(1, 1, malloc_one, h.device(), 700 * page_size, &a),
                   simt::explored(1, 1, malloc_one, h.device(), 400 * page_size, &b)},
                  {slow_service});
    settle(h);
    if (a != nullptr || b != nullptr) return;
    // Nothing is live. Past every pause, memory can be had.
    const std::function<void()> pause = [] {
      for (int i = 0; i < 30; ++i) __nanosleep(100'000);
    };
    simt::explore({}, {{{1, 1, 0}, pause, "pause"}});
    simt::explore({}, {simt::explored(1, 1, malloc_one, h.device(), 400 * page_size, &c)},
                  {slow_service});
    if (c == nullptr) throw std::runtime_error("denied with the whole heap free");
  });
}

}  // namespace
}  // namespace warpheap
