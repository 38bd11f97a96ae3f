// malloc and its family as a program meets them that runs with the library preloaded.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/malloc/process.hpp"

namespace {

using warpheap::test::ended;
using warpheap::test::in_child;
using warpheap::test::run_disabled_test;

// Sizes that the compiler must not see.
volatile std::size_t size_max = SIZE_MAX;

std::uintptr_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

TEST(malloc_test, every_object_is_aligned_for_what_fits) {
  for (std::size_t n = 1; n < 70000; n += n < 300 ? 1 : 257) {
    for (int i = 0; i < 3; ++i) {
      void* p = malloc(n);
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(address(p) % (n <= 8 ? 8 : 16), 0u) << n;
      EXPECT_GE(malloc_usable_size(p), n);
      std::memset(p, 1, malloc_usable_size(p));
      void* q = calloc(n, 1);
      EXPECT_EQ(address(q) % (n <= 8 ? 8 : 16), 0u) << n;
      EXPECT_TRUE(std::all_of(static_cast<char*>(q), static_cast<char*>(q) + n,
                              [](char c) { return c == 0; }));
      p = realloc(p, n + 10);
      EXPECT_EQ(address(p) % 16, 0u) << n;
      free(p);
      free(q);
    }
  }
}

TEST(malloc_test, objects_of_no_bytes_differ) {
  std::set<void*> seen;
  for (int i = 0; i < 1000; ++i) {
    void* p = i % 3 == 0 ? malloc(0) : i % 3 == 1 ? calloc(0, 5) : aligned_alloc(64, 0);
    ASSERT_NE(p, nullptr);
    EXPECT_TRUE(seen.insert(p).second);
  }
  for (void* p : seen) free(p);
}

TEST(malloc_test, calloc_clears_used_memory) {
  std::mt19937 random(3);
  for (int i = 0; i < 3000; ++i) {
    const std::size_t n = 1 + random() % (i % 10 == 0 ? 300000 : 2000);
    void* dirty = malloc(n);
    std::memset(dirty, 0xff, n);
    free(dirty);
    auto* p = static_cast<unsigned char*>(calloc(n, 1));
    ASSERT_NE(p, nullptr);
    ASSERT_EQ(std::count(p, p + n, 0), static_cast<std::ptrdiff_t>(n));
    free(p);
  }
}

TEST(malloc_test, realloc_keeps_the_contents) {
  std::mt19937 random(4);
  std::vector<unsigned char> model;
  unsigned char* p = nullptr;
  for (int i = 0; i < 2000; ++i) {
    const std::size_t n = 1 + random() % (random() % 20 == 0 ? 1000000 : 5000);
    p = static_cast<unsigned char*>(realloc(p, n));
    ASSERT_NE(p, nullptr);
    const std::size_t kept = std::min(n, model.size());
    ASSERT_TRUE(std::equal(p, p + kept, model.begin()));
    model.resize(n);
    for (unsigned char& byte : model) byte = static_cast<unsigned char>(random());
    std::copy(model.begin(), model.end(), p);
  }
  EXPECT_EQ(realloc(p, 0), nullptr);
  EXPECT_EQ(malloc_usable_size(p), 0u);
  void* q = reallocarray(nullptr, 10, 10);
  EXPECT_GE(malloc_usable_size(q), 100u);
  free(q);
}

TEST(malloc_test, what_cannot_be_is_null_with_errno) {
  const std::size_t most = size_max;
  for (const std::size_t n : {most, most - 20, most / 2, most / 2 + 1, std::size_t{1} << 46}) {
    errno = 0;
    EXPECT_EQ(malloc(n), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(calloc(n, 1), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(aligned_alloc(64, n), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(memalign(4096, n), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(valloc(n), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(pvalloc(n), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    char* p = static_cast<char*>(malloc(100));
    std::strcpy(p, "kept");
    errno = 0;
    EXPECT_EQ(realloc(p, n), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_STREQ(p, "kept");
    free(p);
  }
  errno = 0;
  EXPECT_EQ(calloc(most / 4, 5), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  char* p = static_cast<char*>(malloc(100));
  errno = 0;
  EXPECT_EQ(reallocarray(p, most / 4, 5), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_GE(malloc_usable_size(p), 100u);
  free(p);
}

TEST(malloc_test, alignments) {
  for (std::size_t align = 1; align <= std::size_t{1} << 22; align *= 2) {
    for (const std::size_t n : {1, 8, 9, 24, 100, 5000, 40000, 100000}) {
      void* p = aligned_alloc(align, n);
      void* q = memalign(align, n);
      ASSERT_NE(p, nullptr);
      ASSERT_NE(q, nullptr);
      EXPECT_EQ((address(p) | address(q)) % std::max<std::size_t>(align, n <= 8 ? 8 : 16), 0u);
      EXPECT_GE(malloc_usable_size(p), n);
      std::memset(p, 2, n);
      if (align >= 8) {
        void* r = nullptr;
        ASSERT_EQ(posix_memalign(&r, align, n), 0);
        EXPECT_EQ(address(r) % align, 0u);
        free(r);
      }
      p = realloc(p, n + 1000);
      EXPECT_EQ(static_cast<char*>(p)[n - 1], 2);
      free(p);
      free(q);
    }
  }
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* p = valloc(10);
  EXPECT_EQ(address(p) % page, 0u);
  void* q = pvalloc(page + 1);
  EXPECT_EQ(address(q) % page, 0u);
  EXPECT_GE(malloc_usable_size(q), 2 * page);
  free(p);
  free(q);
}

TEST(malloc_test, alignments_that_are_none) {
  for (const std::size_t align : {std::size_t{0}, std::size_t{3}, std::size_t{24}, size_max + 0}) {
    errno = 0;
    EXPECT_EQ(aligned_alloc(align, 100), nullptr);
    EXPECT_EQ(errno, EINVAL);
  }
  // This one rounds them up.
  for (const std::size_t align :
       {std::size_t{0}, std::size_t{3}, std::size_t{24}, std::size_t{100}}) {
    void* rounded = memalign(align, 100);
    ASSERT_NE(rounded, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(rounded) % std::bit_ceil(align), 0u) << align;
    free(rounded);
  }
  for (const std::size_t align : {size_max / 2 + 2, size_max + 0}) {
    errno = 0;
    EXPECT_EQ(memalign(align, 100), nullptr);
    EXPECT_EQ(errno, EINVAL);
  }
  int local = 0;
  void* const before = &local;
  void* p = before;
  errno = EBADF;
  for (const std::size_t align : {0, 1, 2, 4, 12, 24}) {
    EXPECT_EQ(posix_memalign(&p, align, 100), EINVAL);
  }
  EXPECT_EQ(posix_memalign(&p, 64, size_max / 2), ENOMEM);
  EXPECT_EQ(posix_memalign(&p, std::size_t{1} << 62, 100), ENOMEM);
  EXPECT_EQ(p, before);
  EXPECT_EQ(errno, EBADF);
}

TEST(malloc_test, free_leaves_errno) {
  std::vector<void*> objects;
  for (std::size_t n = 1; n < 1 << 24; n *= 3) objects.push_back(malloc(n));
  objects.push_back(nullptr);
  for (void* p : objects) {
    errno = EBADF;
    free(p);
    EXPECT_EQ(errno, EBADF);
  }
}

TEST(malloc_test, wrong_pointers_are_reported_and_harmless) {
  const ended e = in_child([] {
    char* p = static_cast<char*>(malloc(100));
    char* q = static_cast<char*>(malloc(100));
    std::strcpy(q, "kept");
    static char none[64];
    errno = EBADF;
    free(p);
    free(p);
    free(q + 8);
    free(none);
    free(reinterpret_cast<void*>(8));
    free(reinterpret_cast<void*>(size_max - 7));
    if (errno != EBADF) return 1;
    if (malloc_usable_size(none) != 0 || malloc_usable_size(nullptr) != 0) return 2;
    errno = 0;
    if (realloc(none, 50) != nullptr || errno != EINVAL) return 3;
    errno = 0;
    if (realloc(q + 1, 50) != nullptr || errno != EINVAL) return 4;
    if (std::strcmp(q, "kept") != 0) return 5;
    for (int i = 0; i < 100; ++i) free(none);
    free(q);
    void* again = malloc(100);
    free(again);
    return again != nullptr ? 0 : 6;
  });
  EXPECT_EQ(e.code, 0);
  EXPECT_NE(e.errors.find("double free"), std::string::npos) << e.errors;
  EXPECT_NE(e.errors.find("middle of an object"), std::string::npos) << e.errors;
  EXPECT_NE(e.errors.find("outside the heap"), std::string::npos) << e.errors;
  EXPECT_EQ(std::count(e.errors.begin(), e.errors.end(), '\n'), 8) << e.errors;
}

TEST(malloc_test, memory_comes_back) {
  for (int round = 0; round < 200; ++round) {
    char* p = static_cast<char*>(malloc(64 << 20));
    ASSERT_NE(p, nullptr);
    p[round << 10] = 1;
    free(p);
  }
  void* p = malloc(32 << 20);
  std::memset(p, 1, 32 << 20);
  free(p);
  EXPECT_EQ(malloc_trim(0), 1);
}

// --- limits: each in a process of its own --------------------------------------------------------

TEST(malloc_test, address_space_limit_is_kept) {
  const ended e = run_disabled_test("under_a_limit", [] {
    const rlimit limit{std::size_t{600} << 20, std::size_t{600} << 20};
    setrlimit(RLIMIT_AS, &limit);
  });
  EXPECT_EQ(e.code, 0) << e.errors;
}

TEST(malloc_test, DISABLED_under_a_limit) {
  std::vector<void*> objects;
  errno = 0;
  for (void* p; (p = malloc(1 << 20)) != nullptr;) objects.push_back(p);
  EXPECT_EQ(errno, ENOMEM);
  // Half of it is reserved at first, and the rest in arenas as it is needed.
  EXPECT_GE(objects.size(), 450u);
  EXPECT_LT(objects.size(), 600u);
  for (void* p : objects) EXPECT_GE(malloc_usable_size(p), std::size_t{1} << 20);
  EXPECT_EQ(malloc(std::size_t{550} << 20), nullptr);
  for (void* p : objects) free(p);
  void* p = malloc(std::size_t{50} << 20);
  EXPECT_NE(p, nullptr);
  free(p);
}

TEST(malloc_test, reserve_of_the_environment) {
  const ended e =
      run_disabled_test("reserve", [] { setenv("WARPHEAP", "leaks=0,reserve=64M", 1); });
  EXPECT_EQ(e.code, 0) << e.errors;
}

TEST(malloc_test, DISABLED_reserve) {
  EXPECT_EQ(malloc(65 << 20), nullptr);
  void* p = malloc(30 << 20);
  EXPECT_NE(p, nullptr);
  free(p);
}

TEST(malloc_test, no_address_space_for_any_heap) {
  // Enough for the program and its libraries, and not for the smallest heap and its alignment.
  const ended e = run_disabled_test("reserve", [] {
    const rlimit limit{std::size_t{64} << 20, std::size_t{64} << 20};
    setrlimit(RLIMIT_AS, &limit);
  });
  EXPECT_EQ(e.code, -SIGABRT);
  EXPECT_EQ(e.errors, "warpheap: fatal: cannot reserve arena virtual address space\n");
}

// 64 GiB, 32, ... are refused until one is granted.
TEST(malloc_test, reservation_that_is_refused_is_halved) {
  const ended e = run_disabled_test("under_a_limit", [] {
    const rlimit limit{std::size_t{600} << 20, std::size_t{600} << 20};
    setrlimit(RLIMIT_AS, &limit);
    setenv("WARPHEAP", "reserve=64G", 1);
  });
  EXPECT_EQ(e.code, 0) << e.errors;
}

TEST(malloc_test, memory_limit_of_the_environment) {
  const ended e =
      run_disabled_test("memory_limit", [] { setenv("WARPHEAP", "memory_limit=96M", 1); });
  EXPECT_EQ(e.code, 0) << e.errors;
}

TEST(malloc_test, DISABLED_memory_limit) {
  errno = 0;
  EXPECT_EQ(malloc(100 << 20), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  // What was freed makes room for more than fits beside it.
  for (int i = 0; i < 4; ++i) {
    void* p = malloc(static_cast<std::size_t>(50 + i) << 20);
    ASSERT_NE(p, nullptr);
    std::memset(p, 1, 50 << 20);
    EXPECT_EQ(malloc(60 << 20), nullptr);
    free(p);
  }
}

TEST(malloc_test, bad_values_of_the_environment_are_ignored_with_a_warning) {
  const std::array<const char*, 3> bad[] = {{"reserve=", "reserve=", "expected a size"},
                                            {"reserve=12", "reserve=12", "the least is 8M"},
                                            {"reserve=64X", "reserve=64X", "expected a size"},
                                            {"reserve=99999999999999999999", "reserve=9", "a size"},
                                            {"reserve=-1", "reserve=-1", "expected a size"},
                                            {",,=,", "\"=\"", "unknown key"},
                                            {"efence=yes", "efence=yes", "expected 0 or 1"},
                                            {"quarentine=1M", "quarentine=1M", "known are reserve"},
                                            {"leaks=0,efence", "\"efence\"", "key=value"},
                                            {"reserve=2000T", "reserve=2000T", "the most is 1T"}};
  for (const auto& [text, part, why] : bad) {
    const ended e = run_disabled_test("much", [value = text] { setenv("WARPHEAP", value, 1); });
    EXPECT_EQ(e.code, 0) << text << ": " << e.errors;
    EXPECT_NE(e.errors.find(part), std::string::npos) << text << ": " << e.errors;
    EXPECT_NE(e.errors.find(why), std::string::npos) << text << ": " << e.errors;
    EXPECT_EQ(std::count(e.errors.begin(), e.errors.end(), '\n'), 1) << e.errors;
  }
}

TEST(malloc_test, options_of_other_heaps_are_no_mistakes) {
  const ended e = run_disabled_test("much", [] {
    setenv("WARPHEAP",
           "least_reserve=64M,stock=1M,backend=simt,timeout_us=5,service=0,scavenge=0,"
           "leaks=0,events=0,print_state=-,reserve=1.5G,memory_limit=1.25GiB,",
           1);
  });
  EXPECT_EQ(e.code, 0);
  EXPECT_EQ(e.errors, "");
}

TEST(malloc_test, DISABLED_much) {
  void* p = malloc(std::size_t{200} << 20);
  EXPECT_NE(p, nullptr);
  free(p);
}

/// With the library, on a system of pages of 16 KiB.
ended on_large_pages(const std::string& test, const char* counted) {
  return run_disabled_test(test, [&] {
    const char* const library = getenv("LD_PRELOAD");
    const std::string both =
        std::string(WARPHEAP_TEST_LARGE_PAGES) + ":" + (library != nullptr ? library : "");
    setenv("LD_PRELOAD", both.c_str(), 1);
    setenv("WARPHEAP", "reserve=1G", 1);  // its tables are below what is refused
    if (counted != nullptr) setenv(counted, "1", 1);
  });
}

TEST(malloc_test, pages_of_the_system_that_are_larger_than_the_heaps_lose_nothing) {
  for (const char* counted : {static_cast<const char*>(nullptr), "LARGE_PAGES_COUNTED"}) {
    const ended e = on_large_pages("large_pages", counted);
    EXPECT_EQ(e.code, 0) << e.errors;
  }
}

TEST(malloc_test, DISABLED_large_pages) {
  ASSERT_EQ(sysconf(_SC_PAGESIZE), 16384);
  constexpr std::size_t n = 2000, bytes = 40000;  // five pages of the heap's
  static unsigned char* all[n];
  for (unsigned char*& p : all) {
    p = static_cast<unsigned char*>(malloc(bytes));
    ASSERT_NE(p, nullptr);
    std::memset(p, 0x77, bytes);
  }
  for (std::size_t i = 0; i < n; i += 2) free(all[i]);
  malloc_trim(0);
  for (std::size_t i = 1; i < n; i += 2)
    ASSERT_EQ(std::count(all[i], all[i] + bytes, 0x77), std::ptrdiff_t{bytes}) << i;
  for (std::size_t i = 0; i < n; i += 2) {
    auto* p = static_cast<unsigned char*>(calloc(bytes, 1));
    ASSERT_NE(p, nullptr);
    ASSERT_EQ(std::count(p, p + bytes, 0), std::ptrdiff_t{bytes}) << i;
  }
}

TEST(malloc_test, an_environment_that_is_too_long_is_ignored_and_told) {
  // Cut off after 1023 characters it would end in reserve=64M.
  const std::string much(1011, ',');
  ended e =
      run_disabled_test("much", [&] { setenv("WARPHEAP", (much + ",reserve=64M00").c_str(), 1); });
  EXPECT_EQ(e.code, 0) << e.errors;
  EXPECT_NE(e.errors.find("WARPHEAP is ignored"), std::string::npos) << e.errors;
  e = run_disabled_test("reserve", [&] { setenv("WARPHEAP", (much + "reserve=64M").c_str(), 1); });
  EXPECT_EQ(e.code, 0) << e.errors;
  EXPECT_EQ(e.errors, "");
}

TEST(malloc_test, more_than_the_memory_is_refused) {
  FILE* file = std::fopen("/proc/sys/vm/overcommit_memory", "r");
  const bool promises_all = file != nullptr && std::fgetc(file) == '1';
  if (file != nullptr) std::fclose(file);
  struct sysinfo info {};
  ASSERT_EQ(sysinfo(&info), 0);
  const std::size_t all = (info.totalram + info.totalswap) * info.mem_unit;
  void* p = malloc(all + (std::size_t{1} << 30));
  EXPECT_EQ(p != nullptr, promises_all);
  free(p);
  p = malloc(all / 2);
  EXPECT_NE(p, nullptr);
  free(p);
}

}  // namespace
