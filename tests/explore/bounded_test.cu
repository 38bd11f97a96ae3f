// Bounded explorations: every schedule of a few lanes up to a number of preemptions, or, for warps
// of several lanes, of deviations from a plain order. What a random exploration finds with some
// probability is certain here, for these scenarios and within the bound.
#define WARPHEAP_SLOTS_PER_WORD 2

#include "explore.cuh"

namespace warpheap {
namespace {

using simt::bounded_by;
using simt::explored;

/// A span of the class exists, and the hints of all warps lead to it.
void warm_up(small_heap& h, std::size_t size) {
  alone([&] { h.device().free(h.device().malloc(size)); });
}

__global__ void take_one(device_heap heap, ownership* owners, std::size_t size, void** out) {
  *out = heap.malloc(size);
  if (*out != nullptr) owners->take(*out, size);
}

/// A warp of one lane that takes an object.
simt::explored_kernel taking(small_heap& h, std::size_t size, void** out) {
  return explored(1, 1, take_one, h.device(), h.owners(), size, out);
}

void give_one(small_heap& h, void* p, std::size_t size) {
  if (p == nullptr) return;
  h.owners()->give(p, size);
  alone([&] { h.device().free(p); });
}

TEST(Bounded, TwoWarpsShareAWarmWord) {
  explore_all(bounded_by::preemptions, 5, [](const simt::explore_options& o) {
    small_heap h(1);
    warm_up(h, 128);
    run_schedule(o, {churning(h, 1, 128, 1, 1), churning(h, 1, 128, 1, 1)});
    exhaust(h, 128, 2);
  });
}

TEST(Bounded, ThreeWarpsWantTheTwoSlotsThereAre) {
  explore_all(bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(1);
    warm_up(h, 128);
    void* taken[3] = {};
    run_schedule(o,
                 {taking(h, 128, &taken[0]), taking(h, 128, &taken[1]), taking(h, 128, &taken[2])});
    // Nobody frees meanwhile: two get an object in every schedule.
    if ((taken[0] != nullptr) + (taken[1] != nullptr) + (taken[2] != nullptr) != 2)
      throw std::runtime_error("not two of three got an object");
    for (void* p : taken) give_one(h, p, 128);
    exhaust(h, 128, 2);
  });
}

TEST(Bounded, NothingGoesHomeFromASmallStock) {
  // A page is taken as soon as its bit is set, and the counts of giver and taker may cross.
  explore_all(bounded_by::preemptions, 1, [](const simt::explore_options& o) {
    small_heap h(6, 3'000, 100);
    h.serve();
    h.keep_in_stock(100);
    void *five = nullptr, *one = nullptr, *again = nullptr;
    alone([&] {
      five = h.device().malloc(5 * page_size);
      one = core::malloc_pages(h.view(), page_size);
    });
    run_schedule(o, {freeing(h, five), freeing(h, one),
                     explored(1, 1, take_one, h.device(), h.owners(), 5 * page_size, &again)});
    if (h.view().queue->home.seq != 0)
      throw std::runtime_error("pages went home from a stock that never had enough");
  });
}

TEST(Bounded, AWarpFreesWhileAnotherSearches) {
  // Slots become free while the searcher cleans the marks and the list that led to none.
  explore_all(bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(2);
    keep_one(h, 64);
    keep_one(h, 64);
    keep_one(h, 64);
    keep_one(h, 64);
    void* freed[2] = {h.kept[0], h.kept[2]};
    h.kept = {h.kept[1], h.kept[3]};
    void* taken = nullptr;
    run_schedule(o, {taking(h, 64, &taken), freeing(h, freed[0]), freeing(h, freed[1])});
    give_one(h, taken, 64);
    exhaust(h, 64, 6);
  });
}

TEST(Bounded, APageGoesFromOneClassToAnother) {
  // Both warps share a cache slot, so that each class is claimed by a stale hint.
  explore_all(bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(1);
    h.press();
    const device_heap d = h.device_with_one_slot();
    warm_up(h, 128);
    run_schedule(o, {churning(h, d, 1, 128, 1, 1), churning(h, d, 1, 64, 1, 1)});
    exhaust(h, 64, 4);
  });
}

__global__ void retire_page(device_heap heap, page_index page) {
  core::retire_span(heap.view, page);
}

TEST(Bounded, ASpanIsRetiredByTwoWhileItIsUsed) {
  explore_all(bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(1);
    warm_up(h, 128);
    run_schedule(o,
                 {churning(h, 1, 128, 1, 1), explored(1, 1, retire_page, h.device(), page_index{1}),
                  explored(1, 1, retire_page, h.device(), page_index{1})});
    exhaust(h, 128, 2);
  });
}

