// Kernels on a heap of the C API: the handle they are given, and the events of observed ones.
#include <warpheap/warpheap.h>
#include <cstring>
#include <set>

#include "observed.cuh"

namespace warpheap {
namespace {

class CApiDevice : public DeviceTest {};

warpheap_heap* c_heap(std::size_t events) {
  warpheap_options options;
  warpheap_options_init(&options);
  options.reserve_bytes = 64_MiB;
  options.report_leaks = 0;
  options.device_events = events;
  return warpheap_create(&options);
}

TEST_F(CApiDevice, KernelsUseTheHandleAndTheirEventsAreTaken) {
  warpheap_heap* heap = c_heap(50);
  ASSERT_NE(heap, nullptr) << warpheap_last_error();
  warpheap_device handle;
  ASSERT_EQ(warpheap_get_device(heap, &handle), 0) << warpheap_last_error();
  heap_view view;
  std::memcpy(static_cast<void*>(&view), &handle, sizeof view);

  shared_array<void*> pointers(64);
  launch(2, 32, malloc_all, device_heap(view), pointers.data(), 64, std::size_t{48});
  warpheap_stats stats;
  stats.struct_size = sizeof stats;
  ASSERT_EQ(warpheap_get_stats(heap, &stats), 0);
  EXPECT_EQ(stats.device_live_objects, 64u);

  // In two parts; there was room for 50.
  warpheap_device_event events[64];
  std::uint64_t lost = 0;
  ASSERT_EQ(warpheap_take_device_events(heap, events, 20, &lost), 20u);
  EXPECT_EQ(lost, 14u);
  ASSERT_EQ(warpheap_take_device_events(heap, events + 20, 44, &lost), 30u);
  EXPECT_EQ(lost, 0u);
  EXPECT_EQ(warpheap_take_device_events(heap, events, 64, nullptr), 0u);
  std::set<void*> made(pointers.begin(), pointers.end());
  EXPECT_EQ(made.size(), 64u);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(events[i].op, WARPHEAP_OP_MALLOC);
    EXPECT_EQ(events[i].bytes, 48u);
    EXPECT_EQ(events[i].size_class, size_to_class(48));
    EXPECT_EQ(made.erase(reinterpret_cast<void*>(events[i].address)), 1u) << i;
  }

  for (void* p : pointers) warpheap_free(heap, p);
  ASSERT_EQ(warpheap_get_stats(heap, &stats), 0);
  EXPECT_EQ(stats.device_live_objects, 0u);
  warpheap_destroy(heap);
}

// Those made before the first mark and after it: a sweep is for objects of the host, and kernels'
// have one of their own.
TEST_F(CApiDevice, ObjectsOfKernelsHaveASweepOfTheirOwn) {
  warpheap_heap* heap = c_heap(0);
  ASSERT_NE(heap, nullptr) << warpheap_last_error();
  warpheap_device handle;
  ASSERT_EQ(warpheap_get_device(heap, &handle), 0);
  heap_view view;
  std::memcpy(static_cast<void*>(&view), &handle, sizeof view);
  shared_array<void*> before(64), since(64);
  void* const lost = warpheap_malloc(heap, 100);
  void* const root = warpheap_malloc(heap, 100);
  launch(2, 32, malloc_all, device_heap(view), before.data(), 64, std::size_t{48});
  synchronize();
  ASSERT_EQ(warpheap_mark(heap, root), WARPHEAP_MARKED);
  EXPECT_EQ(warpheap_mark(heap, before[0]), WARPHEAP_MARK_DEVICE);
  launch(2, 32, malloc_all, device_heap(view), since.data(), 64, std::size_t{48});
  synchronize();
  void* const made = warpheap_malloc(heap, 100);

  warpheap_sweep_report report{};
  report.struct_size = sizeof report;
  ASSERT_EQ(warpheap_sweep(heap, &report), 0);
  EXPECT_EQ(report.kept_objects, 2u);
  EXPECT_EQ(report.leaked_objects, 1u);
  EXPECT_EQ(warpheap_usable_size(heap, lost), 0u);
  EXPECT_NE(warpheap_usable_size(heap, made), 0u);
  warpheap_stats stats;
  stats.struct_size = sizeof stats;
  ASSERT_EQ(warpheap_get_stats(heap, &stats), 0);
  EXPECT_EQ(stats.device_live_objects, 128u);

  ASSERT_EQ(warpheap_begin_device_marks(heap), 0) << warpheap_last_error();
  for (int i = 1; i < 10; ++i) EXPECT_EQ(warpheap_mark(heap, before[i]), WARPHEAP_MARK_DEVICE);
  std::vector<warpheap_leak> leaks(200);
  report.leaks = leaks.data();
  report.leaks_capacity = leaks.size();
  ASSERT_EQ(warpheap_sweep_device(heap, &report), 0) << warpheap_last_error();
  EXPECT_EQ(report.kept_objects, 10u);  // the first one has its mark from before
  EXPECT_EQ(report.leaked_objects, 118u);
  EXPECT_EQ(report.leaks_listed, 118u);
  EXPECT_EQ(report.leaked_by_class[size_to_class(48)].bytes, 118u * 48);
  EXPECT_NE(warpheap_usable_size(heap, made), 0u);
  for (int i = 0; i < 10; ++i) warpheap_free(heap, before[i]);
  ASSERT_EQ(warpheap_get_stats(heap, &stats), 0);
  EXPECT_EQ(stats.device_live_objects, 0u);
  EXPECT_EQ(stats.wrong_frees, 0u);
  warpheap_destroy(heap);
}

}  // namespace
}  // namespace warpheap
