// Memory is cleared when it was used before and zero is asked for, and not otherwise: what the
// system has just given reads zero, and is not touched.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <cstring>
#include <vector>
#include <warpheap/heap.hpp>

namespace {

using namespace warpheap;

constexpr std::size_t bytes = 4_MiB;

/// Pages of the system at p that hold memory.
std::ptrdiff_t resident(void* p) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> in_core(bytes / page);
  EXPECT_EQ(mincore(p, bytes, in_core.data()), 0);
  return std::count_if(in_core.begin(), in_core.end(),
                       [](unsigned char c) { return (c & 1) != 0; });
}

bool is_zero(void* p) {
  const auto* c = static_cast<const unsigned char*>(p);
  return std::all_of(c, c + bytes, [](unsigned char x) { return x == 0; });
}

TEST(needzero, fresh_pages_are_not_touched_and_used_ones_are_cleared) {
  heap h({.reserve_bytes = 64_MiB,
          .backend = backend_kind::simt,
          .refill_service = false,
          .report_leaks = false});
  void* p = h.calloc(1, bytes);
  EXPECT_EQ(resident(p), 0);
  EXPECT_TRUE(is_zero(p));
  std::memset(p, 0xaa, bytes);
  h.free(p);
  void* plain = h.malloc(bytes);
  EXPECT_EQ(plain, p);
  EXPECT_FALSE(is_zero(plain));  // nobody asked
  h.free(plain);
  void* again = h.calloc(1, bytes);
  EXPECT_EQ(again, p);
  EXPECT_TRUE(is_zero(again));
  std::memset(again, 0xaa, bytes);
  h.free(again);
  // Given back to the system: fresh again.
  h.trim();
  void* fresh = h.calloc(1, bytes);
  EXPECT_EQ(fresh, p);
  EXPECT_EQ(resident(fresh), 0);
  EXPECT_TRUE(is_zero(fresh));
}

}  // namespace
