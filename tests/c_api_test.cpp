// Runs the checks of the C API that the files in C have, and those that C cannot make.
#include <gtest/gtest.h>
#include <warpheap/warpheap.h>
#include <cerrno>
#include <cstring>
#include <thread>
#include <warpheap/backend.hpp>

#include "tests/c_api_checks.h"
#include "tests/temporary_files.hpp"

namespace {

TEST(c_api_test, objects) { EXPECT_EQ(c_api_objects(), 0) << "the line of c_api_test.c"; }
TEST(c_api_test, zero_sizes) { EXPECT_EQ(c_api_zero_sizes(), 0) << "the line of c_api_test.c"; }
TEST(c_api_test, errors) { EXPECT_EQ(c_api_errors(), 0) << "the line of c_api_test.c"; }
TEST(c_api_test, no_heap) { EXPECT_EQ(c_api_no_heap(), 0) << "the line of c_api_test.c"; }
TEST(c_api_test, options) { EXPECT_EQ(c_api_options(), 0) << "the line of c_api_test.c"; }

constexpr const char* regions_test = "the line of c_api_regions_test.c";
TEST(c_api_test, stacks) { EXPECT_EQ(c_api_stacks(), 0) << regions_test; }
TEST(c_api_test, regions) { EXPECT_EQ(c_api_regions(), 0) << regions_test; }
TEST(c_api_test, mark_and_sweep) { EXPECT_EQ(c_api_sweep(), 0) << regions_test; }
TEST(c_api_test, mark_reachable) { EXPECT_EQ(c_api_mark_reachable(), 0) << regions_test; }
TEST(c_api_test, bad_input_of_sweep) { EXPECT_EQ(c_api_sweep_bad_input(), 0) << regions_test; }

constexpr const char* figures_test = "the line of c_api_figures_test.c";
TEST(c_api_test, stats) { EXPECT_EQ(c_api_stats(), 0) << figures_test; }
TEST(c_api_test, memory) { EXPECT_EQ(c_api_memory(), 0) << figures_test; }
TEST(c_api_test, memory_limit) { EXPECT_EQ(c_api_memory_limit(), 0) << figures_test; }
TEST(c_api_test, taken_errors) { EXPECT_EQ(c_api_taken_errors(), 0) << figures_test; }
TEST(c_api_test, backend) { EXPECT_EQ(c_api_backend(), 0) << figures_test; }
TEST(c_api_test, bad_input_of_figures) { EXPECT_EQ(c_api_figures_bad_input(), 0) << figures_test; }

class c_api_files_test : public warpheap::testing::FolderTest {
 protected:
  std::string folder() const { return directory_.string() + "/"; }
};

TEST_F(c_api_files_test, texts) { EXPECT_EQ(c_api_texts(folder().c_str()), 0) << figures_test; }
TEST_F(c_api_files_test, profile) { EXPECT_EQ(c_api_profile(folder().c_str()), 0) << figures_test; }
TEST_F(c_api_files_test, debug_modes) {
  EXPECT_EQ(c_api_debug_modes(folder().c_str()), 0) << figures_test;
}

TEST(c_api_death_test, releasing_what_is_no_stack_aborts) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer follows 64 locks of a thread, and a fork holds all of a heap's";
#endif
  lines reports = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&reports);
  ASSERT_NE(heap, nullptr);
  EXPECT_DEATH(warpheap_release_stack(heap, &reports, 100, 16), "stack");
  warpheap_destroy(heap);
}

TEST(c_api_test, cuda_is_refused_where_there_is_none) {
  if (warpheap::why_no_cuda().empty()) GTEST_SKIP() << "a CUDA device can be used here";
  EXPECT_EQ(c_api_no_cuda(), 0) << "the line of c_api_test.c";
}

TEST(c_api_test, error_text_is_the_threads_own) {
  EXPECT_EQ(warpheap_malloc(nullptr, 1), nullptr);
  const std::string mine = warpheap_last_error();
  EXPECT_FALSE(mine.empty());
  std::thread([] { EXPECT_STREQ(warpheap_last_error(), ""); }).join();
  EXPECT_EQ(warpheap_last_error(), mine);
}

TEST(c_api_test, exceptions_of_the_callback_stay_inside) {
  warpheap_options options;
  warpheap_options_init(&options);
  options.reserve_bytes = std::size_t{64} << 20;
  options.backend = WARPHEAP_BACKEND_SIMT;
  options.refill_service = 0;
  options.on_report = [](void*, const char*) { throw 1; };
  warpheap_heap* heap = warpheap_create(&options);
  ASSERT_NE(heap, nullptr);
  int local = 0;
  ::testing::internal::CaptureStderr();
  EXPECT_NO_THROW(warpheap_free(heap, &local));
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("outside the heap"), std::string::npos);
  warpheap_destroy(heap);
}

}  // namespace
