// Scratch stacks, the memory limit and memory that is given back, through the public heap; and what
// it says when there is none.
#include <sys/mman.h>
#include <chrono>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>
#include <warpheap/heap.hpp>
#include <warpheap/region.hpp>
#include <warpheap/scratch_stack.hpp>

#include <gtest/gtest.h>

namespace {

using namespace warpheap;

struct heap_memory_test : ::testing::Test {
  std::mutex mutex;
  std::vector<std::string> lines;

  heap_options options(std::size_t reserve) {
    heap_options o;
    o.reserve_bytes = reserve;
    o.backend = backend_kind::simt;
    o.report_leaks = false;
    o.initial_stock_bytes = 0;
    o.on_report = [this](const std::string& line) {
      const std::scoped_lock lock(mutex);
      lines.push_back(line);
    };
    return o;
  }
};

TEST_F(heap_memory_test, a_stack_has_the_size_and_the_alignment) {
  heap h(options(64_MiB));
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, 2_KiB, 5_KiB, 16_KiB, 100_KiB}) {
    for (const std::size_t alignment : {std::size_t{1}, std::size_t{16}, 4_KiB, 8_KiB}) {
      auto* p = static_cast<std::byte*>(h.acquire_stack(bytes, alignment));
      ASSERT_NE(p, nullptr);
      const std::size_t size = heap::stack_size(bytes, alignment);
      EXPECT_GE(size, std::max<std::size_t>({bytes, alignment, 2_KiB}));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % alignment, 0u);
      EXPECT_EQ(h.memory().stacks_inuse, size);
      std::memset(p, 0xcc, size);
      h.release_stack(p, bytes, alignment);
    }
  }
  EXPECT_EQ(h.memory().stacks_inuse, 0u);
  EXPECT_EQ(h.acquire_stack(100, 3), nullptr);
  EXPECT_EQ(h.acquire_stack(100, 0), nullptr);
  EXPECT_EQ(h.acquire_stack(100, 16_KiB), nullptr);
  EXPECT_TRUE(lines.empty());  // no question of memory
  EXPECT_EQ(h.acquire_stack(1_GiB), nullptr);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("cannot allocate 1073741824-byte block"), std::string::npos);
  EXPECT_EQ(h.acquire_stack(~std::size_t{0}), nullptr);
  h.release_stack(nullptr, 100);
  h.trim();
  EXPECT_EQ(h.memory().stacks_sys, 0u);
}

TEST_F(heap_memory_test, the_owner_of_a_stack) {
  heap h(options(64_MiB));
  {
    scratch_stack a(h, 10000);
    ASSERT_TRUE(a);
    EXPECT_EQ(a.size(), 16_KiB);
    EXPECT_EQ(a.top(), a.base() + a.size());
    std::byte* const base = a.base();
    scratch_stack b = std::move(a);
    EXPECT_FALSE(a);
    EXPECT_EQ(a.size(), 0u);
    EXPECT_EQ(b.base(), base);
    scratch_stack c(h, 4096);
    c = std::move(b);  // that of 4 KiB goes
    EXPECT_EQ(h.memory().stacks_inuse, 16_KiB);
    scratch_stack& itself = c;
    c = std::move(itself);
    EXPECT_EQ(c.base(), base);
    // Ends in another thread.
    std::thread([moved = std::move(c)] { EXPECT_TRUE(moved); }).join();
    EXPECT_EQ(h.memory().stacks_inuse, 0u);
    scratch_stack none;
    EXPECT_FALSE(none);
    none.release();
    scratch_stack aligned(h, 100, 8_KiB);
    EXPECT_EQ(aligned.size(), 8_KiB);
  }
  EXPECT_EQ(h.memory().stacks_inuse, 0u);
  EXPECT_EQ(h.stats().host.live_objects, 0u);
}

