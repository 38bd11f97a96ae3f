// What stops a heap from starting, and what stops a program that calls it where it must not.
//
// The linker lets this file stand between the library and sysconf (CMakeLists.txt: --wrap).
#include <sys/resource.h>
#include <unistd.h>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <warpheap/heap.hpp>

#include <gtest/gtest.h>

#include "host/host_heap.hpp"
#include "host/os_page.hpp"
#include "tests/host_region.hpp"

namespace {
constexpr long as_it_is = -2;
long told_page_size = as_it_is;
}  // namespace

extern "C" {
long __real_sysconf(int name);
long __wrap_sysconf(int name) {
  return name == _SC_PAGESIZE && told_page_size != as_it_is ? told_page_size : __real_sysconf(name);
}
}

namespace {

using namespace warpheap;

heap_options small_heap_options() {
  heap_options o;
  o.reserve_bytes = 8_MiB;
  o.backend = backend_kind::simt;
  o.report_leaks = false;
  return o;
}

/// Why no heap can be made on a system that tells this page size; "" if one can.
std::string refusal(long page_size) {
  told_page_size = page_size;
  std::string why;
  try {
    heap h(small_heap_options());
  } catch (const heap_error& error) {
    why = error.what();
  }
  told_page_size = as_it_is;
  return why;
}

TEST(start_errors, the_systems_page_size) {
  EXPECT_EQ(refusal(0), "failed to get system page size (0 bytes)");
  EXPECT_EQ(refusal(-1), "failed to get system page size (-1 bytes)");
  EXPECT_EQ(refusal(12288), "bad system page size: it must be a power of 2 (12288 bytes)");
  EXPECT_EQ(refusal(2048),
            "bad system page size: it is smaller than the minimum of 4096 bytes (2048 bytes)");
  EXPECT_EQ(refusal(4096), "");
  EXPECT_EQ(os_page_error(65536), nullptr);
}

TEST(start_errors, memory_in_pages_larger_than_the_heaps_is_never_given_back) {
  told_page_size = 65536;
  heap h(small_heap_options());
  told_page_size = as_it_is;
  h.free(h.malloc(1_MiB));
  EXPECT_EQ(h.trim(), 0u);
  EXPECT_EQ(h.memory().heap_released + h.memory().committed,
            h.memory().heap_sys + h.memory().device_sys);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
std::size_t address_space_in_use() {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// Exits by 3, with what the heap says on standard error, when it cannot be made; else by 0, with
/// what the heap reports, when all that it has can be used.
[[noreturn]] void make_a_heap_in_little_address_space(std::size_t space, std::size_t reserve,
                                                      std::size_t least, bool service) {
  const std::size_t used = address_space_in_use();
  const rlimit little{used + space, used + space};
  setrlimit(RLIMIT_AS, &little);
  heap_options o = small_heap_options();
  o.reserve_bytes = reserve;
  o.least_reserve_bytes = least;
  o.refill_service = service;
  o.initial_stock_bytes = 0;  // or a kernel runs
  try {
    heap h(o);
    const std::size_t has = h.options().reserve_bytes;
    if (has != h.device().bytes || has != h.memory().reserved) std::_Exit(4);
    void* const p = h.malloc(has / 2);
    if (p == nullptr) std::_Exit(5);
    std::memset(p, 1, has / 2);
    h.free(p);
    std::_Exit(0);  // there may be too little for the stacks of the executor
  } catch (const heap_error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::_Exit(3);
  }
  std::_Exit(0);
}

TEST(start_errors, address_space_that_cannot_be_reserved) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(make_a_heap_in_little_address_space(64_MiB, 512_MiB, 0, false),
              ::testing::ExitedWithCode(3),
              "cannot reserve arena virtual address space: the system refused 512 MiB");
  EXPECT_EXIT(make_a_heap_in_little_address_space(64_MiB, 512_MiB, 200_MiB, false),
              ::testing::ExitedWithCode(3), "the system refused 200 MiB");
}

/// Exits by 3 when a heap of the smallest size that cannot be made is a heap_error with a text,
/// wherever the memory ends, and the one that tells of the tables is among them.
[[noreturn]] void make_the_smallest_heap_in_less_and_less() {
  bool tables_were_refused = false;
  for (std::size_t space = 32_MiB; space > 0; space -= 64_KiB) {
    const std::size_t used = address_space_in_use();
    const rlimit little{used + space, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &little);
    heap_options o = small_heap_options();
    o.reserve_bytes = o.least_reserve_bytes = min_reserve_bytes;
    o.initial_stock_bytes = 0;
    try {
      const heap h(o);
    } catch (const heap_error& error) {
      if (std::strstr(error.what(), "memory for the host's tables of a heap of 8 MiB") != nullptr)
        tables_were_refused = true;
      if (*error.what() == 0) std::_Exit(4);
    }
  }
  std::_Exit(tables_were_refused ? 3 : 5);
}

TEST(start_errors, the_smallest_heap_where_there_is_no_memory_for_tables) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(make_the_smallest_heap_in_less_and_less(), ::testing::ExitedWithCode(3), "");
}

// A default of 1 GiB, and what was said to do as well, where there is less. The service's thread
// needs its stack too.
TEST(start_errors, a_smaller_heap_where_there_is_little_address_space) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(make_a_heap_in_little_address_space(200_MiB, 1_GiB, 0, false),
              ::testing::ExitedWithCode(0), "no room for a heap of 1 GiB: it has [0-9]+ MiB");
  EXPECT_EXIT(make_a_heap_in_little_address_space(400_MiB, 1_GiB, 0, true),
              ::testing::ExitedWithCode(0), "no room for a heap of 1 GiB: it has [0-9]+ MiB");
  EXPECT_EXIT(make_a_heap_in_little_address_space(64_MiB, 512_MiB, 24_MiB, false),
              ::testing::ExitedWithCode(0), "no room for a heap of 512 MiB: it has 24 MiB");
  EXPECT_EXIT(make_a_heap_in_little_address_space(90_MiB, 700_MiB, 40_MiB, false),
              ::testing::ExitedWithCode(0), "no room for a heap of 700 MiB: it has 40 MiB");
}
#endif

