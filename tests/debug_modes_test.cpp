// What holds in every debug mode of host objects, each alone and all together, through the public
// heap; and how they are switched on.
#include <gtest/gtest.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/test_scale.hpp"
#include "tests/watched_heap.hpp"

namespace {

using namespace warpheap;
using warpheap::testing::chars;
using warpheap::testing::watched_heap;

/// Each mode alone, some pairs, and all at once.
std::vector<heap_options> all_modes() {
  std::vector<heap_options> all(9);
  all[0].red_zones = true;
  all[1].quarantine_bytes = 1_MiB;
  all[2].clobber_free = true;
  all[3].annotate = true;
  all[4].efence = true;
  all[5].sbrk = true;
  all[6].profile_rate = 1;
  all[7].red_zones = all[7].clobber_free = all[7].annotate = true;
  all[7].quarantine_bytes = 100000;
  all[7].profile_rate = 1000;
  all[8] = all[7];
  all[8].efence = true;
  return all;
}

/// The alignment that heap.hpp promises for n bytes.
std::size_t promised_alignment(std::size_t n, contents kind) {
  if (n > 16 && n <= 24) return 8;
  if (n >= 16) return 16;
  if (kind == contents::pointers) return n <= 8 ? 8 : 16;
  return n & (~n + 1);
}

void expect_promised_alignments(heap& h) {
  for (const contents kind : {contents::no_pointers, contents::pointers}) {
    for (std::size_t n = 1; n < 40'000; n += n < 200 ? 1 : n / 5) {
      for (int i = 0; i < 3; ++i) {
        void* p = i < 2 ? h.malloc(n, kind) : h.calloc(1, n, kind);
        ASSERT_NE(p, nullptr);
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(p) % promised_alignment(n, kind), 0u) << n;
      }
    }
  }
  h.reset();
}

class debug_modes : public ::testing::TestWithParam<std::size_t> {
 protected:
  watched_heap w{all_modes()[GetParam()]};
  heap& h = *w.h;
  bool never_frees() const { return all_modes()[GetParam()].sbrk; }
};

TEST_P(debug_modes, malloc_aligns_as_promised) { expect_promised_alignments(h); }
TEST(without_debug_modes, malloc_aligns_as_promised) {
  watched_heap w{heap_options{}};
  expect_promised_alignments(*w.h);
}

TEST_P(debug_modes, objects_keep_their_contents) {
  std::mt19937 random(6);
  std::map<char*, std::vector<char>> live;
  for (int i = 0; i < warpheap::testing::scaled(4000); ++i) {
    if (live.size() > 60 || (!live.empty() && random() % 3 == 0)) {
      auto it = std::next(live.begin(), static_cast<std::ptrdiff_t>(random() % live.size()));
      auto [p, bytes] = *it;
      ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), p));
      ASSERT_GE(h.usable_size(p), bytes.size());
      live.erase(it);
      if (random() % 3 != 0) {
        h.free(p);
        if (!never_frees()) {
          ASSERT_EQ(h.usable_size(p), 0u);
        }
        continue;
      }
      const std::size_t n = 1 + random() % 5000;
      char* moved = chars(h.realloc(p, n));
      ASSERT_NE(moved, nullptr);
      const std::size_t kept = std::min(n, bytes.size());
      ASSERT_TRUE(std::equal(moved, moved + kept, bytes.begin()));
      bytes.resize(n);
      std::copy(bytes.begin(), bytes.end(), moved);
      ASSERT_TRUE(live.emplace(moved, bytes).second);
      continue;
    }
    const std::size_t n = 1 + random() % (random() % 30 == 0 ? 100000 : 700);
    const std::size_t align = std::size_t{1} << random() % 14;
    char* p = nullptr;
    switch (random() % 3) {
      case 0: p = chars(h.malloc(n)); break;
      case 1: p = chars(h.aligned_alloc(align, n)); break;
      default:
        p = chars(h.calloc(n, 1));
        if (p != nullptr) {
          ASSERT_EQ(std::count(p, p + n, 0), static_cast<std::ptrdiff_t>(n));
        }
    }
    ASSERT_NE(p, nullptr);
    std::vector<char> bytes(n);
    for (char& byte : bytes) byte = static_cast<char>(random());
    std::copy(bytes.begin(), bytes.end(), p);
    ASSERT_TRUE(live.emplace(p, bytes).second);
  }
  for (const auto& [p, bytes] : live) {
    ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), p));
    h.free(p);
  }
  EXPECT_TRUE(w.lines.empty()) << w.lines.front();
}

TEST_P(debug_modes, alignments_hold) {
  for (std::size_t align = 1; align <= 64_KiB; align *= 2) {
    for (const std::size_t n : {1, 7, 24, 100, 5000, 40000}) {
      void* p = h.aligned_alloc(align, n);
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % align, 0u);
      std::memset(p, 1, n);
      h.free(p);
    }
  }
  EXPECT_EQ(h.aligned_alloc(24, 100), nullptr);
  EXPECT_TRUE(w.lines.empty()) << w.lines.front();
}

