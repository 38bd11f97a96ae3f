// Runs the checks of the C API that c_api_test.c has, and those that C cannot make.
#include <gtest/gtest.h>
#include <warpheap/warpheap.h>
#include <cerrno>
#include <cstring>
#include <thread>
#include <warpheap/backend.hpp>

#include "tests/c_api_checks.h"

namespace {

TEST(c_api_test, objects) { EXPECT_EQ(c_api_objects(), 0) << "the line of c_api_test.c"; }
TEST(c_api_test, zero_sizes) { EXPECT_EQ(c_api_zero_sizes(), 0) << "the line of c_api_test.c"; }
TEST(c_api_test, errors) { EXPECT_EQ(c_api_errors(), 0) << "the line of c_api_test.c"; }
TEST(c_api_test, no_heap) { EXPECT_EQ(c_api_no_heap(), 0) << "the line of c_api_test.c"; }
TEST(c_api_test, options) { EXPECT_EQ(c_api_options(), 0) << "the line of c_api_test.c"; }

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
  testing::internal::CaptureStderr();
  EXPECT_NO_THROW(warpheap_free(heap, &local));
  EXPECT_NE(testing::internal::GetCapturedStderr().find("outside the heap"), std::string::npos);
  warpheap_destroy(heap);
}

}  // namespace