TEST(start_errors, a_base_that_is_not_aligned) {
  test::host_region region(std::size_t{64} << 20);
  EXPECT_THROW(host_heap(region.base() + 4096, 1 << 20, region.source()), std::invalid_argument);
  EXPECT_THROW(host_heap(nullptr, 1 << 20, region.source()), std::invalid_argument);
  EXPECT_THROW(host_heap(region.base(), page_size, region.source()), std::invalid_argument);
}

/// A heap whose page source calls back.
struct reentry : ::testing::Test {
  test::host_region region{std::size_t{64} << 20};
  static inline host_heap* heap = nullptr;
  static inline void (*on_commit)() = nullptr;
  static inline void (*on_decommit)() = nullptr;

  page_source source() {
    page_source s = region.source();
    s.commit = [](void*, std::byte*, std::size_t) {
      if (on_commit != nullptr) on_commit();
      return true;
    };
    s.decommit = [](void*, std::byte*, std::size_t) {
      if (on_decommit != nullptr) on_decommit();
      return true;
    };
    s.needzero_after_decommit = true;
    return s;
  }
  host_heap h{region.base(), region.bytes(), source()};

  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    heap = &h;
    on_commit = on_decommit = nullptr;
  }
};

TEST_F(reentry, a_malloc_by_what_malloc_calls_aborts) {
  on_commit = [] { (void)heap->malloc(500); };
  EXPECT_DEATH((void)h.malloc(100), "malloc deadlock");
  EXPECT_DEATH((void)h.calloc(1, 1000000), "malloc deadlock");
}

TEST_F(reentry, calls_for_tiny_objects_and_stacks_abort_too) {
  static constexpr std::size_t stack = 4096;
  on_commit = [] { (void)heap->malloc(4); };
  EXPECT_DEATH((void)h.malloc(4), "malloc deadlock");
  EXPECT_DEATH((void)h.acquire_stack(stack), "malloc deadlock");
  EXPECT_DEATH((void)h.take_region_chunk(8), "malloc deadlock");
  on_commit = nullptr;
  void* p = h.malloc(15);
  ASSERT_NE(p, nullptr);
  on_commit = [] { (void)heap->malloc(9); };
  EXPECT_DEATH(
      {
        for (;;) (void)h.malloc(15);
      },
      "malloc deadlock");
  on_commit = [] { (void)heap->acquire_stack(stack); };
  EXPECT_DEATH(
      {
        for (;;) (void)h.malloc(15);
      },
      "malloc deadlock");
  on_commit = nullptr;
  EXPECT_EQ(h.free(p), free_status::ok);
}

TEST_F(reentry, a_malloc_by_what_gives_memory_back_aborts) {
  (void)h.free(h.malloc(100000));
  on_decommit = [] { (void)heap->malloc(4); };
  EXPECT_DEATH((void)h.trim(), "malloc deadlock");
}

TEST_F(reentry, a_free_by_what_malloc_calls_aborts) {
  static void* other = nullptr;
  other = h.malloc(100000);
  on_commit = [] { (void)heap->free(other); };
  EXPECT_DEATH((void)h.malloc(100), "malloc deadlock");
}

TEST_F(reentry, a_malloc_beside_a_bulk_free_aborts) {
  EXPECT_DEATH(
      {
        const host_heap::bulk_call bulk(h);
        (void)h.malloc(100);
      },
      "malloc during a reset or sweep");
  EXPECT_DEATH(
      {
        // By a thread that has a span of the class, when that is used up.
        (void)h.malloc(100);
        const host_heap::bulk_call bulk(h);
        for (unsigned i = 0; i < 1000; ++i) (void)h.malloc(100);
      },
      "malloc during a reset or sweep");
  h.reset();
  EXPECT_NE(h.malloc(100), nullptr);
}

TEST_F(reentry, a_malloc_by_a_signal_handler_that_interrupts_one_aborts) {
  std::signal(SIGUSR1, [](int) { (void)heap->malloc(500); });
  on_commit = [] { std::raise(SIGUSR1); };
  EXPECT_DEATH((void)h.malloc(100), "malloc during signal");
  on_commit = nullptr;
  // One that interrupts no call finds the heap as it is between calls.
  std::raise(SIGUSR1);
  EXPECT_EQ(h.stats().live_objects, 1u);
  std::signal(SIGUSR1, SIG_DFL);
}

}  // namespace
