// Mallocs of more than there is room for, again and again: they cost those who make them, and
// nobody else. As soon as there is room, they get it.
#include <optional>

#include "device_fixture.cuh"

namespace warpheap {
namespace {

struct long_run_results {
  std::uint32_t had, others_failed;
  void* kept[4];
};

/// Four objects of a quarter of `bytes` each, of which the first pages stay in use.
__global__ void break_up(device_heap heap, std::size_t bytes, long_run_results* r) {
  for (void*& p : r->kept) p = heap.malloc(bytes / 4);
  for (void*& p : r->kept) p = heap.realloc(p, 40'000);
}

__global__ void end_break_up(device_heap heap, long_run_results* r) {
  for (void* p : r->kept) heap.free(p);
}

/// Each time something too large, if that is asked for, and something that there is room for.
__global__ void ask_for_long_runs(device_heap heap, std::size_t too_large, std::uint32_t rounds,
                                  long_run_results* r) {
  for (std::uint32_t i = 0; i < rounds; ++i) {
    if (too_large != 0) {
      void* run = heap.malloc(too_large);
      if (run != nullptr) ++r->had;
      heap.free(run);
    }
    void* other = heap.malloc(300'000);
    if (other == nullptr) ++r->others_failed;
    heap.free(other);
  }
}

class DeviceLongRun : public DeviceTest {
 protected:
  const std::uint32_t rounds = testing::scaled(50u, 5u);

  /// A heap of 128 MiB with objects of kernels in so many bytes, and one of the host of so many.
  void fill(std::size_t by_kernels, std::size_t by_host) {
    results_.emplace(1);
    heap_options o = quiet_options(128_MiB);
    o.report_leaks = false;
    heap_ = std::make_unique<heap>(o);
    if (by_kernels != 0)
      launch(1, 1, break_up, device_heap(heap_->device()), by_kernels, results_->data());
    heap_->trim();  // a surplus of these would go home in the middle of what is counted
    if (by_host != 0) of_host_ = heap_->malloc(by_host);
    ask(0);
  }
  void ask(std::size_t too_large) {
    launch(1, 1, ask_for_long_runs, device_heap(heap_->device()), too_large, rounds,
           results_->data());
    heap_->synchronize();
  }

  /// A run of that many bytes cannot be had, at the price of so many requests.
  void expect_no_run(std::size_t bytes, std::uint64_t most_requests) {
    const heap_stats before = heap_->stats();
    ask(bytes);
    const heap_stats after = heap_->stats();
    EXPECT_EQ(results().had, 0u);
    EXPECT_EQ(results().others_failed, 0u);
    EXPECT_EQ(after.device_pages_home, before.device_pages_home);
    EXPECT_LE(after.host_requests - before.host_requests, most_requests);
  }
  void expect_run(std::size_t bytes) {
    ask(bytes);
    EXPECT_EQ(results().had, rounds);
    EXPECT_EQ(results().others_failed, 0u);
    expect_sound(heap_->stats());
  }

  const long_run_results& results() { return (*results_)[0]; }

  std::optional<shared_array<long_run_results>> results_;
  std::unique_ptr<heap> heap_;
  void* of_host_ = nullptr;
};

TEST_F(DeviceLongRun, NoRoomBetweenObjectsOfKernels) {
  fill(112_MiB, 0);
  expect_no_run(60_MiB, rounds + 2);
  launch(1, 1, end_break_up, device_heap(heap_->device()), results_->data());
  expect_run(60_MiB);
}

TEST_F(DeviceLongRun, NoRoomBesideAnObjectOfTheHost) {
  fill(0, 60_MiB);
  expect_no_run(100_MiB, rounds + 2);
  heap_->free(of_host_);
  expect_run(100_MiB);
}

TEST_F(DeviceLongRun, NoRoomUnderTheMemoryLimit) {
  fill(0, 0);
  heap_->set_memory_limit(70_MiB);
  expect_no_run(100_MiB, 2 * rounds + 2);
  heap_->set_memory_limit(0);
  expect_run(100_MiB);
}

TEST_F(DeviceLongRun, NoRoomBetweenObjectsOfBothSides) {
  // Room for it beside those of either side.
  fill(40_MiB, 40_MiB);
  expect_no_run(75_MiB, 2 * rounds + 2);
  heap_->free(of_host_);
  expect_run(75_MiB);
}

}  // namespace
}  // namespace warpheap
