// Whatever is passed to a call of the C++ and C interfaces, it is answered, and the heap works on.
#include <gtest/gtest.h>
#include <warpheap/warpheap.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>
#include <warpheap/allocator.hpp>
#include <warpheap/heap.hpp>
#include <warpheap/memory_resource.hpp>
#include <warpheap/region.hpp>

namespace warpheap::bad_input_cases {
namespace {

constexpr std::size_t most = ~std::size_t{0};
constexpr std::size_t sizes[] = {0,           1,          15,     100,        32768,
                                 5'000'000,   64_MiB - 1, 64_MiB, 64_MiB + 1, most / 2,
                                 most - 8191, most - 15,  most};
constexpr std::size_t alignments[] = {
    0, 1, 2, 3, 8, 16, 24, 4096, 8192, 16384, 1 << 20, 64_MiB, 1ull << 40, 1ull << 63, most};

/// Plain, and with each debug mode.
std::vector<std::string> all_modes() {
  return {"", "red_zones", "quarantine", "clobber", "annotate", "efence", "sbrk", "profile"};
}

heap_options with(const std::string& mode) {
  heap_options o;
  o.reserve_bytes = 64_MiB;
  o.backend = backend_kind::simt;
  o.refill_service = false;
  o.report_leaks = false;
  o.on_report = [](const std::string&) {};
  o.red_zones = mode == "red_zones";
  o.quarantine_bytes = mode == "quarantine" ? 100'000 : 0;
  o.clobber_free = mode == "clobber";
  o.annotate = mode == "annotate";
  o.efence = mode == "efence";
  o.sbrk = mode == "sbrk";
  o.profile_rate = mode == "profile" ? 1000 : 0;
  return o;
}

struct bad_input : ::testing::TestWithParam<std::string> {
  heap h{with(GetParam())};
  heap other{with("")};
  static inline int a_static = 0;
  char* kept = static_cast<char*>(h.malloc(1000));

