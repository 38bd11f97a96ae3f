// What a heap does when operator new fails, and when an operation on the device's side throws.
#include <gtest/gtest.h>
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
#include <warpheap/heap.hpp>

#include "host/heap/impl.hpp"
#include "tests/host_only.hpp"

namespace {
thread_local bool no_memory = false;

void* take(std::size_t n) {
  void* p = no_memory ? nullptr : std::malloc(n != 0 ? n : 1);
  return p;
}
void* take_or_throw(std::size_t n) {
  void* p = take(n);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
}  // namespace

// Not inlined, even here: Valgrind puts its own in place of all of them, or of none.
// clang-format off
[[gnu::noinline]] void* operator new(std::size_t n) { return take_or_throw(n); }
[[gnu::noinline]] void* operator new[](std::size_t n) { return take_or_throw(n); }
[[gnu::noinline]] void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return take(n); }
[[gnu::noinline]] void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return take(n); }
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }
// clang-format on

namespace warpheap {
namespace {

/// What a heap is made of: an explicit instantiation may name what is private.
auto& parts_of(heap& h);
template <auto Member>
struct opened {
  friend auto& parts_of(heap& h) { return *(h.*Member); }
};
template struct opened<&heap::impl_>;

/// Passes all on, but for what a test makes of it.
struct faulty_operations final : device_operations {
  explicit faulty_operations(std::unique_ptr<device_operations> real) : real_(std::move(real)) {}

  void synchronize() override { real_->synchronize(); }
  bool free_batch(std::vector<void*>& pointers) override {
    while (!pointers.empty()) {
      if (until_fault == 0) throw std::runtime_error("a launch failed");
      if (until_fault > 0) --until_fault;
      freed.push_back(pointers.back());
      pointers.pop_back();
    }
    return true;
  }
  std::vector<void*> take_host_frees(const std::function<bool(page_index)>& /*is_lent*/,
                                     bool /*at_rest*/) override {
    std::vector<void*> taken;
    taken.swap(host_frees);
    no_memory = no_memory_after_taking;
    return taken;
  }
  device_counts recount() override { return real_->recount(); }
  void retire_empty_spans() override { real_->retire_empty_spans(); }
  std::vector<page_run> take_stock() override { return real_->take_stock(); }
  void give_stock(page_run run) override { real_->give_stock(run); }
  void reset() override {
    if (reset_fails) throw std::runtime_error("a reset failed");
    real_->reset();
  }
  void begin_marks(std::uint32_t* marks) override { real_->begin_marks(marks); }
  void mark(const std::vector<const void*>& pointers) override {
    marked = pointers;
    real_->mark(pointers);
  }
  device_sweep sweep(std::size_t listed) override { return real_->sweep(listed); }
  device_state read_state() override {
    no_memory = false;
    return real_->read_state();
  }
  device_events take_events() override { return real_->take_events(); }
  void repair_refill() override { real_->repair_refill(); }

  int until_fault = -1;  ///< pointers that free_batch takes before it throws
  bool reset_fails = false;
  bool no_memory_after_taking = false;
  std::vector<void*> freed, host_frees;
  std::vector<const void*> marked;

 private:
  std::unique_ptr<device_operations> real_;
};

struct heap_faults : ::testing::Test {
  std::vector<std::string> lines;

