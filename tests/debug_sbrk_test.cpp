// sbrk: addresses rise, and nothing is freed.
#include <gtest/gtest.h>
#include <cstddef>
#include <cstdint>
#include <random>

#include "tests/watched_heap.hpp"

namespace {

using namespace warpheap;
using warpheap::testing::watched_heap;

TEST(debug_modes_test, sbrk_rises_and_never_frees) {
  heap_options o;
  o.sbrk = true;
  watched_heap w(o);
  std::uintptr_t last = 0;
  std::mt19937 random(8);
  for (int i = 0; i < 20000; ++i) {
    const std::size_t n = 1 + random() % 500;
    void* p = w.h->malloc(n);
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    ASSERT_GT(address, last);
    last = address + n - 1;
    w.h->free(p);
    ASSERT_EQ(w.h->usable_size(p), n);
  }
  EXPECT_TRUE(w.h->errors().empty());
  EXPECT_EQ(w.h->malloc(200_MiB), nullptr);
  w.h.reset();
  EXPECT_TRUE(w.lines.empty()) << w.lines.front();
}

}  // namespace
