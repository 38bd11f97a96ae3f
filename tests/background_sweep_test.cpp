// What the service's thread does for a heap that is left alone. (Go: bgsweep.)
#include <gtest/gtest.h>
#include <chrono>
#include <thread>
#include <warpheap/heap.hpp>

namespace {

using namespace warpheap;

heap heap_with(bool service) {
  return heap({.reserve_bytes = 256_MiB,
               .backend = backend_kind::simt,
               .refill_service = service,
               .report_leaks = false});
}

/// Records of spans that have pages, after a bulk free of spans of all classes.
std::uint64_t spans_after_reset(heap& h) {
  for (std::size_t n = 16; n <= 32768; n += n / 4)
    for (int i = 0; i < 300; ++i) EXPECT_NE(h.malloc(n), nullptr);
  const std::uint64_t before = h.memory().mspan_inuse;
  h.reset();
  EXPECT_EQ(h.memory().heap_alloc, 0u);
  return before;
}

TEST(background_sweep, leaves_nothing_unswept_when_the_heap_is_idle) {
  heap h = heap_with(true);
  const std::uint64_t before = spans_after_reset(h);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (h.memory().mspan_inuse > before / 20 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_LE(h.memory().mspan_inuse, before / 20);
}

TEST(background_sweep, is_what_does_it) {
  heap h = heap_with(false);
  const std::uint64_t before = spans_after_reset(h);
  // Without the few that the thread had for spans to come.
  const std::uint64_t left = h.memory().mspan_inuse;
  EXPECT_GT(left, before - before / 20);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(h.memory().mspan_inuse, left);
  h.trim();
  EXPECT_LE(h.memory().mspan_inuse, before / 20);
}

}  // namespace