  heap_options quiet() {
    heap_options o = testing::host_only(64_MiB);
    o.on_report = [this](const std::string& line) { lines.push_back(line); };
    return o;
  }
  static std::uint64_t errors(heap& h, error_kind kind) {
    return h.stats().errors[static_cast<unsigned>(kind)];
  }
  static faulty_operations& make_faulty(heap& h) {
    auto& operations = parts_of(h).operations;
    auto faulty = std::make_unique<faulty_operations>(std::move(operations));
    faulty_operations& all = *faulty;
    operations = std::move(faulty);
    return all;
  }
};

TEST_F(heap_faults, wrong_frees_without_memory_are_counted_and_kept) {
  heap h(quiet());
  void* p = h.malloc(100);
  h.free(p);
  ::testing::internal::CaptureStderr();
  no_memory = true;
  for (int i = 0; i < 400; ++i) h.free(p);
  h.free(&lines);
  no_memory = false;
  const std::string said = ::testing::internal::GetCapturedStderr();
  // Lines that on_report cannot get for want of memory.
  EXPECT_TRUE(lines.empty());
  EXPECT_NE(said.find("double free"), std::string::npos) << said;
  EXPECT_NE(said.find("outside the heap"), std::string::npos) << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 9) << said;
  EXPECT_EQ(errors(h, error_kind::double_free), 400u);
  EXPECT_EQ(errors(h, error_kind::foreign_pointer), 1u);
  const auto recent = h.errors();
  ASSERT_EQ(recent.size(), std::size_t{error_ring_slots});
  EXPECT_EQ(recent.front().kind, error_kind::double_free);
  EXPECT_EQ(recent.front().address, reinterpret_cast<std::uint64_t>(p));
  EXPECT_EQ(recent.back().kind, error_kind::foreign_pointer);
  EXPECT_TRUE(h.errors().empty());
  h.free(p);
  EXPECT_EQ(h.errors().size(), 1u);
}

TEST_F(heap_faults, recent_errors_are_those_since_the_last_call) {
  heap h(quiet());
  const auto address = [](std::uintptr_t n) { return reinterpret_cast<void*>(n); };
  for (std::uintptr_t n = 1; n <= error_ring_slots + 44; ++n) h.free(address(n));
  auto recent = h.errors();
  ASSERT_EQ(recent.size(), std::size_t{error_ring_slots});
  for (std::size_t i = 0; i < recent.size(); ++i) EXPECT_EQ(recent[i].address, i + 45);
  for (std::uintptr_t n = 1; n <= 3; ++n) h.free(address(n));
  recent = h.errors();
  ASSERT_EQ(recent.size(), 3u);
  EXPECT_EQ(recent[0].address, 1u);
  EXPECT_EQ(lines.size(), 8u);
}

/// A page that kernels have.
page_run take_device_page(heap& h) {
  const page_run run = parts_of(h).objects.take_device_pages(1, 1);
  if (run.count != 1) throw std::runtime_error("no page for the device");
  return run;
}
std::byte* address_of(heap& h, page_run run) {
  return parts_of(h).objects.base() + std::size_t{run.first} * page_size;
}

TEST_F(heap_faults, frees_of_kernels_objects_without_memory_can_be_repeated) {
  heap h(quiet());
  faulty_operations& device = make_faulty(h);
  const page_run run = take_device_page(h);
  std::byte* const page = address_of(h, run);
  ::testing::internal::CaptureStderr();
  no_memory = true;
  h.free(page);
  no_memory = false;
  EXPECT_NE(
      ::testing::internal::GetCapturedStderr().find("a free of a kernel's object does nothing"),
      std::string::npos);
  h.synchronize();
  EXPECT_TRUE(device.freed.empty());
  h.free(page);
  h.synchronize();
  EXPECT_EQ(device.freed, std::vector<void*>{page});
  parts_of(h).objects.give_back_device_pages(run);
}

TEST_F(heap_faults, frees_of_kernels_objects_survive_a_launch_that_fails) {
  heap h(quiet());
  faulty_operations& device = make_faulty(h);
  const page_run run = take_device_page(h);
  std::byte* const page = address_of(h, run);
  std::vector<void*> all;
  for (int i = 0; i < 50; ++i) all.push_back(page + 16 * i);
  for (void* p : all) h.free(p);
  device.until_fault = 20;
  no_memory = false;
  EXPECT_THROW(h.synchronize(), std::runtime_error);
  // More come, and this time there is no memory to put the old ones beside them.
  for (int i = 50; i < 60; ++i) {
    all.push_back(page + 16 * i);
    h.free(all.back());
  }
  device.until_fault = 10;
  EXPECT_THROW(h.synchronize(), std::runtime_error);
  device.until_fault = -1;
  h.synchronize();
  h.synchronize();
  std::sort(device.freed.begin(), device.freed.end());
  EXPECT_EQ(device.freed, all);
  parts_of(h).objects.give_back_device_pages(run);
}

TEST_F(heap_faults, nothing_is_swept_when_there_was_no_memory_for_a_mark) {
  heap h(quiet());
  faulty_operations& device = make_faulty(h);
  const page_run run = take_device_page(h);
  std::byte* const page = address_of(h, run);
  no_memory = true;
  EXPECT_EQ(h.mark(page), mark_status::no_memory);
  no_memory = false;
  EXPECT_EQ(h.mark(page + 16), mark_status::device);
  EXPECT_FALSE(h.sweep_device().complete);
  EXPECT_TRUE(device.marked.empty());
  // The marks that there was memory for are kept; a reset forgets them, unless it fails.
  device.reset_fails = true;
  EXPECT_THROW(h.reset(), std::runtime_error);
  EXPECT_TRUE(h.sweep_device().complete);
  EXPECT_EQ(device.marked, std::vector<const void*>{page + 16});
  EXPECT_EQ(h.mark(page + 32), mark_status::device);
  no_memory = true;
  EXPECT_EQ(h.mark(page), mark_status::no_memory);
  no_memory = false;
  parts_of(h).objects.give_back_device_pages(run);
  device.reset_fails = false;
  h.reset();
  EXPECT_TRUE(h.sweep_device().complete);
  EXPECT_TRUE(device.marked.empty());
}

TEST_F(heap_faults, wrong_frees_of_kernels_are_counted_without_memory) {
  heap h(quiet());
  faulty_operations& device = make_faulty(h);
  void* live[100];
  for (void*& p : live) p = h.malloc(100);
  // Each object twice.
  for (void* p : live) device.host_frees.insert(device.host_frees.end(), {p, p});
  device.no_memory_after_taking = true;
  h.synchronize();
  device.no_memory_after_taking = false;
  EXPECT_EQ(errors(h, error_kind::double_free), 100u);
  EXPECT_EQ(h.errors().size(), 100u);
  EXPECT_EQ(h.stats().host.live_objects, 0u);
}

TEST_F(heap_faults, a_reset_that_fails_leaves_objects_and_layers_as_they_were) {
  heap_options o = quiet();
  o.red_zones = true;
  heap h(o);
  faulty_operations& device = make_faulty(h);
  void* p = h.malloc(100);
  device.reset_fails = true;
  EXPECT_THROW(h.reset(), std::runtime_error);
  EXPECT_EQ(h.usable_size(p), 100u);
  h.free(p);
  EXPECT_TRUE(lines.empty());
  EXPECT_EQ(h.stats().host.live_objects, 0u);
  p = h.malloc(100);
  device.reset_fails = false;
  h.reset();
  EXPECT_EQ(h.usable_size(p), 0u);
}

}  // namespace
}  // namespace warpheap
