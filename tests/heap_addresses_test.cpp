// Where heaps come to lie. (Go: TestArenaCollision.)
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <set>
#include <vector>
#include <warpheap/heap.hpp>

namespace {

using namespace warpheap;

constexpr unsigned hints = 0x80;
std::uintptr_t hint(unsigned i) { return std::uintptr_t{0xc0} << 32 | std::uintptr_t{i} << 40; }

heap small_heap() {
  return heap({.reserve_bytes = 16_MiB,
               .backend = backend_kind::simt,
               .refill_service = false,
               .report_leaks = false});
}

std::uintptr_t base_of(heap& h) { return reinterpret_cast<std::uintptr_t>(h.malloc(0)); }

bool works(heap& h) {
  std::vector<void*> all;
  while (void* p = h.malloc(100'000)) all.push_back(std::memset(p, 1, 100'000));
  const bool enough = all.size() > 80;
  for (void* p : all) h.free(p);
  return enough && h.errors().size() == 1;  // out of memory
}

/// Pages of others at hints, as far as they could be had.
class occupied {
 public:
  void at(unsigned i) {
    void* const wanted = reinterpret_cast<void*>(hint(i));
    void* p = mmap(wanted, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != wanted) {
      if (p != MAP_FAILED) munmap(p, bytes);
      return;
    }
    taken_.insert(i);
  }
  const std::set<unsigned>& taken() const { return taken_; }
  ~occupied() {
    for (unsigned i : taken_) munmap(reinterpret_cast<void*>(hint(i)), bytes);
  }
  static constexpr std::size_t bytes = 64 << 10;

 private:
  std::set<unsigned> taken_;
};

// The sanitizers have their own use for many of these addresses.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(heap_addresses, heaps_lie_at_hints_one_after_the_other) {
  std::set<std::uintptr_t> bases;
  for (int i = 0; i < 20; ++i) {
    heap h = small_heap();
    EXPECT_EQ(base_of(h) % (std::uintptr_t{1} << 40), hint(0)) << std::hex << base_of(h);
    bases.insert(base_of(h));
  }
  EXPECT_EQ(bases.size(), 20u);  // none where the last one was
}

TEST(heap_addresses, the_one_free_hint_is_found) {
  occupied others;
  for (unsigned i = 0; i < hints; ++i)
    if (i != 77) others.at(i);
  ASSERT_GT(others.taken().size(), 100u);
  heap h = small_heap();
  heap second = small_heap();
  EXPECT_EQ(base_of(h), hint(77));
  EXPECT_NE(base_of(second) % (std::uintptr_t{1} << 40), hint(0));  // somewhere else
  EXPECT_TRUE(works(h));
  EXPECT_TRUE(works(second));
}
#endif

// (Go: sysReserve, and sysMap by chunks.)
TEST(heap_addresses, address_space_that_was_never_used_cannot_be_touched) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  heap h = small_heap();
  auto* const base = static_cast<char*>(h.malloc(0));
  // A sanitizer's handler reports the signal and exits.
  const auto died = [](int status) {
    return WIFSIGNALED(status) ? WTERMSIG(status) == SIGSEGV
                               : WIFEXITED(status) && WEXITSTATUS(status) != 0;
  };
  const auto read = [](const volatile char* p) {
    const char is = *p;
    std::_Exit(is == 0 || is == 1 ? 0 : 1);
  };
  // The host's objects come from the top of the heap, and the device has pages at its bottom.
  auto* const object = static_cast<char*>(h.malloc(1000));
  EXPECT_GT(object, base + 8_MiB);
  EXPECT_EXIT(read(base + 5_MiB), died, "");
  EXPECT_EXIT(base[9_MiB] = 1, died, "");
  EXPECT_EXIT(read(object), ::testing::ExitedWithCode(0), "");
  EXPECT_TRUE(works(h));  // uses all of it
  EXPECT_EXIT(read(base + 9_MiB), ::testing::ExitedWithCode(0), "");
}

TEST(heap_addresses, collisions_are_avoided) {
  occupied others;
  for (unsigned i = 0; i < hints; ++i) others.at(i);
  std::vector<heap> heaps;
  for (int i = 0; i < 5; ++i) heaps.push_back(small_heap());
  for (heap& h : heaps) {
    const std::uintptr_t base = base_of(h);
    EXPECT_EQ(base % (4 << 20), 0u);
    for (unsigned i : others.taken()) {
      EXPECT_TRUE(base + 16_MiB <= hint(i) || hint(i) + occupied::bytes <= base)
          << std::hex << base << " overlaps " << hint(i);
    }
    EXPECT_TRUE(works(h));
  }
}

}  // namespace
