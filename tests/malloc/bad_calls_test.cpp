// Every function of the preloaded library with what no caller should pass. The wrong pointers that
// are passed to it all, and limits, are in malloc_test.cpp.
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <set>
#include <string>
#include <vector>

#include "tests/malloc/process.hpp"

namespace {

using warpheap::test::ended;
using warpheap::test::in_child;

// What the compiler must not know, which warns of such calls.
volatile std::size_t unknown = 0;
std::size_t hidden(std::size_t n) { return n + unknown; }
constexpr std::size_t half = std::size_t{1} << 32;  // the product of two of them is 0
constexpr std::size_t largest = PTRDIFF_MAX;

std::uintptr_t number(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

using new_form = void* (*)(std::size_t n, std::size_t align);
/// All that throw, and all that do not; the second half of each takes an alignment.
const std::vector<new_form> throwing = {
    [](std::size_t n, std::size_t) { return operator new(n); },
    [](std::size_t n, std::size_t) { return operator new[](n); },
    [](std::size_t n, std::size_t a) { return operator new (n, std::align_val_t{a}); },
    [](std::size_t n, std::size_t a) { return operator new[](n, std::align_val_t{a}); }};
const std::vector<new_form> quiet = {
    [](std::size_t n, std::size_t) { return operator new(n, std::nothrow); },
    [](std::size_t n, std::size_t) { return operator new[](n, std::nothrow); },
    [](std::size_t n, std::size_t a) {
      return operator new (n, std::align_val_t{a}, std::nothrow);
    },
    [](std::size_t n, std::size_t a) {
      return operator new[](n, std::align_val_t{a}, std::nothrow);
    }};

/// All ways to end an object.
using end_form = void (*)(void* p);
const std::vector<end_form> ends = {
    [](void* p) { free(p); },
    [](void* p) { EXPECT_EQ(realloc(p, 0), nullptr); },
    [](void* p) { EXPECT_EQ(reallocarray(p, 0, 7), nullptr); },
    [](void* p) { operator delete(p); },
    [](void* p) { operator delete[](p); },
    [](void* p) { operator delete(p, std::nothrow); },
    [](void* p) { operator delete[](p, std::nothrow); },
    [](void* p) { operator delete (p, std::size_t{64}); },
    [](void* p) { operator delete[](p, std::size_t{64}); },
    [](void* p) { operator delete (p, std::align_val_t{64}); },
    [](void* p) { operator delete[](p, std::align_val_t{64}); },
    [](void* p) { operator delete (p, std::size_t{64}, std::align_val_t{64}); },
    [](void* p) { operator delete[](p, std::size_t{64}, std::align_val_t{64}); },
    [](void* p) { operator delete (p, std::align_val_t{64}, std::nothrow); },
    [](void* p) { operator delete[](p, std::align_val_t{64}, std::nothrow); }};

TEST(bad_calls_test, products_that_wrap_are_no_memory) {
  char* const kept = static_cast<char*>(malloc(100));
  std::strcpy(kept, "kept");
  for (const auto& [count, size] :
       {std::pair{half, half}, std::pair{half, half + 1}, std::pair{SIZE_MAX, std::size_t{2}},
        std::pair{std::size_t{2}, SIZE_MAX}, std::pair{SIZE_MAX, SIZE_MAX},
        std::pair{largest, std::size_t{3}}, std::pair{largest / 2 + 1, std::size_t{2}}}) {
    errno = 0;
    EXPECT_EQ(calloc(hidden(count), hidden(size)), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(reallocarray(nullptr, hidden(count), hidden(size)), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(reallocarray(kept, hidden(count), hidden(size)), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    ASSERT_STREQ(kept, "kept");
    ASSERT_GE(malloc_usable_size(kept), 100u);
  }
  free(kept);
}

TEST(bad_calls_test, objects_of_no_bytes_by_every_call) {
  const std::size_t none = hidden(0);
  const std::size_t most = hidden(SIZE_MAX);
  std::vector<void*> all = {malloc(none),           calloc(none, most),
                            calloc(most, none),     realloc(nullptr, none),
                            valloc(none),           reallocarray(nullptr, none, most),
                            pvalloc(none),          memalign(64, none),
                            memalign(8192, none),   aligned_alloc(64, none),
                            aligned_alloc(1, none), aligned_alloc(std::size_t{1} << 20, none)};
  for (const std::size_t align : {std::size_t{8}, std::size_t{64}, std::size_t{1} << 16}) {
    void* p = nullptr;
    EXPECT_EQ(posix_memalign(&p, align, none), 0);
    EXPECT_EQ(number(p) % align, 0u);
    all.push_back(p);
  }
  for (const auto& forms : {throwing, quiet})
    for (const new_form make : forms) all.push_back(make(none, 128));
  std::set<void*> different(all.begin(), all.end());
  EXPECT_EQ(different.size(), all.size());
  EXPECT_FALSE(different.contains(nullptr));
  for (void* p : all) {
    EXPECT_NE(malloc_usable_size(p), 0u);
    free(p);
    EXPECT_EQ(malloc_usable_size(p), 0u);
  }
}

TEST(bad_calls_test, alignments_beyond_all_memory_are_no_memory) {
  int local = 0;
  for (unsigned shift = 48; shift < 64; ++shift) {
    const std::size_t align = hidden(std::size_t{1} << shift);
    for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{100'000}, largest,
                                largest + 1, SIZE_MAX - 100, SIZE_MAX}) {
      errno = 0;
      EXPECT_EQ(aligned_alloc(align, hidden(n)), nullptr);
      EXPECT_EQ(errno, ENOMEM);
      errno = 0;
      EXPECT_EQ(memalign(align, hidden(n)), nullptr);
      EXPECT_EQ(errno, ENOMEM);
      void* p = &local;
      errno = EBADF;
      EXPECT_EQ(posix_memalign(&p, align, hidden(n)), ENOMEM);
      EXPECT_EQ(p, &local);
      EXPECT_EQ(errno, EBADF);
      for (std::size_t form : {2, 3}) {
        EXPECT_THROW((void)throwing[form](hidden(n), align), std::bad_alloc);
        EXPECT_EQ(quiet[form](hidden(n), align), nullptr);
      }
    }
  }
}

TEST(bad_calls_test, every_new_refuses_sizes_and_alignments) {
  for (const std::size_t n : {largest + 1, largest, SIZE_MAX - 4096, SIZE_MAX - 15, SIZE_MAX}) {
    for (const new_form make : throwing)
      EXPECT_THROW((void)make(hidden(n), 64), std::bad_alloc) << n;
    for (const new_form make : quiet) EXPECT_EQ(make(hidden(n), 64), nullptr) << n;
  }
  for (const std::size_t align : {std::size_t{0}, std::size_t{3}, std::size_t{24}, SIZE_MAX,
                                  std::size_t{1} << 20 | std::size_t{1} << 21}) {
    for (const std::size_t n : {std::size_t{0}, std::size_t{10}, SIZE_MAX}) {
      for (std::size_t form : {2, 3}) {
        EXPECT_THROW((void)throwing[form](hidden(n), hidden(align)), std::bad_alloc) << align;
        EXPECT_EQ(quiet[form](hidden(n), hidden(align)), nullptr) << align;
      }
    }
  }
}

TEST(bad_calls_test, every_way_to_end_an_object_ends_it_and_leaves_errno) {
  for (const end_form end : ends) {
    if (end != ends[1] && end != ends[2]) end(nullptr);  // those make an object
    for (const std::size_t n : {1, 64, 5000, 100'000}) {
      // The size and alignment that a delete is told may be wrong, too.
      for (void* p : {malloc(n), aligned_alloc(64, n), operator new(n)}) {
        errno = EBADF;
        end(p);
        EXPECT_EQ(errno, EBADF);
        EXPECT_EQ(malloc_usable_size(p), 0u);
      }
    }
  }
}

/// For a child: a program with an object, and what is none.
class wrong_pointers {
 public:
  wrong_pointers() {
    std::memset(kept_, 'k', 100);
    std::memset(large_, 'l', 100'000);
    for (std::size_t n : {7, 500, 200'000}) {
      freed_.push_back(static_cast<char*>(malloc(n)));
      free(freed_.back());
    }
  }
  std::vector<void*> all() {
    static char of_program[64];
    std::vector<void*> wrong = {kept_ + 1,   kept_ + 8,        kept_ + 99,
                                large_ + 16, large_ + 4096,    large_ + 8192,
                                of_program,  &on_stack_,       at(1),
                                at(4096),    at(SIZE_MAX - 7), at(std::uintptr_t{1} << 63)};
    wrong.insert(wrong.end(), freed_.begin(), freed_.end());
    return wrong;
  }
  bool is_well() const {
    return std::all_of(kept_, kept_ + 100, [](char c) { return c == 'k'; })
           && std::all_of(large_, large_ + 100'000, [](char c) { return c == 'l'; })
           && malloc_usable_size(kept_) >= 100 && malloc_usable_size(large_) >= 100'000;
  }

 private:
  static void* at(std::uintptr_t address) { return reinterpret_cast<void*>(address); }

  char* kept_ = static_cast<char*>(malloc(100));
  char* large_ = static_cast<char*>(malloc(100'000));
  std::vector<char*> freed_;
  int on_stack_ = 0;
};

TEST(bad_calls_test, wrong_pointers_to_every_function_are_told_and_harmless) {
  for (std::size_t form = 0; form < ends.size(); ++form) {
    const ended e = in_child([form] {
      wrong_pointers wrong;
      for (void* p : wrong.all()) {
        if (malloc_usable_size(p) != 0) return 1;
        errno = EBADF;
        ends[form](p);
        if (errno != EBADF) return 2;
        if (!wrong.is_well()) return 3;
      }
      return 0;
    });
    EXPECT_EQ(e.code, 0) << form;
    EXPECT_EQ(std::count(e.errors.begin(), e.errors.end(), '\n'), 8) << e.errors;
  }
}

TEST(bad_calls_test, reallocs_of_wrong_pointers_say_so) {
  const ended e = in_child([] {
    wrong_pointers wrong;
    for (void* p : wrong.all()) {
      for (const std::size_t n : {std::size_t{1}, std::size_t{100}, largest + 1}) {
        errno = 0;
        if (realloc(p, hidden(n)) != nullptr || errno != EINVAL) return 1;
        errno = 0;
        if (reallocarray(p, 1, hidden(n)) != nullptr || errno != EINVAL) return 2;
        if (!wrong.is_well()) return 3;
      }
    }
    return 0;
  });
  EXPECT_EQ(e.code, 0) << e.errors;
}

}  // namespace
