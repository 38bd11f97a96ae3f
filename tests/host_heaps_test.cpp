#include "host/host_heap.hpp"

#include <gtest/gtest.h>
#include <chrono>

#include "bench/host/process_status.hpp"
#include "tests/host_region.hpp"

namespace {

using namespace warpheap;
using bench::host::status_kib;

TEST(host_heaps, a_thousand_come_and_go_without_a_leak) {
  test::host_region region(std::size_t{8} << 20);
  const auto one = [&] {
    host_heap heap(region.base(), region.bytes(), region.source());
    EXPECT_EQ(heap.stats().thread_caches, 0u);
    void* p = heap.malloc(100);
    void* q = heap.malloc(100000);
    EXPECT_EQ(heap.stats().thread_caches, 1u);
    heap.free(p);
    heap.free(q);
  };
  for (int i = 0; i < 100; ++i) one();
  const std::size_t resident = status_kib("VmRSS:");
  const std::size_t address_space = status_kib("VmSize:");
  for (int i = 0; i < 1000; ++i) one();
  EXPECT_LE(status_kib("VmRSS:"), resident + 4096);
  EXPECT_LE(status_kib("VmSize:"), address_space + 65536);
}

TEST(host_heaps, heap_of_8_gib_is_made_quickly) {
  test::host_region region(std::size_t{8} << 30);
  auto best = std::chrono::nanoseconds::max();
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    host_heap heap(region.base(), region.bytes(), region.source());
    best = std::min(best, std::chrono::nanoseconds(std::chrono::steady_clock::now() - start));
  }
  EXPECT_LE(best, std::chrono::milliseconds(5));
}

TEST(host_heaps, heap_of_512_gib_costs_what_is_used) {
  // The heap's tables, not its pages: no memory is behind the addresses.
  auto* base = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 45);
  const std::size_t resident = status_kib("VmRSS:");
  host_heap heap(base, std::size_t{512} << 30, {});
  void* p = heap.malloc(std::size_t{2} << 30);
  EXPECT_EQ(p, base + (std::size_t{510} << 30));  // arenas at the upper end
  EXPECT_EQ(heap.free(p), free_status::ok);
  EXPECT_EQ(heap.malloc(std::size_t{512} << 30), nullptr);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they keep a shadow of memory
  EXPECT_LE(status_kib("VmRSS:"), resident + (std::size_t{32} << 10));
#else
  (void)resident;
#endif
}

TEST(host_heaps, several_at_once_do_not_mix) {
  test::host_region a_region(std::size_t{16} << 20), b_region(std::size_t{16} << 20);
  host_heap a(a_region.base(), a_region.bytes(), a_region.source());
  host_heap b(b_region.base(), b_region.bytes(), b_region.source());
  for (int i = 1; i < 2000; ++i) {
    void* p = a.malloc(static_cast<std::size_t>(i));
    void* q = b.malloc(static_cast<std::size_t>(i));
    EXPECT_EQ(b.free(p), free_status::foreign);
    EXPECT_EQ(a.free(q), free_status::foreign);
    EXPECT_EQ(a.free(p), free_status::ok);
    EXPECT_EQ(b.free(q), free_status::ok);
  }
  EXPECT_EQ(a.stats().live_objects, 0u);
  EXPECT_EQ(b.stats().live_objects, 0u);
}

}  // namespace
