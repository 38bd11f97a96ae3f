// Red zones: writes outside of an object are told.
#include <gtest/gtest.h>
#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/watched_heap.hpp"

namespace {

using namespace warpheap;
using warpheap::testing::chars;
using warpheap::testing::watched_heap;

TEST(debug_modes_test, red_zones_tell_writes_on_both_sides) {
  heap_options o;
  o.red_zones = true;
  watched_heap w(o);
  for (const std::size_t n : {1, 13, 16, 100, 4000, 50000}) {
    char* p = chars(w.h->malloc(n));
    EXPECT_EQ(w.h->usable_size(p), n);
    const std::uint64_t before = w.count(error_kind::write_outside);
    p[n] = 1;
    w.h->free(p);
    EXPECT_EQ(w.count(error_kind::write_outside), before + 1) << n;
    p = chars(w.h->malloc(n));
    p[-1] = 1;
    w.h->free(p);
    EXPECT_EQ(w.count(error_kind::write_outside), before + 2) << n;
  }
}

TEST(debug_modes_test, red_zones_of_live_objects_are_looked_at_in_the_end) {
  heap_options o;
  o.red_zones = true;
  watched_heap w(o);
  char* live = chars(w.h->malloc(10));
  (void)w.h->malloc(20);
  live[10] = 1;
  EXPECT_TRUE(w.lines.empty());
  w.h.reset();
  ASSERT_EQ(w.lines.size(), 2u);
  EXPECT_NE(w.lines[0].find("write outside"), std::string::npos) << w.lines[0];
  EXPECT_NE(w.lines[1].find("2 live objects"), std::string::npos) << w.lines[1];
}

}  // namespace
