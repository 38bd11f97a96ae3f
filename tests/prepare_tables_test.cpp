// Tables that are made ready before large requests come: those are answered without a page fault
// for each 512 pages.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <chrono>
#include <optional>
#include <thread>

#include "host/mheap.hpp"
#include "host/refill_service.hpp"
#include "tests/host_region.hpp"
#include "tests/test_scale.hpp"

namespace warpheap {
namespace {

constexpr std::size_t reserve = std::size_t{16} << 30;
constexpr std::uint32_t all_pages = reserve / page_size;

/// A heap of which nothing but the tables is ever touched.
struct untouched_heap {
  untouched_heap() {
    source.map = [](void*, std::byte*, std::size_t) { return true; };
    made.emplace(static_cast<std::byte*>(address), reserve, source);
  }
  ~untouched_heap() {
    made.reset();
    sys_release(address, reserve);
  }

  void* address = sys_reserve(reserve);
  page_source source{};
  std::optional<mheap> made;
};

long page_faults() {
  rusage used{};
  getrusage(RUSAGE_THREAD, &used);
  return used.ru_minflt;
}

TEST(prepare_tables, ends_and_changes_no_owner) {
  untouched_heap h;
  const page_run before = h.made->take_device_pages(1000, 1000);
  ASSERT_EQ(before.count, 1000u);
  std::size_t steps = 1;
  while (h.made->prepare_tables(8192)) ++steps;
  EXPECT_EQ(steps, all_pages / 8192);
  EXPECT_FALSE(h.made->prepare_tables(8192));
  for (std::uint32_t p = 0; p < 2000; ++p)
    ASSERT_EQ(h.made->is_device_page(p), p - before.first < before.count) << p;
  h.made->give_back_device_pages(before);
}

TEST(prepare_tables, large_requests_meet_few_page_faults) {
  untouched_heap h;
  while (h.made->prepare_tables(8192)) {
  }
  const long faults = page_faults();
  const page_run run = h.made->take_device_pages(1 << 20, 1 << 20);
  const long met = page_faults() - faults;
  ASSERT_EQ(run.count, 1u << 20);
  // What tables say of these pages lies in more than 2304 pages of the system.
  if (!testing::sanitized) {
    EXPECT_LT(met, 200);
  }
  h.made->give_back_device_pages(run);
}

TEST(prepare_tables, the_service_does_it_when_it_is_asked_to) {
  test::host_region region{std::size_t{1} << 30};
  host_heap heap{region.base(), region.bytes(), region.source()};
  for (const bool asked : {false, true}) {
    refill_queue queue{};
    refill_service service(queue, heap, {}, std::chrono::microseconds(50));
    if (asked) service.prepare_ahead();
    bool more = true;
    for (int i = 0; i < (asked ? 1000 : 10) && more; ++i) {
      service.start();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      service.stop();
      more = heap.prepare_tables(0);
    }
    EXPECT_EQ(more, !asked);
  }
}

}  // namespace
}  // namespace warpheap
