// What runs beside the refill service's thread, or on it.
#ifndef __CUDACC__

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "device_fixture.cuh"

namespace warpheap {
namespace {

class ServiceThread : public DeviceTest {};

__global__ void free_one(device_heap heap, void* p) { heap.free(p); }

/// What a call throws; "" if nothing.
template <class F>
std::string refusal(F&& call) {
  try {
    call();
  } catch (const heap_error& error) {
    return error.what();
  }
  return "";
}

TEST_F(ServiceThread, CallsThatWaitForKernelsFailAtOnceInOnReport) {
  std::atomic<heap*> made{nullptr};
  std::atomic<bool> reported{false};
  std::vector<std::string> refused;
  bool used = false;
  std::thread::id reporter;
  heap_options o = options(8_MiB);
  o.report_leaks = false;
  o.on_report = [&](const std::string&) {
    if (reported || made == nullptr) return;
    heap& h = *made;
    reporter = std::this_thread::get_id();
    refused = {refusal([&] { h.synchronize(); }),         refusal([&] { (void)h.stats(); }),
               refusal([&] { (void)h.trim(); }),          refusal([&] { h.reset(); }),
               refusal([&] { (void)h.sweep(); }),         refusal([&] { (void)h.errors(); }),
               refusal([&] { (void)h.state_text(); }),    refusal([&] { h.print_state(); }),
               refusal([&] { h.stop_refill_service(); }), refusal([&] { h.take_device_events(); })};
    void* p = h.malloc(100);
    used = p != nullptr;
    h.free(p);
    h.start_refill_service();  // it runs already
    reported = true;
  };
  heap h(o);
  made = &h;
  auto* const object = static_cast<std::byte*>(h.malloc(64));
  launch(1, 1, free_one, device_heap(h.device()), object + 16);
  synchronize();
  // The service looks for frees by kernels every millisecond.
  for (int i = 0; i < 30'000 && !reported; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ASSERT_TRUE(reported);
  EXPECT_NE(reporter, std::this_thread::get_id());
  for (const std::string& text : refused)
    EXPECT_NE(text.find("on the refill service's thread"), std::string::npos) << text;
  EXPECT_TRUE(used);
  h.free(object);
  h.stop_refill_service();
  h.synchronize();
  EXPECT_EQ(h.stats().host.live_objects, 0u);
}

TEST_F(ServiceThread, TheStateIsPrintedWhileRoundsAreClosed) {
  heap_options o = options(64_MiB);
  o.initial_stock_bytes = 0;
  heap h(o);
  constexpr std::uint32_t n = 512;
  shared_array<void*> p(n);
  for (long round = 0; round < testing::scaled(100); ++round) {
    launch(8, 64, malloc_all, device_heap(h.device()), p.data(), n, 8_KiB);
    EXPECT_NE(h.state_text().find("queue: service runs"), std::string::npos);
    launch(8, 64, free_all, device_heap(h.device()), p.data(), n);
    h.synchronize();
    h.trim();  // the next kernel has to ask again
  }
  EXPECT_GT(h.stats().host_requests, 1u);
}

}  // namespace
}  // namespace warpheap

#endif
