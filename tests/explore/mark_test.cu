// Explorations of marks: each object has one lane that marked it first.
#define WARPHEAP_SLOTS_PER_WORD 2

#include "explore.cuh"

namespace warpheap {
namespace {

/// Each lane marks both objects, and counts the marks that were the first.
__global__ void mark_both(device_heap heap, void** objects, unsigned* first) {
  for (unsigned i = 0; i < 2; ++i) first[threadIdx.x] += heap.mark(objects[(i + threadIdx.x) % 2]);
}

TEST(Bounded, OfTwoMarksOneIsTheFirst) {
  static std::vector<std::uint32_t> marks(min_reserve_bytes / 32);
  explore_all(simt::bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(1);
    h.view().state->marks = marks.data();
    void* objects[2];
    alone([&] {
      for (void*& p : objects) p = h.device().malloc(8);  // their marks are in one word
    });
    unsigned first[3] = {};
    run_schedule(o, {simt::explored(1, 1, mark_both, h.device(), objects, first),
                     simt::explored(1, 2, mark_both, h.device(), objects, first + 1)});
    require(first[0] + first[1] + first[2] == 2, "an object was not marked first by one lane");
    alone([&] {
      for (void* p : objects) {
        const auto offset = static_cast<std::size_t>(static_cast<std::byte*>(p) - h.view().base);
        require((std::exchange(marks[offset / 32], marks[offset / 32] & ~(1u << offset % 32))
                     >> (offset % 32)
                 & 1)
                    != 0,
                "a mark is lost");
        h.device().free(p);
      }
    });
    h.close_tiny_blocks();
    h.check_at_rest();
  });
}

}  // namespace
}  // namespace warpheap
