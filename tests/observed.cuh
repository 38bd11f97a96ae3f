// What the tests of observed kernels share. A file that includes it is observed.
#pragma once

#define WARPHEAP_OBSERVE 1
#include "device_fixture.cuh"
#include "temporary_files.hpp"

namespace warpheap {
namespace {

[[maybe_unused]] std::uint64_t sum_of(const heap_stats& s, std::uint64_t class_stats::*figure) {
  std::uint64_t sum = 0;
  for (const class_stats& k : s.device_classes) sum += k.*figure;
  return sum;
}

/// What holds at rest when every kernel that used the heap was observed.
[[maybe_unused]] void expect_identities(const heap_stats& s) {
  for (unsigned cls = 1; cls < counted_classes; ++cls) {
    const class_stats& k = s.device_classes[cls];
    EXPECT_EQ(k.mallocs - k.frees, k.live_objects) << "class " << cls;
    if (cls < span_classes) {
      EXPECT_EQ(k.grows - k.retires, k.spans) << "class " << cls;
    }
  }
}

constexpr std::uint32_t places = 12;  // for each thread

/// All calls there are, on objects of all kinds; what is left at the end lies in `kept`.
[[maybe_unused]] __global__ void churn(device_heap heap, void** kept, std::uint32_t rounds,
                                       std::uint32_t seed) {
  random_numbers random(seed + thread_number());
  void** mine = kept + std::size_t{thread_number()} * places;
  for (std::uint32_t i = 0; i < rounds; ++i) {
    void*& p = mine[random.below(places - 4)];
    if (p != nullptr && random.below(4) != 0) {
      heap.free(p);
      p = nullptr;
      continue;
    }
    const std::uint32_t n = random.below(100) < 3  ? 30000 + random.below(100000)
                            : random.below(2) == 0 ? 1 + random.below(15)
                                                   : 16 + random.below(2000);
    switch (p != nullptr ? 9 : random.below(6)) {
      case 0: p = heap.malloc<24>(); break;
      case 1: p = heap.calloc(3, n / 3 + 1); break;
      case 2: p = heap.aligned_alloc(64, n); break;
      case 3: {
        const unsigned got = heap.malloc_n(n, 4, mine + places - 4);
        for (unsigned k = 0; k < got; ++k) {
          heap.free(mine[places - 4 + k]);
          mine[places - 4 + k] = nullptr;
        }
        break;
      }
      case 9:
        if (void* q = heap.realloc(p, n); q != nullptr) p = q;
        break;
      default: p = heap.malloc(n);
    }
  }
}

[[maybe_unused]] __global__ void free_same(device_heap heap, void* p) { heap.free(p); }

}  // namespace
}  // namespace warpheap
