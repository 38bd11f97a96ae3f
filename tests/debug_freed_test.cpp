// What quarantine and clobber_free do to freed objects.
#include <gtest/gtest.h>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tests/watched_heap.hpp"

namespace {

using namespace warpheap;
using warpheap::testing::chars;
using warpheap::testing::watched_heap;

TEST(debug_modes_test, quarantine_tells_writes_after_free) {
  heap_options o;
  o.quarantine_bytes = 10000;
  watched_heap w(o);
  char* p = chars(w.h->malloc(500));
  w.h->free(p);
  EXPECT_EQ(static_cast<unsigned char>(p[3]), 0xde);
  EXPECT_EQ(static_cast<unsigned char>(p[4]), 0xef);
  EXPECT_NE(w.h->malloc(500), p) << "an object that is held back was handed out";
  p[77] = 1;
  EXPECT_EQ(w.count(error_kind::use_after_free), 0u);
  for (int i = 0; i < 30; ++i) w.h->free(w.h->malloc(500));
  EXPECT_EQ(w.count(error_kind::use_after_free), 1u);
  const auto errors = w.h->errors();
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].address, reinterpret_cast<std::uintptr_t>(p));
}

TEST(debug_modes_test, clobber_overwrites_freed_objects) {
  heap_options o;
  o.clobber_free = true;
  watched_heap w(o);
  for (const std::size_t n : {4, 100, 5000, 100000}) {
    char* p = chars(w.h->malloc(n));
    std::memset(p, 7, n);
    w.h->free(p);
    std::uint32_t word = 0;
    std::memcpy(&word, p, 4);
    EXPECT_EQ(word, 0xdeadbeef) << n;
    EXPECT_EQ(std::count(p, p + n, 7), 0);
  }
}

}  // namespace
