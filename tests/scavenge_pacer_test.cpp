#include "host/scavenge_pacer.hpp"

#include <gtest/gtest.h>

namespace {

using namespace warpheap;
using std::chrono::milliseconds;
using time_point = scavenge_pacer::clock::time_point;

struct scavenge_pacer_test : ::testing::Test {
  static constexpr std::size_t keep(std::size_t n) {
    return n + n / 10 + scavenge_pacer::slack_pages;
  }
  time_point at(double windows) const {
    return time_point()
           + std::chrono::duration_cast<scavenge_pacer::clock::duration>(windows
                                                                         * scavenge_pacer::window);
  }
  scavenge_pacer pacer;
};

TEST_F(scavenge_pacer_test, nothing_goes_before_a_window_has_passed) {
  EXPECT_EQ(pacer.due(at(10), 0, 100000), 0u);
  EXPECT_EQ(pacer.due(at(10.99), 0, 100000), 0u);
  EXPECT_EQ(pacer.due(at(11), 0, 100000), scavenge_pacer::step_pages);
}

TEST_F(scavenge_pacer_test, what_was_in_use_in_the_last_windows_stays) {
  EXPECT_EQ(pacer.due(at(0), 50000, 50000), 0u);
  EXPECT_EQ(pacer.due(at(0.5), 0, 50000), 0u);
  EXPECT_EQ(pacer.due(at(1), 0, 50000), 0u);  // the peak was in the window that ends
  EXPECT_EQ(pacer.due(at(1.9), 0, 50000), 0u);
  EXPECT_EQ(pacer.due(at(2), 0, 50000), 0u);  // and in the one before
  EXPECT_EQ(pacer.due(at(3), 0, 50000), scavenge_pacer::step_pages);
}

TEST_F(scavenge_pacer_test, a_program_that_takes_turns_keeps_its_memory) {
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(pacer.due(at(i * 0.3), i % 3 == 0 ? 9000 : 10, 9000), 0u) << i;
}

TEST_F(scavenge_pacer_test, ends_at_what_is_kept) {
  EXPECT_EQ(pacer.due(at(0), 1000, 0), 0u);
  for (double w = 1; w < 5; ++w) (void)pacer.due(at(w), 1000, 0);
  EXPECT_EQ(pacer.due(at(5), 1000, keep(1000)), 0u);
  EXPECT_EQ(pacer.due(at(5), 1000, keep(1000) + 3), 3u);
  EXPECT_EQ(pacer.due(at(5), 1000, keep(1000) + 3000), scavenge_pacer::step_pages);
  // A peak counts at once.
  EXPECT_EQ(pacer.due(at(5), 2000, keep(1000) + 100), 0u);
}

TEST_F(scavenge_pacer_test, steps_take_a_hundredth_of_the_time) {
  (void)pacer.due(at(0), 0, 0);
  EXPECT_NE(pacer.due(at(1), 0, 100000), 0u);
  pacer.done(at(1), at(1) + milliseconds(2), 64);
  EXPECT_EQ(pacer.due(at(1) + milliseconds(199), 0, 100000), 0u);
  EXPECT_NE(pacer.due(at(1) + milliseconds(200), 0, 100000), 0u);
  // Nothing to be had: a window of rest.
  pacer.done(at(2), at(2), 0);
  EXPECT_EQ(pacer.due(at(2.9), 0, 100000), 0u);
  EXPECT_NE(pacer.due(at(3), 0, 100000), 0u);
}

}  // namespace
