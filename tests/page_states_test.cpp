#include "host/page_states.hpp"

#include <gtest/gtest.h>

namespace {

using namespace warpheap;
using counts = std::array<std::size_t, page_state_count>;

TEST(page_states, legal_edges) {
  page_states s(100);
  EXPECT_EQ(s.count(), (counts{100, 0, 0, 0}));
  s.map(10, 40);
  EXPECT_EQ(s.count(), (counts{60, 40, 0, 0}));
  s.used(10, 20, 20);
  EXPECT_EQ(s.count(), (counts{60, 20, 20, 0}));
  s.unused(10, 5);
  EXPECT_EQ(s.get(14), page_state::prepared);
  EXPECT_EQ(s.get(15), page_state::ready);
  s.used(12, 20, 5);  // 12..14 were given back, 30 and 31 are new
  EXPECT_EQ(s.count(), (counts{60, 20, 20, 0}));
  s.fault(12, 4);
  EXPECT_EQ(s.count(), (counts{60, 20, 16, 4}));
  s.unfault(12, 4);
  s.unused(16, 16);
  EXPECT_EQ(s.count(), (counts{60, 40, 0, 0}));
}

TEST(page_states, all_other_edges_abort) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  page_states s(4);  // a page in each state
  s.map(1, 3);
  s.used(1, 3, 3);
  s.unused(1, 1);
  s.fault(3, 1);
  const char* illegal = "illegal change";
  EXPECT_DEATH(s.unused(0, 1), illegal);
  EXPECT_DEATH(s.unused(1, 1), illegal);
  EXPECT_DEATH(s.unused(3, 1), illegal);
  EXPECT_DEATH(s.fault(0, 1), illegal);
  EXPECT_DEATH(s.fault(1, 1), illegal);
  EXPECT_DEATH(s.fault(3, 1), illegal);
  EXPECT_DEATH(s.unfault(0, 1), illegal);
  EXPECT_DEATH(s.unfault(1, 1), illegal);
  EXPECT_DEATH(s.unfault(2, 1), illegal);
  EXPECT_DEATH(s.used(3, 1, 1), illegal);
  EXPECT_DEATH(s.used(0, 1, 1), illegal);
  for (std::size_t page = 1; page < 4; ++page) EXPECT_DEATH(s.map(page, 1), illegal);
  EXPECT_DEATH(s.used(1, 2, 2), "scavenged bits");
  EXPECT_DEATH(s.used(2, 1, 1), "scavenged bits");
}

}  // namespace
