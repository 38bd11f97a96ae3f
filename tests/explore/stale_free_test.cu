// Explorations of second frees that are late: the span of the object ends meanwhile, and its page
// becomes another's.
//
// A free looks at the page's entry and then changes the word or the mask that the entry leads to.
// Whoever holds an object pins its span, so between the two nothing changes. A second free holds
// nothing. What it can do is bounded here: it is told, or it frees one slot of the span that took
// over, and that only when the new span was published between its look and its change.
#define WARPHEAP_SLOTS_PER_WORD 2

#include <atomic>

#include "explore.cuh"

namespace warpheap {
namespace {

/// What the second free can know of the other warp's progress. The C++ library's atomics are no
/// place to switch lanes at.
struct progress {
  std::atomic<bool> ending = false;      ///< the last object of the old span is about to be freed
  std::atomic<bool> reused = false;      ///< objects of the new span are live
  std::atomic<bool> in_between = false;  ///< the second free began before `reused` and ended after
                                         ///< `ending`
};

__global__ void free_again(device_heap heap, void* p, progress* at) {
  const bool early = !at->reused;
  heap.free(p);
  at->in_between = early && at->ending;
}

/// Frees the last object of a span and takes two of another size.
__global__ void free_and_take(device_heap heap, void* last, std::size_t size, void** out,
                              progress* at) {
  at->ending = true;
  heap.free(last);
  for (int i = 0; i < 2; ++i) out[i] = heap.malloc(size);
  at->reused = true;
}

std::uint64_t take_errors(const small_heap& h) {
  std::uint64_t n = 0;
  for (unsigned kind = 0; kind < wrong_frees; ++kind)
    n += std::exchange(h.view().state->errors[kind], 0);
  return n;
}

/// Two objects of a size that fill a word or a block, of which one is freed.
struct half_freed {
  half_freed(const device_heap& d, std::size_t size, int freed) {
    alone([&] {
      void* both[] = {d.malloc(size), d.malloc(size)};
      std::sort(both, both + 2);
      gone = both[freed];
      live = both[1 - freed];
      d.free(gone);
    });
  }
  void* gone;
  void* live;
};

/// Objects of the heap whose free bit is set all the same.
unsigned freed_in_use(const small_heap& h, void* const* objects, unsigned n) {
  unsigned wrong = 0;
  for (unsigned i = 0; i < n; ++i) {
    const auto offset =
        static_cast<std::uint64_t>(static_cast<std::byte*>(objects[i]) - h.view().base);
    const auto page = static_cast<page_index>(offset / page_size);
    const core::slot_place place =
        core::place_of(page, page_entry{h.view().entry[page]}, offset % page_size);
    wrong += (h.view().word[place.at] & place.mask()) != 0;
  }
  return wrong;
}

TEST(Explore, ALateSecondFreeIsToldOrFreesOneSlotOfTheSpanThatTookOver) {
  std::uint64_t harmed = 0;
  explore_seeds(20'000, [&](simt::explore_options o) {
    o.expected_steps = 40;
    small_heap h(2);
    h.press();
    const device_heap d = h.device();
    // The second slot: in the span of larger objects its address is inside of the first one.
    const half_freed pair(d, 128, 1);
    progress at;
    void* taken[2] = {};
    run_schedule(o, {simt::explored(1, 1, free_again, h.device(), pair.gone, &at),
                     simt::explored(1, 1, free_and_take, h.device(), pair.live, std::size_t{256},
                                    taken, &at)});
    if (taken[0] == nullptr || taken[1] == nullptr) {
      // The old span lives on: by the second free in its word, by a retirement that met it.
      require(take_errors(h) >= 1, "a second free was not told");
      for (void* p : taken)
        if (p != nullptr) alone([&] { h.device().free(p); });
      return;
    }
    const unsigned wrong = freed_in_use(h, taken, 2);
    require(wrong + take_errors(h) == 1, "neither told nor one slot freed");
    require(wrong == 0 || at.in_between, "a second free that does not overlap was not told");
    harmed += wrong;
    // What it freed is told when its owner frees it, and the heap is whole again.
    alone([&] {
      for (void* p : taken) h.device().free(p);
    });
    require(take_errors(h) == wrong, "the harm was not told in the end");
    h.check_at_rest();
  });
  std::cout << harmed << " schedules in which the other span was harmed\n";
}

TEST(Explore, ALateSecondFreeOfATinyObjectNeverHarmsAnotherKindOfSpan) {
  explore_seeds(10'000, [](simt::explore_options o) {
    o.expected_steps = 40;
    small_heap h(1);
    h.press();
    const device_heap d = h.device();
    const half_freed pair(d, 8, 1);  // no slot of the other span begins there
    progress at;
    void* taken[2] = {};
    run_schedule(o, {simt::explored(1, 1, free_again, h.device(), pair.gone, &at),
                     simt::explored(1, 1, free_and_take, h.device(), pair.live, std::size_t{128},
                                    taken, &at)});
    require(taken[0] != nullptr && taken[1] != nullptr, "no memory");
    require(take_errors(h) == 1, "a second free was not told");
    alone([&] {
      for (void* p : taken) h.device().free(p);
    });
    h.check_at_rest();
  });
}

TEST(Explore, ALateSecondFreeInAnOpenTinyBlockIsToldWhenItCloses) {
  std::uint64_t reopened = 0;
  explore_seeds(10'000, [&](simt::explore_options o) {
    o.expected_steps = 40;
    small_heap h(1);
    h.press();
    const device_heap d = h.device();
    // The second half of the block: nobody has it when the block is open again.
    const half_freed pair(d, 8, 1);
    progress at;
    void* taken[2] = {};
    // The warp that takes comes first, as the one above: it begins its search at the same word.
    run_schedule(o, {simt::explored(1, 1, free_and_take, d, pair.live, std::size_t{3}, taken, &at),
                     simt::explored(1, 1, free_again, d, pair.gone, &at)});
    require(taken[0] != nullptr && taken[1] != nullptr, "no memory");
    reopened += taken[0] == static_cast<std::byte*>(pair.gone) - 8;
    h.close_tiny_blocks();
    require(take_errors(h) == 1, "a second free was not told");
    alone([&] {
      for (void* p : taken) h.device().free(p);
    });
    h.check_at_rest();
  });
  EXPECT_NE(reopened, 0u) << "the block was never opened again";
}

}  // namespace
}  // namespace warpheap