TEST_F(heap_memory_test, stacks_are_no_objects) {
  heap h(options(64_MiB));
  scratch_stack s(h, 4096);
  h.free(s.base());
  EXPECT_EQ(h.usable_size(s.base()), 0u);
  EXPECT_EQ(h.realloc(s.base(), 100), nullptr);
  const std::vector<error_record> errors = h.errors();
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_EQ(errors[0].kind, error_kind::not_allocated);
  EXPECT_EQ(errors[1].kind, error_kind::not_allocated);
  std::memset(s.base(), 1, s.size());
  h.reset();
  EXPECT_EQ(s.base()[s.size() - 1], std::byte{1});
  EXPECT_EQ(h.memory().stacks_inuse, 4096u);
}

TEST_F(heap_memory_test, stacks_of_threads_that_end_are_not_lost) {
  heap h(options(64_MiB));
  for (int i = 0; i < 20; ++i) {
    std::thread([&] {
      for (const std::size_t bytes : {2_KiB, 4_KiB, 8_KiB, 16_KiB, 32_KiB})
        scratch_stack(h, bytes).release();
    }).join();
  }
  EXPECT_LE(h.memory().stacks_sys, 32_KiB);  // a large one is kept
  h.trim();
  EXPECT_EQ(h.memory().stacks_sys, 0u);
}

TEST_F(heap_memory_test, releasing_what_is_no_stack_aborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  heap h(options(64_MiB));
  void* object = h.malloc(4096);
  void* stack = h.acquire_stack(4096);
  EXPECT_DEATH(h.release_stack(object, 4096), "no scratch stack of this size");
  EXPECT_DEATH(h.release_stack(stack, 2048), "no scratch stack of this size");
  h.release_stack(stack, 4096);
  // Two owners would get it.
  EXPECT_DEATH(h.release_stack(stack, 4096), "no scratch stack that is in use");
  region r(h, {.first_chunk_bytes = 64_KiB, .largest_chunk_bytes = 64_KiB});
  EXPECT_DEATH(h.release_stack(r.malloc(100), 64_KiB), "no scratch stack that is in use");
}

TEST_F(heap_memory_test, out_of_memory_says_what_was_asked_and_what_is_in_use) {
  heap h(options(8_MiB));
  std::vector<void*> all;
  while (void* p = h.malloc(1_MiB)) all.push_back(p);
  ASSERT_EQ(lines.size(), 1u);
  const std::size_t used = all.size() * 1_MiB;
  EXPECT_EQ(lines[0], "warpheap: out of memory: cannot allocate 1048576-byte block ("
                          + std::to_string(used) + " in use)");
  EXPECT_EQ(h.calloc(~std::size_t{0} / 2, 3), nullptr);
  EXPECT_EQ(h.aligned_alloc(64, 3_MiB), nullptr);
  EXPECT_EQ(h.realloc(all[0], 5_MiB), nullptr);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_NE(lines[1].find("cannot allocate 18446744073709551615-byte"), std::string::npos);
  EXPECT_NE(lines[2].find("cannot allocate 3145728-byte"), std::string::npos);
  EXPECT_NE(lines[3].find("cannot allocate 5242880-byte"), std::string::npos);
  EXPECT_EQ(h.aligned_alloc(3, 100), nullptr);  // refused, not out of memory
  EXPECT_EQ(lines.size(), 4u);
  const std::vector<error_record> errors = h.errors();
  ASSERT_EQ(errors.size(), 4u);
  for (const error_record& e : errors) EXPECT_EQ(e.kind, error_kind::out_of_memory);
  EXPECT_EQ(errors[0].address, 1_MiB);
  EXPECT_EQ(h.stats().errors[static_cast<unsigned>(error_kind::out_of_memory)], 3u);
  // The heap works on, and the callback may use it.
  for (void* p : all) h.free(p);
  EXPECT_NE(h.malloc(4_MiB), nullptr);
}

TEST_F(heap_memory_test, on_report_may_use_the_heap_that_is_out_of_memory) {
  heap* self = nullptr;
  void* last = nullptr;
  heap_options o = options(8_MiB);
  o.on_report = [&](const std::string&) {
    self->free(last);
    last = nullptr;
  };
  heap h(o);
  self = &h;
  while (void* p = h.malloc(1_MiB)) last = p;
  EXPECT_EQ(last, nullptr);
  EXPECT_NE(h.malloc(1_MiB), nullptr);
}