TEST_P(debug_modes, what_cannot_be_is_null) {
  EXPECT_EQ(h.malloc(SIZE_MAX), nullptr);
  EXPECT_EQ(h.malloc(SIZE_MAX - 40), nullptr);
  EXPECT_EQ(h.malloc(300_MiB), nullptr);
  EXPECT_EQ(h.calloc(SIZE_MAX / 2, 3), nullptr);
  EXPECT_EQ(h.calloc(SIZE_MAX / 16, 15), nullptr);
  EXPECT_EQ(h.aligned_alloc(64, SIZE_MAX - 10), nullptr);
  EXPECT_EQ(h.aligned_alloc(std::size_t{1} << 62, 10), nullptr);
  void* p = h.malloc(100);
  EXPECT_EQ(h.realloc(p, SIZE_MAX / 2), nullptr);
  EXPECT_GE(h.usable_size(p), 100u);
  h.free(p);
}

TEST_P(debug_modes, zero_sizes_and_null) {
  void* none = h.malloc(0);
  EXPECT_NE(none, nullptr);
  EXPECT_EQ(h.calloc(0, 9), none);
  EXPECT_EQ(h.usable_size(none), 0u);
  h.free(none);
  h.free(none);
  h.free(nullptr);
  void* p = h.realloc(nullptr, 10);
  EXPECT_EQ(h.realloc(p, 0), none);
  EXPECT_TRUE(w.lines.empty()) << w.lines.front();
}

TEST_P(debug_modes, wrong_frees_are_told) {
  if (never_frees()) GTEST_SKIP() << "sbrk frees nothing";
  char* p = chars(h.malloc(300));
  char* other = chars(h.malloc(300));
  int local = 0;
  h.free(p + 64);
  EXPECT_EQ(w.count(error_kind::interior_pointer), 1u);
  h.free(p);
  h.free(p);
  EXPECT_EQ(w.count(error_kind::double_free), 1u);
  h.free(&local);
  EXPECT_EQ(w.count(error_kind::foreign_pointer), 1u);
  EXPECT_EQ(h.realloc(p, 500), nullptr);
  EXPECT_EQ(h.usable_size(other + 1), 0u);
  h.free(other);
}

TEST_P(debug_modes, reset_forgets_everything) {
  for (int round = 0; round < 5; ++round) {
    std::vector<char*> objects;
    for (std::size_t i = 1; i < 300; ++i) {
      objects.push_back(chars(h.malloc(i * 7)));
      ASSERT_NE(objects.back(), nullptr);
      std::memset(objects.back(), 1, i * 7);
      if (i % 3 == 0) h.free(objects.back());
    }
    h.reset();
    EXPECT_EQ(h.stats().host.live_objects, 0u);
    if (!never_frees()) {
      EXPECT_EQ(h.usable_size(objects[0]), 0u);
    }
  }
  EXPECT_TRUE(w.lines.empty()) << w.lines.front();
}

TEST_P(debug_modes, threads_hand_objects_over) {
  std::array<std::atomic<char*>, 64> shared{};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < warpheap::testing::scaled(3000); ++i) {
        const std::size_t n = 1 + random() % 300;
        char* p = chars(h.malloc(n));
        ASSERT_NE(p, nullptr);
        std::memset(p, static_cast<int>(t), n);
        h.free(shared[random() % shared.size()].exchange(p));
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (auto& slot : shared) h.free(slot.load());
  EXPECT_TRUE(w.lines.empty()) << w.lines.front();
}

std::string name_of(const ::testing::TestParamInfo<std::size_t>& info) {
  const std::array names{"red_zones", "quarantine", "clobber_free", "annotate", "efence",
                         "sbrk",      "profile",    "several",      "all"};
  return names[info.param];
}
INSTANTIATE_TEST_SUITE_P(each, debug_modes, ::testing::Range<std::size_t>(0, 9), name_of);

TEST(debug_modes_test, environment_switches_modes_on) {
  std::vector<std::string> warnings;
  const heap_options o = heap_options::parse(
      "profile=64K,profile_file=p,trace=t,annotate=1,quarantine=2M,red_zones=1,clobberfree=1,"
      "efence=1,sbrk=0,red_zone=1,efence=2",
      [&](const std::string& line) { warnings.push_back(line); });
  EXPECT_EQ(o.profile_rate, 64_KiB);
  EXPECT_EQ(o.profile_file, "p");
  EXPECT_EQ(o.trace_file, "t");
  EXPECT_TRUE(o.annotate && o.red_zones && o.clobber_free && o.efence && !o.sbrk);
  EXPECT_EQ(o.quarantine_bytes, 2_MiB);
  EXPECT_EQ(warnings.size(), 2u);
}

}  // namespace
