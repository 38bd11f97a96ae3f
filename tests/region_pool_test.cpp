#include "host/region_pool.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <csignal>
#include <cstring>
#include <vector>

#include "tests/host_region.hpp"

namespace {

using namespace warpheap;

struct region_pool_test : ::testing::Test {
  test::host_region region{std::size_t{64} << 20};
  mheap heap{region.base(), region.bytes(), faulting_source()};
  region_pool pool{heap};

  static inline bool refuse_fault = false, refuse_unfault = false;
  void SetUp() override { refuse_fault = refuse_unfault = false; }

  page_source faulting_source() {
    page_source s = region.source();
    s.fault = [](void*, std::byte* start, std::size_t n) {
      if (refuse_fault) return false;
      EXPECT_EQ(madvise(start, n, MADV_DONTNEED), 0);
      EXPECT_EQ(mprotect(start, n, PROT_NONE), 0);
      return true;
    };
    s.unfault = [](void*, std::byte* start, std::size_t n) {
      if (refuse_unfault) return false;
      EXPECT_EQ(mprotect(start, n, PROT_READ | PROT_WRITE), 0);
      return true;
    };
    return s;
  }
  std::size_t pages(manual_use use) const {
    return heap.stats().manual_pages[static_cast<unsigned>(use)];
  }
};

TEST_F(region_pool_test, a_chunk_is_used_then_quarantined_then_free) {
  std::byte* a = pool.take(16);
  ASSERT_NE(a, nullptr);
  std::memset(a, 0xaa, 16 * page_size);
  EXPECT_EQ(pages(manual_use::regions), 16u);
  pool.give(a);
  EXPECT_EQ(pages(manual_use::regions), 0u);
  EXPECT_EQ(pages(manual_use::quarantine), 16u);
  std::byte* b = pool.take(16);
  EXPECT_NE(b, a);
  EXPECT_EQ(pool.release(), 16 * page_size);
  EXPECT_EQ(pages(manual_use::quarantine), 0u);
  EXPECT_EQ(pool.take(16), a);
  for (std::size_t i = 0; i < 16 * page_size; i += 512) EXPECT_EQ(a[i], std::byte{0}) << i;
}

TEST_F(region_pool_test, a_touch_in_quarantine_is_a_signal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  std::byte* a = pool.take(2);
  a[2 * page_size - 1] = std::byte{1};
  pool.give(a);
  // A sanitizer's handler reports the signal and exits.
  const auto died = [](int status) {
    return WIFSIGNALED(status) ? WTERMSIG(status) == SIGSEGV
                               : WIFEXITED(status) && WEXITSTATUS(status) != 0;
  };
  EXPECT_EXIT(a[2 * page_size - 1] = std::byte{1}, died, "");
  EXPECT_EXIT(
      {
        volatile std::byte* p = a;
        if (*p == std::byte{1}) std::abort();
        std::_Exit(0);
      },
      died, "");
}

TEST_F(region_pool_test, the_oldest_leave_a_full_quarantine) {
  // An eighth of the heap's 8192 pages.
  std::vector<std::byte*> chunks;
  for (int i = 0; i < 9; ++i) chunks.push_back(pool.take(128));
  for (std::byte* p : chunks) pool.give(p);
  EXPECT_EQ(pages(manual_use::quarantine), 8 * 128u);
  chunks[0][0] = std::byte{1};  // can be touched again
  EXPECT_EQ(pool.release(), 8 * 128 * page_size);
  // And by their number.
  chunks.clear();
  for (std::size_t i = 0; i < region_pool::max_quarantined; ++i) chunks.push_back(pool.take(1));
  for (std::byte* p : chunks) pool.give(p);
  EXPECT_EQ(pages(manual_use::quarantine), region_pool::max_quarantined);
  pool.give(pool.take(1));
  EXPECT_EQ(pages(manual_use::quarantine), region_pool::max_quarantined);
  pool.release();
}

TEST_F(region_pool_test, the_quarantine_goes_before_memory_does) {
  const std::size_t all = region.bytes() / page_size - 1;
  std::byte* a = pool.take(1000);
  pool.give(a);
  std::byte* b = pool.take(all);
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(pages(manual_use::quarantine), 0u);
  EXPECT_EQ(pool.take(1), nullptr);
  pool.give(b);  // too much for any quarantine
  EXPECT_EQ(pages(manual_use::quarantine), 0u);
  EXPECT_NE(pool.take(all), nullptr);
}

TEST_F(region_pool_test, without_faults_chunks_are_free_at_once) {
  refuse_fault = true;
  std::byte* a = pool.take(16);
  a[0] = std::byte{7};
  pool.give(a);
  EXPECT_EQ(pages(manual_use::quarantine), 0u);
  EXPECT_EQ(pool.take(16), a);
  EXPECT_EQ(pages(manual_use::regions), 16u);
}

TEST_F(region_pool_test, pages_that_stay_untouchable_are_never_used_again) {
  std::byte* a = pool.take(16);
  pool.give(a);
  refuse_unfault = true;
  EXPECT_EQ(pool.release(), 0u);
  EXPECT_EQ(pages(manual_use::quarantine), 16u);
  refuse_unfault = false;
  EXPECT_EQ(pool.release(), 0u);
  EXPECT_NE(pool.take(16), a);
}

TEST_F(region_pool_test, what_is_no_chunk_aborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  std::byte* a = pool.take(16);
  const char* no_chunk = "no chunk of a region";
  EXPECT_DEATH(pool.give(a + page_size), no_chunk);
  EXPECT_DEATH(pool.give(nullptr), no_chunk);
  EXPECT_DEATH(pool.give(region.base() + region.bytes()), no_chunk);
  pool.give(a);
  EXPECT_DEATH(pool.give(a), no_chunk);
}

}  // namespace