TEST_F(heap_memory_test, the_memory_limit_is_kept) {
  heap_options o = options(1_GiB);
  o.memory_limit = 32_MiB;
  heap h(o);
  EXPECT_EQ(h.memory().memory_limit, 32_MiB);
  std::vector<void*> all;
  while (void* p = h.malloc(1_MiB)) {
    std::memset(p, 1, 1_MiB);
    all.push_back(p);
  }
  EXPECT_GE(all.size(), 30u);
  EXPECT_LE(all.size(), 31u);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("out of memory: cannot allocate 1048576-byte block"), std::string::npos);
  EXPECT_LE(h.memory().committed, 32_MiB);
  // What is free makes room for what is wanted in another place.
  for (std::size_t i = 0; i < all.size(); i += 2) h.free(all[i]);
  void* p = h.malloc(12_MiB);
  EXPECT_NE(p, nullptr);
  const memory_stats m = h.memory();
  EXPECT_LE(m.committed, 32_MiB);
  EXPECT_GT(m.scavenged_limit + m.scavenged_growth, 0u);
  h.set_memory_limit(0);
  EXPECT_EQ(h.memory().memory_limit, 0u);
  EXPECT_NE(h.malloc(200_MiB), nullptr);
}

TEST_F(heap_memory_test, small_objects_keep_the_limit_too) {
  heap_options o = options(1_GiB);
  o.memory_limit = 16_MiB;
  heap h(o);
  for (int round = 0; round < 3; ++round) {
    std::vector<void*> all;
    const std::size_t n = round == 1 ? 16 : 3000;
    while (void* p = h.malloc(n)) all.push_back(p);
    EXPECT_GE(all.size() * n, 10_MiB) << n;
    EXPECT_LE(h.memory().committed, 16_MiB);
    for (void* p : all) h.free(p);
  }
}

std::size_t resident_pages(const std::byte* start, std::size_t bytes) {
  std::vector<unsigned char> there(bytes / 4096);
  // The last byte of a vector of bits: which pages have memory.
  EXPECT_EQ(mincore(const_cast<std::byte*>(start), bytes, there.data()), 0);
  return static_cast<std::size_t>(
      std::count_if(there.begin(), there.end(), [](unsigned char c) { return (c & 1) != 0; }));
}

// What Go's test of physical memory does: objects that alternate are freed, and then others come
// that do not fit in the holes.
TEST_F(heap_memory_test, physical_memory_stays_near_what_is_used) {
  heap h(options(512_MiB));
  constexpr std::size_t size = 256_KiB, count = 128;
  std::vector<std::byte*> all;
  for (std::size_t i = 0; i < count; ++i) {
    all.push_back(static_cast<std::byte*>(h.malloc(size)));
    std::memset(all.back(), 1, size);
  }
  for (std::size_t i = 0; i < count; i += 2) h.free(all[i]);
  for (int i = 0; i < 8; ++i) {
    void* p = h.malloc(2_MiB);
    std::memset(p, 1, 2_MiB);
  }
  const memory_stats m = h.memory();
  const std::size_t live = count / 2 * size + 8 * 2_MiB;
  EXPECT_GE(m.heap_alloc, live);
  // The kernel's word for it: of the reservation, that much is in memory.
  const heap_view view = h.device();
  const std::size_t resident = 4096 * resident_pages(view.base, view.bytes);
  EXPECT_GE(resident, live);
  EXPECT_LE(resident, m.committed);
  EXPECT_LE(static_cast<double>(resident), 1.25 * static_cast<double>(live) + (4 << 20));
}

TEST_F(heap_memory_test, unused_memory_goes_in_the_background) {
  heap h(options(512_MiB));
  void* p = h.malloc(64_MiB);
  std::memset(p, 1, 64_MiB);
  h.free(p);
  // Large objects are kept by their thread for a while; this one is too large.
  const memory_stats before = h.memory();
  EXPECT_GE(before.committed, 64_MiB);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (h.memory().committed > 8_MiB && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const memory_stats m = h.memory();
  EXPECT_LE(m.committed, 8_MiB);
  EXPECT_GE(m.scavenged_background, 56_MiB);
  EXPECT_GE(m.committed, 1_MiB);  // some is kept
}

}  // namespace
