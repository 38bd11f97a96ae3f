// How much of a heap kernels can have before a malloc answers nullptr, in each size.
#include "device_fixture.cuh"

namespace warpheap {
namespace {

class DeviceExhaustion : public DeviceTest {};

/// Allocates until the heap is full; every lane counts what it got and keeps it in a list.
struct chain {
  chain* next;
};
__global__ void exhaust(device_heap heap, std::size_t size, chain** kept,
                        unsigned long long* count) {
  for (;;) {
    auto* c = static_cast<chain*>(heap.malloc(size));
    if (c == nullptr) break;
    c->next = kept[thread_number()];
    kept[thread_number()] = c;
    atomicAdd(count, 1ull);
  }
}
__global__ void free_chains(device_heap heap, chain** kept) {
  for (chain* c = kept[thread_number()]; c != nullptr;) {
    chain* next = c->next;
    heap.free(c);
    c = next;
  }
  kept[thread_number()] = nullptr;
}

/// Fills the heap with objects of each class in turn; what was handed out at the first nullptr of
/// every lane has to be at least `share` of the heap. `trim`: each class finds a heap as new.
void exhaust_each_class(heap& h, double share, bool trim) {
  constexpr unsigned lanes = 256;
  shared_array<chain*> kept(lanes);
  shared_array<unsigned long long> count(1);
  const bool all = testing::scaled(100) >= 100;
  for (unsigned c = 2; c < num_classes; c += all ? 1 : 18) {
    const std::size_t size = class_to_size(c);
    count[0] = 0;
    launch(2, lanes / 2, exhaust, device_heap(h.device()), size, kept.data(), count.data());
    synchronize();
    const double bytes = static_cast<double>(h.options().reserve_bytes);
    EXPECT_GE(static_cast<double>(count[0] * size) / bytes, share) << "size " << size;
    launch(2, lanes / 2, free_chains, device_heap(h.device()), kept.data());
    synchronize();
    if (trim) h.trim();
  }
}

// A small heap under the sanitizers, where a million objects take half a minute; spans of the
// larger classes divide it less evenly.
TEST_F(DeviceExhaustion, EveryClass) {
  heap h(options(testing::sanitized ? 8_MiB : 64_MiB));
  exhaust_each_class(h, testing::sanitized ? 0.9 : 0.98, true);
  expect_empty(h);
}

TEST_F(DeviceExhaustion, EveryClassFromThePagesOfTheLast) {
  // The next class gets its pages from the last one's empty spans, while it retires them: runs of
  // pages that it cannot use are left between those that it took early.
  heap h(options(testing::sanitized ? 8_MiB : 32_MiB));
  exhaust_each_class(h, testing::sanitized ? 0.85 : 0.95, false);
  expect_empty(h);
}

TEST_F(DeviceExhaustion, TinyObjectsFillTheHeap) {
  // A sanitizer gets an eighth of them: the rest of the smallest heap is one object.
  constexpr std::size_t reserve = testing::sanitized ? 8_MiB : 16_MiB;
  constexpr std::size_t taken = testing::sanitized ? 6_MiB : 0;
  heap h(options(reserve));
  shared_array<void*> large(1);
  if (taken != 0) {
    launch(1, 1, malloc_all, device_heap(h.device()), large.data(), 1u, std::size_t{taken});
    synchronize();
    ASSERT_NE(large[0], nullptr);
  }
  shared_array<chain*> kept(64);
  shared_array<unsigned long long> count(1);
  constexpr std::size_t size = testing::sanitized ? 15 : 8;
  launch(1, 64, exhaust, device_heap(h.device()), size, kept.data(), count.data());
  synchronize();
  EXPECT_GE(static_cast<double>(count[0] * size) / (reserve - taken), 0.90);
  launch(1, 64, free_chains, device_heap(h.device()), kept.data());
  if (taken != 0) launch(1, 1, free_all, device_heap(h.device()), large.data(), 1u);
  synchronize();
  expect_empty(h);
}

}  // namespace
}  // namespace warpheap