TEST(Bounded, TwoFreesEmptyASpanThatAThirdTakesOver) {
  explore_all(bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(1);
    h.press();
    keep_one(h, 128);
    keep_one(h, 128);
    void *first = h.kept[0], *second = h.kept[1], *taken = nullptr;
    h.kept.clear();
    run_schedule(o, {freeing(h, first), freeing(h, second), taking(h, 64, &taken)});
    give_one(h, taken, 64);
    h.check_at_rest();
  });
}

__global__ void claim_one(device_heap heap, core::word_index at, unsigned cls, void** out) {
  const std::uint64_t seen = atomic::load<order::relaxed>(heap.view.word + at);
  if (seen == 0) return;
  if (const std::uint64_t got = core::claim_bits(heap.view, cls, at, seen, 1))
    *out = core::slot_address(heap.view, core::page_of(at), cls, core::bit_of_rank(got, 0));
}

TEST(Bounded, AMarkComesWhileARetirementIsUndone) {
  // One of two frees has made the word non-empty and not marked it yet, the other makes it full and
  // retires the span, which a third undoes by a claim.
  explore_all(bounded_by::preemptions, 3, [](const simt::explore_options& o) {
    small_heap h(1);
    h.press();
    keep_one(h, 128);
    keep_one(h, 128);
    void *first = h.kept[0], *second = h.kept[1];
    h.kept.clear();
    const unsigned cls = size_to_class(128);
    alone([&] { core::find_word(h.view(), cls); });  // cleans the marks of the empty word
    void* taken = nullptr;
    run_schedule(o,
                 {freeing(h, first), freeing(h, second),
                  explored(1, 1, claim_one, h.device(), core::index_of_word(1, 0), cls, &taken)});
    if (taken != nullptr) h.kept = {taken};
    exhaust(h, 128, taken != nullptr ? 1 : 2);
  });
}

TEST(Bounded, LanesOfTwoWarpsTakeAndFree) {
  explore_all(bounded_by::deviations, 3, [](const simt::explore_options& o) {
    small_heap h(1);
    warm_up(h, 64);
    run_schedule(o, {churning(h, 2, 64, 1, 1), churning(h, 2, 64, 1, 1)});
    exhaust(h, 64, 4);
  });
}

TEST(Bounded, FourWarpsOfFourLanes) {
  explore_all(bounded_by::deviations, 1, [](const simt::explore_options& o) {
    small_heap h(3);
    const std::vector<simt::explored_kernel> kernels = {
        explored(2, 4, take_and_free, h.device(), h.owners(), 64u, 1u, 1u),
        explored(2, 4, take_and_free, h.device(), h.owners(), 128u, 1u, 1u)};
    run_schedule(o, kernels);
    h.check_at_rest();
  });
}

TEST(Bounded, TinyObjectsOfTwoWarpsShareABlock) {
  explore_all(bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(1);
    const device_heap d = h.device_with_one_slot();
    warm_up(h, 16);
    alone([&] { d.free(d.malloc(8)); });
    run_schedule(o, {churning(h, d, 1, 8, 1, 1), churning(h, d, 1, 4, 1, 2)});
    h.close_tiny_blocks();
    h.check_at_rest();
  });
}

TEST(Bounded, RunsOfPagesOverlap) {
  explore_all(bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(9, 20'000, 58);  // pages 59 to 67, in two words of the bitmap
    run_schedule(o, {churning(h, 1, 50'000, 1, 1), churning(h, 1, 60'000, 1, 1)});
    exhaust(h, 9 * page_size, 1);
  });
}

TEST(Bounded, TheServiceAnswersOrItIsTooLate) {
  // Each look of a waiter is a choice point; it gives up after some of them.
  for (const std::uint64_t patience_ns : {100u, 300u, 2000u})
    explore_all(bounded_by::deviations, 1, [&](const simt::explore_options& o) {
      small_heap h(0, patience_ns);
      h.serve();
      void* taken[2] = {};
      run_schedule(o, {taking(h, std::size_t{5} << 20, &taken[0]), taking(h, 128, &taken[1])},
                   {{[&] { return h.service().poll_once(); }, false}});
      give_one(h, taken[0], std::size_t{5} << 20);
      give_one(h, taken[1], 128);
      settle(h);
      h.check_at_rest();
    });
}

}  // namespace
}  // namespace warpheap