  void SetUp() override {
    ASSERT_NE(kept, nullptr);
    std::memset(kept, 'k', 1000);
  }
  /// Pointers that are no object of h.
  std::vector<void*> wrong_pointers() {
    void* const freed_small = h.malloc(300);
    void* const freed_tiny = h.malloc(3);
    void* const freed_large = h.malloc(100'000);
    for (void* p : {freed_small, freed_tiny, freed_large}) h.free(p);
    auto* const base = static_cast<char*>(h.malloc(0));
    static thread_local int on_stack = 0;
    const auto at = [](std::uintptr_t address) { return reinterpret_cast<void*>(address); };
    return {at(1),
            at(8),
            at(4096),
            at(most),
            at(most - 7),
            at(std::uintptr_t{1} << 47),
            at(std::uintptr_t{1} << 48),
            at(std::uintptr_t{1} << 63),
            base - 1,
            base - 8192,
            base + 8,
            base + 8192 - 1,
            base + 64_MiB - 1,
            base + 64_MiB,
            kept + 1,
            kept + 8,
            kept + 999,
            freed_small,
            freed_tiny,
            freed_large,
            &on_stack,
            &a_static,
            other.malloc(100)};
  }
  void TearDown() override {
    EXPECT_TRUE(std::all_of(kept, kept + 1000, [](char c) { return c == 'k'; }));
    EXPECT_GE(h.usable_size(kept), 1000u);
    for (const std::size_t n : {std::size_t{5}, std::size_t{500}, std::size_t{50'000}}) {
      void* p = h.malloc(n);
      ASSERT_NE(p, nullptr);
      std::memset(p, 1, n);
      h.free(p);
    }
    const heap_stats s = h.stats();
    EXPECT_GE(s.host.live_objects, 1u);
    EXPECT_EQ(s.unreachable_words, 0u);
  }
};

TEST_P(bad_input, wrong_pointers_are_told_and_nothing_else) {
  const auto wrong = wrong_pointers();
  (void)h.errors();
  const bool frees = GetParam() != "sbrk";  // there nothing is looked at
  for (void* p : wrong) {
    SCOPED_TRACE(p);
    if (frees) {
      EXPECT_EQ(h.usable_size(p), 0u);
      for (const std::size_t n : sizes) {
        if (n != 0) {
          EXPECT_EQ(h.realloc(p, n), nullptr);
        }
      }
    }
    h.free(p);
    h.free(p);
  }
  if (frees) {
    EXPECT_GE(h.errors().size(), 2 * wrong.size());
  }
  h.free(nullptr);
  EXPECT_EQ(h.usable_size(nullptr), 0u);
  void* const none = h.malloc(0);
  h.free(none);
  h.free(none);
  EXPECT_EQ(h.usable_size(none), 0u);
}

TEST_P(bad_input, sizes_and_alignments_are_answered) {
  for (const std::size_t n : sizes) {
    SCOPED_TRACE(n);
    void* p = h.malloc(n);
    if (n > 64_MiB) {
      EXPECT_EQ(p, nullptr);
    }
    h.free(p);
    for (const std::size_t m : sizes) {
      p = h.calloc(n, m);
      if (m != 0 && n > 64_MiB / m) {
        EXPECT_EQ(p, nullptr);
      }
      h.free(p);
    }
    for (const std::size_t align : alignments) {
      p = h.aligned_alloc(align, n);
      if (align == 0 || (align & (align - 1)) != 0) {
        EXPECT_EQ(p, nullptr);
      }
      EXPECT_TRUE(p == nullptr || reinterpret_cast<std::uintptr_t>(p) % align == 0);
      h.free(p);
      const std::size_t stack = heap::stack_size(n, align);
      if (align == 0 || (align & (align - 1)) != 0 || align > 8192 || n > most / 2 + 1) {
        EXPECT_EQ(stack, 0u) << align;
      }
      EXPECT_TRUE(stack == 0 || (stack >= n && stack >= align && (stack & (stack - 1)) == 0));
      if (void* s = h.acquire_stack(n, align); s != nullptr) h.release_stack(s, n, align);
    }
  }
  void* p = h.malloc(100);
  for (const std::size_t n : sizes) {
    if (n <= 64_MiB) continue;
    EXPECT_EQ(h.realloc(p, n), nullptr);
    EXPECT_GE(h.usable_size(p), 100u);
  }
  EXPECT_NE(h.realloc(p, 0), nullptr);
  EXPECT_EQ(h.realloc(nullptr, most), nullptr);
}

TEST_P(bad_input, containers_and_regions_throw_or_answer_nullptr) {
  allocator<std::uint64_t> a(h);
  for (const std::size_t n : {most, most / 8, most / 16, std::size_t{1} << 60})
    EXPECT_THROW((void)a.allocate(n), std::bad_alloc) << n;
  memory_resource resource(h);
  std::pmr::memory_resource& r = resource;
  const volatile std::size_t nearly_most = most - 100;  // or the compiler refuses it
  for (const std::size_t align : {std::size_t{1}, std::size_t{8}, std::size_t{1} << 20})
    EXPECT_THROW((void)r.allocate(nearly_most, align), std::bad_alloc);
  region in(h);
  for (const std::size_t n : sizes) {
    for (const std::size_t align : alignments) {
      void* p = in.malloc(n, align);
      if (align == 0 || (align & (align - 1)) != 0 || align > 8192 || n > 64_MiB) {
        EXPECT_EQ(p, nullptr) << n << " " << align;
      }
    }
    in.clear();
  }
}

INSTANTIATE_TEST_SUITE_P(modes, bad_input, ::testing::ValuesIn(all_modes()), [](const auto& mode) {
  return mode.param.empty() ? "plain" : mode.param;
});

/// errno of a call of the C interface that fails.
template <class F>
int errno_of(F&& call) {
  errno = 0;
  const bool failed = call();
  return failed ? errno : -1;
}

TEST(bad_input_of_c, is_told_by_errno) {
  warpheap_options o;
  warpheap_options_init(&o);
  o.reserve_bytes = 64_MiB;
  o.backend = WARPHEAP_BACKEND_SIMT;
  o.refill_service = 0;
  o.report_leaks = 0;
  o.on_report = [](void*, const char*) {};
  warpheap_heap* const heap = warpheap_create(&o);
  ASSERT_NE(heap, nullptr);
  for (const std::size_t n : sizes) {
    SCOPED_TRACE(n);
    for (const auto alloc : {warpheap_malloc, warpheap_malloc_pointers}) {
      void* p = nullptr;
      const int e = errno_of([&] { return (p = alloc(heap, n)) == nullptr; });
      EXPECT_EQ(e, p == nullptr ? ENOMEM : -1);
      EXPECT_TRUE(p == nullptr || n < 64_MiB);
      warpheap_free(heap, p);
    }
    for (const std::size_t m : sizes) {
      for (const auto alloc : {warpheap_calloc, warpheap_calloc_pointers}) {
        void* p = nullptr;
        const int e = errno_of([&] { return (p = alloc(heap, n, m)) == nullptr; });
        EXPECT_EQ(e, p == nullptr ? ENOMEM : -1);
        warpheap_free(heap, p);
      }
    }
    for (const std::size_t align : alignments) {
      const bool valid = align != 0 && (align & (align - 1)) == 0;
      for (const auto alloc : {warpheap_aligned_alloc, warpheap_aligned_alloc_pointers}) {
        void* p = nullptr;
        const int e = errno_of([&] { return (p = alloc(heap, align, n)) == nullptr; });
        EXPECT_EQ(e, p != nullptr ? -1 : valid ? ENOMEM : EINVAL) << align;
        warpheap_free(heap, p);
      }
      void* s = nullptr;
      const int e =
          errno_of([&] { return (s = warpheap_acquire_stack(heap, n, align)) == nullptr; });
      EXPECT_EQ(e, s != nullptr ? -1 : valid && align <= 8192 ? ENOMEM : EINVAL) << align;
      warpheap_release_stack(heap, s, n, align);
      if (!valid) {
        EXPECT_EQ(errno_of([&] { return warpheap_stack_size(n, align) == 0; }), EINVAL);
      }
    }
  }
  char* const freed = static_cast<char*>(warpheap_malloc(heap, 100));
  warpheap_free(heap, freed);
  int local = 0;
  const auto at = [](std::uintptr_t address) { return reinterpret_cast<void*>(address); };
  for (void* p : {static_cast<void*>(freed), static_cast<void*>(freed + 1),
                  static_cast<void*>(&local), at(1), at(most), at(std::uintptr_t{1} << 63)}) {
    for (const std::size_t n : {std::size_t{1}, std::size_t{100}, most})
      EXPECT_EQ(errno_of([&] { return warpheap_realloc(heap, p, n) == nullptr; }), EINVAL);
    errno = EBADF;
    warpheap_free(heap, p);
    EXPECT_EQ(errno, EBADF);
    EXPECT_EQ(warpheap_usable_size(heap, p), 0u);
  }
  warpheap_destroy(heap);
}

TEST(bad_input_of_c, a_region_of_any_sizes) {
  warpheap_options o;
  warpheap_options_init(&o);
  o.reserve_bytes = 64_MiB;
  o.backend = WARPHEAP_BACKEND_SIMT;
  o.on_report = [](void*, const char*) {};
  warpheap_heap* const heap = warpheap_create(&o);
  ASSERT_NE(heap, nullptr);
  for (const std::size_t first : sizes) {
    for (const std::size_t largest : sizes) {
      warpheap_region* const r = warpheap_region_create(heap, first, largest);
      ASSERT_NE(r, nullptr);
      for (const std::size_t n : sizes) {
        void* p = nullptr;
        const int e = errno_of([&] { return (p = warpheap_region_malloc(r, n, 16)) == nullptr; });
        EXPECT_EQ(e, p == nullptr ? ENOMEM : -1) << first << " " << largest << " " << n;
      }
      warpheap_region_destroy(r);
    }
  }
  EXPECT_EQ(errno_of([&] { return warpheap_region_create(nullptr, 0, 0) == nullptr; }), EINVAL);
  warpheap_region_destroy(nullptr);
  warpheap_destroy(heap);
}

}  // namespace
}  // namespace warpheap::bad_input_cases
