// The host side of heaps on CUDA, where CUDA fails, is shared, or goes before the heap does.
#include <gtest/gtest.h>
#include <cstdlib>
#include <memory>
#include <string>
#include <warpheap/backend.hpp>
#include <warpheap/heap.hpp>

#include "cuda_stub.hpp"
#include "tests/child_of_cuda.hpp"

namespace {

using namespace warpheap;
using namespace warpheap::literals;

heap_options on_cuda(std::size_t reserve) {
  heap_options o;
  o.reserve_bytes = reserve;
  o.backend = backend_kind::cuda;
  o.on_report = [](const std::string&) {};
  return o;
}

std::string complaint(const heap_options& options) {
  try {
    const heap h(options);
  } catch (const heap_error& error) {
    return error.what();
  }
  return "";
}

TEST(lost_cuda, child_of_a_fork_has_nothing_of_a_heap) {
  warpheap::testing::expect_nothing_in_a_child(on_cuda(64_MiB));
  for (const auto layer : {&heap_options::red_zones, &heap_options::clobber_free}) {
    heap_options o = on_cuda(64_MiB);
    o.*layer = true;
    warpheap::testing::expect_nothing_in_a_child(o);
  }
  heap_options o = on_cuda(64_MiB);
  o.profile_rate = 1;
  warpheap::testing::expect_nothing_in_a_child(o);
}

// Destroyed after CUDA: constructed before it was initialised.
std::unique_ptr<heap> late, late_with_layers;

TEST(lost_cuda, heaps_may_end_after_it) {
  // A process of its own: that in which the test is has initialised CUDA.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        heap_options o = on_cuda(64_MiB);
        late = std::make_unique<heap>(o);
        (void)late->malloc(100);
        o.red_zones = true;
        o.quarantine_bytes = 1_MiB;
        o.print_state_file = "/dev/null";
        late_with_layers = std::make_unique<heap>(o);
        late_with_layers->free(late_with_layers->malloc(100));
        static heap earlier(on_cuda(64_MiB));
        (void)earlier.malloc(100);
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST(lost_cuda, what_cannot_be_had_leaves_no_error) {
  const auto memory = make_cuda_memory();
  EXPECT_EQ(memory->reserve(std::size_t{1} << 60), nullptr);
  EXPECT_FALSE(warpheap::testing::cuda_error_is_left());
  EXPECT_EQ(memory->allocate_device(std::size_t{1} << 60), nullptr);
  EXPECT_FALSE(warpheap::testing::cuda_error_is_left());
  EXPECT_EQ(memory->allocate_pinned(std::size_t{1} << 60), nullptr);
  EXPECT_FALSE(warpheap::testing::cuda_error_is_left());
}

TEST(lost_cuda, heaps_share_the_memory_of_a_device) {
  const auto memory = make_cuda_memory();
  const std::size_t before = memory->max_reserve();
  {
    const heap h(on_cuda(256_MiB));
    EXPECT_LE(memory->max_reserve(), before - 256_MiB / 6 * 5);
    EXPECT_NE(complaint(on_cuda(1400_MiB)).find("room"), std::string::npos);
  }
  EXPECT_EQ(memory->max_reserve(), before);
  EXPECT_EQ(complaint(on_cuda(1400_MiB)), "");
}

TEST(lost_cuda, device_that_cannot_run_the_kernels_is_not_used) {
  warpheap::testing::no_kernels_reason = "no code for it";
  EXPECT_NE(why_no_cuda().find("stub (compute capability 7.7)"), std::string::npos);
  EXPECT_NE(complaint(on_cuda(64_MiB)).find("no code for it"), std::string::npos);
  heap_options o = on_cuda(64_MiB);
  o.backend = backend_kind::automatic;
  EXPECT_EQ(heap(o).backend(), backend_kind::simt);
  warpheap::testing::no_kernels_reason.clear();
}

}  // namespace
