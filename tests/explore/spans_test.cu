// Explorations of spans: claims, frees, marks, lists, retirement.
//
// Two slots in a word, a few pages, warps of four lanes. Each test runs many seeds; a failure says
// which. During a run no slot may have two owners; at the end every page has one owner, words hold
// no bits but their span's, every free slot is found by the search, and an exhausting kernel gets
// every slot there is.
#define WARPHEAP_SLOTS_PER_WORD 2

#include "explore.cuh"

namespace warpheap {
namespace {

TEST(Explore, LanesShareTheSlotsOfOneWord) {
  explore_seeds(14'000, [](const simt::explore_options& o) {
    small_heap h(1, 20'000, 100);
    run_schedule(o, {churning(h, 4, 128, 2, 1), churning(h, 4, 128, 2, 1)});
    exhaust(h, 128, 2);
  });
}

TEST(Explore, WordsOfOneSpanEmptyAndFill) {
  explore_seeds(17'000, [](const simt::explore_options& o) {
    small_heap h(1);  // class 32: four words of two slots
    run_schedule(o, {churning(h, 3, 32, 2, 2), churning(h, 2, 32, 2, 3), churning(h, 1, 32, 4, 1)});
    exhaust(h, 32, 8);
  });
}

TEST(Explore, FreesOfASpanThatStaysInUseAreFound) {
  explore_seeds(27'000, [](const simt::explore_options& o) {
    small_heap h(1, 20'000, o.seed % 3 * 50);
    keep_one(h, 64);  // two words of two slots, one taken: no retirement hides a lost mark
    run_schedule(o, {churning(h, 2, 64, 2, 1), churning(h, 1, 64, 2, 2), churning(h, 1, 64, 2, 3)});
    exhaust(h, 64, 3);
  });
}

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
  explore_seeds(50'000, [](simt::explore_options o) {
    o.expected_steps = 40;
    small_heap h(1);
    h.press();
    keep_one(h, 128);
    keep_one(h, 128);
    void* first = h.kept[0];
    void* second = h.kept[1];
    h.kept.clear();
    bool done = false;
    run_schedule(o,
                 {simt::explored(1, 1, free_and_say, h.device(), first, &done), freeing(h, second),
                  simt::explored(1, 1, free_one_of_all, h.device(), &h.kept, 64u, 4u, &done)});
    h.check_at_rest();
  });
}

TEST(Explore, SlotsClaimedByAStaleHintComeBack) {
  explore_seeds(35'000, [](simt::explore_options o) {
    o.expected_steps = 60;
    small_heap h(1);
    const device_heap d = h.device_with_one_slot();
    // The hint of one class points to word 0 of the page, the page is another's, and only word 0
    // has a free slot.
    h.press();
    simt::explore({}, {churning(h, d, 1, 128, 1, 1)});
    for (int i = 0; i < 4; ++i) keep_one(h, 64);
    const auto in_word_0 = std::find_if(h.kept.begin(), h.kept.end(), [&](void* p) {
      return (static_cast<std::byte*>(p) - h.view().base) % page_size < 64 * 64;
    });
    simt::explore({}, {simt::explored(1, 1, free_pointer, d, *in_word_0)});
    h.kept.erase(in_word_0);
    run_schedule(o, {churning(h, d, 1, 128, 2, 1), churning(h, d, 1, 64, 1, 2)});
    h.check_at_rest();
  });
}

TEST(Explore, SpansMoveBetweenClassesUnderStaleHints) {
  explore_seeds(40'000, [](const simt::explore_options& o) {
    small_heap h(2);
    h.press();
    const device_heap d = h.device_with_one_slot();
    run_schedule(o, {churning(h, d, 2, 128, 2, 1), churning(h, d, 2, 64, 2, 1),
                     churning(h, d, 1, 128, 3, 2)});
    h.check_at_rest();
  });
}

__global__ void retire_pages(device_heap heap, unsigned rounds, page_index pages) {
  for (unsigned r = 0; r < rounds; ++r) core::retire_span(heap.view, 1 + r % pages);
}

TEST(Explore, AnybodyRetiresAnythingAtAnyTime) {
  explore_seeds(50'000, [](const simt::explore_options& o) {
    small_heap h(3);
    const device_heap d = h.device();
    run_schedule(o, {churning(h, d, 2, 64, 2, 2), churning(h, d, 2, 128, 2, 1),
                     simt::explored(1, 1, retire_pages, d, 12u, page_index{3}),
                     simt::explored(1, 1, retire_pages, d, 12u, page_index{2})});
    h.check_at_rest();
  });
}

TEST(Explore, ASeedDoesTheSameWhateverCameBefore) {
  // Each seed stands for itself: that is what replaying one relies on.
  const auto trace_of = [](std::uint64_t seed) {
    small_heap h(1, 2'000, seed % 2 * 100);
    if (seed % 3 == 0) h.press();
    h.serve();
    simt::explore_options o;
    o.seed = seed;
    return simt::explore(
               o,
               {churning(h, 3, 64, 2, 2), churning(h, 1, 8, 2, 2), churning(h, 1, 5'000'000, 2, 1)},
               {{[&] { return h.service().poll_once(); }}})
        .trace;
  };
  std::vector<std::uint64_t> traces;
  for (std::uint64_t seed = 0; seed < 50; ++seed) traces.push_back(trace_of(seed));
  for (std::uint64_t seed = 50; seed-- > 0;) EXPECT_EQ(trace_of(seed), traces[seed]) << seed;
}

}  // namespace
}  // namespace warpheap
