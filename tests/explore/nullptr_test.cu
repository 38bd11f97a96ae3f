// Explorations of when a malloc may answer nullptr: not while there are pages enough for everybody,
// in whoever's hands a page is at the moment of a look.
#define WARPHEAP_SLOTS_PER_WORD 2

#include "explore.cuh"

namespace warpheap {
namespace {

__global__ void malloc_one(device_heap heap, std::size_t size, void** out) {
  *out = heap.malloc(size);
}
__global__ void free_then_malloc(device_heap heap, void* p, std::size_t size, void** out) {
  heap.free(p);
  *out = heap.malloc(size);
}

simt::explored_kernel taking(small_heap& h, std::size_t size, void** out) {
  return simt::explored(1, 1, malloc_one, h.device(), size, out);
}

/// Two warps need up to five pages each, and all of sixteen are in empty spans of other classes: of
/// each no more than a class keeps. Wherever the first one takes his, five others are left in a
/// row.
void reclaim_by_two(const simt::explore_options& o, std::size_t size) {
  small_heap h(16);
  const std::function<void()> fill = [&] {
    std::vector<void*> all;
    for (const auto& [other, pages] : {std::pair{128u, 4u}, {256u, 4u}, {512u, 8u}}) {
      const std::uint64_t rest = h.view().state->stock_pages.value - pages;
      while (h.view().state->stock_pages.value > rest) all.push_back(h.device().malloc(other));
    }
    for (void* p : all) h.device().free(p);
  };
  alone(fill);
  if (h.view().state->stock_pages.value != 0) throw std::runtime_error("pages are in the stock");
  void *a = nullptr, *b = nullptr;
  run_schedule(o, {taking(h, size, &a), taking(h, size, &b)});
  if (a == nullptr || b == nullptr)
    throw std::runtime_error("nullptr while most pages are in empty spans");
}

TEST(Explore, NobodyFailsWhileAnotherWarpReclaims) {
  for (const std::size_t size : {std::size_t{40'000}, std::size_t{64}})
    explore_seeds(10'000, [&](const simt::explore_options& o) { reclaim_by_two(o, size); });
}

TEST(Bounded, NobodyFailsWhileAnotherWarpReclaims) {
  explore_all(simt::bounded_by::preemptions, 1,
              [](const simt::explore_options& o) { reclaim_by_two(o, 40'000); });
}

TEST(Bounded, NobodyFailsBeforeAPageIsMarked) {
  // One warp has given the first page of a word, and has not told the levels above; another gives
  // the second, and needs one.
  explore_all(simt::bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(2, 20'000, 100);
    void *first = nullptr, *second = nullptr, *taken = nullptr;
    alone([&] {
      const auto page = [&] { return core::malloc_pages(h.view(), page_size); };
      first = page();
      second = page();
      if (page() != nullptr) throw std::runtime_error("a third page of two");
    });
    run_schedule(
        o, {simt::explored(1, 1, free_then_malloc, h.device(), second, std::size_t{128}, &taken),
            simt::explored(1, 1, free_pointer, h.device(), first)});
    if (taken == nullptr) throw std::runtime_error("nullptr with both pages free");
  });
}

TEST(Explore, NobodyFailsForARunThatIsPutBack) {
  // Who wants all of ten pages takes some before he finds that one has gone. If he fails for that,
  // there is room for five.
  explore_seeds(20'000, [](const simt::explore_options& o) {
    small_heap h(10, 20'000, 58);
    void *ten = nullptr, *five = nullptr, *one = nullptr;
    run_schedule(o, {taking(h, 10 * page_size, &ten), taking(h, 128, &one),
                     taking(h, 5 * page_size, &five)});
    if (ten == nullptr && five == nullptr) throw std::runtime_error("nullptr for both of two runs");
  });
}

}  // namespace
}  // namespace warpheap
