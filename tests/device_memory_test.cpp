// The arrays of kernels when their memory cannot be had, by a backend that fails on demand.
#include <gtest/gtest.h>

#include <string>
#include <warpheap/options.hpp>

#include "host/device_memory.hpp"

namespace warpheap {
namespace {

/// Plain memory; the n-th of the calls that may fail does, and what is not given back is counted.
class failing_memory final : public memory_backend {
 public:
  long until_fault = -1;
  long held = 0;         ///< allocations and reservations
  std::size_t skew = 0;  ///< bytes by which a reservation misses its alignment

  backend_kind kind() const override { return backend_kind::simt; }
  std::string device_name() const override { return "memory of the test"; }
  std::size_t max_reserve() const override { return memory_->max_reserve(); }
  std::byte* reserve(std::size_t bytes) override {
    return fails() ? nullptr : counted(memory_->reserve(bytes)) + skew;
  }
  void release(std::byte* base, std::size_t bytes) noexcept override {
    --held;
    memory_->release(base - skew, bytes);
  }
  bool map(std::byte* start, std::size_t bytes) noexcept override {
    return memory_->map(start, bytes);
  }
  bool can_discard() const override { return false; }
  bool discard(std::byte*, std::size_t) noexcept override { return false; }
  bool forbid(std::byte*, std::size_t, bool) noexcept override { return false; }
  void advise(std::byte*, std::size_t, memory_side) noexcept override {}
  bool dirty_after_discard() const override { return true; }
  void* allocate_device(std::size_t bytes) override {
    return fails() ? nullptr : counted(memory_->allocate_device(bytes));
  }
  void free_device(void* p, std::size_t bytes) noexcept override {
    --held;
    memory_->free_device(p, bytes);
  }
  void* allocate_pinned(std::size_t bytes) override {
    return fails() ? nullptr : counted(memory_->allocate_pinned(bytes));
  }
  void free_pinned(void* p, std::size_t bytes) noexcept override {
    --held;
    memory_->free_pinned(p, bytes);
  }
  void copy_to_device(void* device, const void* host, std::size_t bytes) override {
    if (fails()) throw heap_error("the copy fails");
    memory_->copy_to_device(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    memory_->copy_to_host(host, device, bytes);
  }
  unsigned warp_slots() const override { return 64; }
  std::uint64_t default_refill_timeout_ns() const override { return 1'000'000; }

 private:
  bool fails() { return until_fault >= 0 && until_fault-- == 0; }
  template <class T>
  T* counted(T* p) {
    if (p != nullptr) ++held;
    return p;
  }

  const std::unique_ptr<memory_backend> memory_ = make_mmap_memory();
};

heap_options small() {
  heap_options o;
  o.reserve_bytes = 8_MiB;
  o.device_events = 100;
  return o;
}

TEST(device_memory, a_reservation_that_is_not_aligned_is_refused) {
  failing_memory memory;
  memory.skew = 8192;
  try {
    const device_memory arrays(memory, small(), true);
    FAIL() << "it was taken";
  } catch (const heap_error& error) {
    EXPECT_NE(std::string(error.what()).find("misrounded allocation in mallocinit"),
              std::string::npos);
  }
  EXPECT_EQ(memory.held, 0);
}

TEST(device_memory, whatever_fails_nothing_is_left_behind) {
  failing_memory memory;
  long faults = 0;
  for (;; ++faults) {
    ASSERT_LT(faults, 100);
    memory.until_fault = faults;
    try {
      const device_memory arrays(memory, small(), true);
      EXPECT_EQ(memory.held, 3);
      break;
    } catch (const heap_error&) {
      EXPECT_EQ(memory.held, 0) << "after fault " << faults;
    }
  }
  // The reservation, the arrays, the queue, and a copy of each word that is not zero.
  EXPECT_EQ(faults, 7);
  EXPECT_EQ(memory.held, 0);
}

TEST(device_memory, a_size_without_a_number_is_refused) {
  failing_memory memory;
  heap_options o = small();
  for (const std::size_t events :
       {(std::size_t{1} << 59) + 16, std::size_t{1} << 63, ~std::size_t{0}, ~std::size_t{0} / 32}) {
    o.device_events = events;
    EXPECT_THROW(device_memory(memory, o, true), heap_error) << events;
    EXPECT_EQ(memory.held, 0);
  }
}

TEST(device_memory, a_stock_larger_than_a_number_of_pages_is_capped) {
  failing_memory memory;
  heap_options o = small();
  o.reserve_bytes = 64_MiB;
  for (const std::size_t stock : {std::size_t{1} << 45, std::size_t{1} << 63, ~std::size_t{0}}) {
    o.initial_stock_bytes = stock;
    const device_memory arrays(memory, o, true);
    EXPECT_EQ(arrays.view().stock_floor, 16_MiB / page_size) << stock;
  }
}

}  // namespace
}  // namespace warpheap
