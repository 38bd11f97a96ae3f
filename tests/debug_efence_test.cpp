// The electric fence: uses outside of an object and after its free end the process. Faults of the
// processor, which a sanitizer's handlers answer in their own way.
#include <gtest/gtest.h>
#include <csignal>
#include <cstddef>

#include "tests/test_scale.hpp"
#include "tests/watched_heap.hpp"

namespace {

using namespace warpheap;
using warpheap::testing::chars;
using warpheap::testing::watched_heap;

heap_options fenced() {
  heap_options o;
  o.efence = true;
  return o;
}

TEST(debug_modes_death_test, efence_faults_behind_an_object) {
  if (warpheap::testing::sanitized) GTEST_SKIP() << "the sanitizer handles the signal";
  watched_heap w(fenced());
  for (const std::size_t n : {1, 16, 100, 4096, 70000}) {
    volatile char* p = chars(w.h->malloc(n));
    // A guard begins at the end of the object, up to its alignment.
    const std::size_t end = n <= 8 ? (n + 7) / 8 * 8 : (n + 15) / 16 * 16;
    EXPECT_EXIT(p[end] = 1, ::testing::KilledBySignal(SIGSEGV), "") << n;
    EXPECT_EXIT((void)p[end], ::testing::KilledBySignal(SIGSEGV), "") << n;
  }
}

TEST(debug_modes_death_test, efence_faults_in_front_of_an_object_of_pages) {
  if (warpheap::testing::sanitized) GTEST_SKIP() << "the sanitizer handles the signal";
  watched_heap w(fenced());
  volatile char* p = chars(w.h->malloc(4096));
  EXPECT_EXIT(p[-1] = 1, ::testing::KilledBySignal(SIGSEGV), "");
}

TEST(debug_modes_death_test, efence_faults_after_free) {
  if (warpheap::testing::sanitized) GTEST_SKIP() << "the sanitizer handles the signal";
  watched_heap w(fenced());
  volatile char* p = chars(w.h->malloc(40));
  p[0] = 1;
  w.h->free(const_cast<char*>(p));
  EXPECT_EXIT(p[0] = 1, ::testing::KilledBySignal(SIGSEGV), "");
}

TEST(debug_modes_test, efence_tells_writes_into_the_slack) {
  watched_heap w(fenced());
  char* p = chars(w.h->malloc(100));
  p[100] = 1;
  w.h->free(p);
  EXPECT_EQ(w.count(error_kind::write_outside), 1u);
}

}  // namespace
