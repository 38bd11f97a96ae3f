// Heaps and threads that come and go: nothing is left of them.
#include <gtest/gtest.h>
#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>
#include <warpheap/heap.hpp>

#include "tests/host_only.hpp"
#include "tests/test_scale.hpp"

namespace {

using namespace warpheap;
using warpheap::testing::host_only;

std::size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  std::size_t n = 0;
  for (std::string line; std::getline(maps, line);) ++n;
  return n;
}

TEST(heap_lifetime, a_thousand_heaps_come_and_go) {
  std::size_t before = 0;
  const int heaps = warpheap::testing::scaled(1000, 200);
  for (int i = 0; i < heaps; ++i) {
    heap h(host_only(16_MiB));
    void* p = h.malloc(100);
    ASSERT_NE(p, nullptr);
    std::memset(p, 1, 100);
    if (i % 10 == 0) std::thread([&] { h.free(h.malloc(3000)); }).join();
    // Live objects go with their heap.
    if (i % 2 == 0) h.free(p);
    if (i == 100) before = mappings();
  }
  if (!warpheap::testing::sanitized) {
    EXPECT_LE(mappings(), before + 20);
  }
}

TEST(heap_lifetime, many_heaps_at_once) {
  std::vector<std::unique_ptr<heap>> heaps;
  std::vector<char*> objects;
  const std::size_t n = warpheap::testing::scaled<std::size_t>(200, 20);
  for (std::size_t i = 0; i < n; ++i) {
    heaps.push_back(std::make_unique<heap>(host_only(16_MiB)));
    objects.push_back(static_cast<char*>(heaps.back()->malloc(50 + i)));
    std::memset(objects.back(), static_cast<int>(i), 50 + i);
  }
  std::mt19937 random(10);
  std::shuffle(heaps.begin(), heaps.end(), random);
  for (auto& h : heaps) {
    std::uint64_t mine = 0;
    for (char*& p : objects) {
      if (p == nullptr || h->usable_size(p) == 0) continue;
      h->free(p);
      p = nullptr;
      ++mine;
    }
    EXPECT_EQ(mine, 1u);
    EXPECT_EQ(h->stats().host.live_objects, 0u);
    h.reset();
  }
}

TEST(heap_lifetime, threads_come_and_go_with_live_objects) {
  heap h(host_only(16_MiB));
  std::vector<char*> left;
  const int threads = warpheap::testing::scaled(2000);
  for (int i = 0; i < threads; ++i) {
    std::thread([&] {
      for (std::size_t n = 1; n < 400; n *= 3) {
        left.push_back(static_cast<char*>(h.malloc(n)));
        ASSERT_NE(left.back(), nullptr);
        left.back()[n - 1] = 'x';
        h.free(h.malloc(n + 1));
      }
      if (left.size() > 300) {
        for (char* p : left) h.free(p);
        left.clear();
      }
    }).join();
  }
  EXPECT_EQ(h.stats().host.live_objects, left.size());
  for (char* p : left) h.free(p);
  (void)h.trim();
  const heap_stats s = h.stats();
  EXPECT_EQ(s.host.live_objects, 0u);
  EXPECT_EQ(s.host.span_bytes, 0u) << "pages stayed in the caches of threads that are gone";
}

}  // namespace
