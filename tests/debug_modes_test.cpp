// The debug modes of host objects, each alone and all together, through the public heap.
#include <gtest/gtest.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>
#include <warpheap/heap.hpp>

#include "tests/test_scale.hpp"

namespace {

using namespace warpheap;

std::string temporary(const char* name) {
  return ::testing::TempDir() + "warpheap-" + std::to_string(getpid()) + "-" + name;
}

/// A heap and what it said.
struct watched_heap {
  explicit watched_heap(heap_options o) {
    o.reserve_bytes = 256_MiB;
    o.backend = backend_kind::simt;
    o.refill_service = false;
    o.on_report = [this](const std::string& line) { lines.push_back(line); };
    h = std::make_unique<heap>(o);
  }
  std::uint64_t count(error_kind kind) { return h->stats().errors[static_cast<unsigned>(kind)]; }
  std::vector<std::string> lines;
  std::unique_ptr<heap> h;
};

char* chars(void* p) { return static_cast<char*>(p); }

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

class debug_modes : public ::testing::TestWithParam<std::size_t> {
 protected:
  watched_heap w{all_modes()[GetParam()]};
  heap& h = *w.h;
  bool never_frees() const { return all_modes()[GetParam()].sbrk; }
};

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

// --- what each is there for
// ------------------------------------------------------------------------

TEST(debug_modes_test, red_zones_tell_writes_on_both_sides) {
  heap_options o;
  o.red_zones = true;
  watched_heap w(o);
  for (const std::size_t n : {1, 13, 16, 100, 4000, 50000}) {
    char* p = chars(w.h->malloc(n));
    EXPECT_EQ(w.h->usable_size(p), n);
    const std::uint64_t before = w.count(error_kind::write_outside);
    p[n] = 1;
    w.h->free(p);
    EXPECT_EQ(w.count(error_kind::write_outside), before + 1) << n;
    p = chars(w.h->malloc(n));
    p[-1] = 1;
    w.h->free(p);
    EXPECT_EQ(w.count(error_kind::write_outside), before + 2) << n;
  }
}

TEST(debug_modes_test, red_zones_of_live_objects_are_looked_at_in_the_end) {
  heap_options o;
  o.red_zones = true;
  watched_heap w(o);
  char* live = chars(w.h->malloc(10));
  (void)w.h->malloc(20);
  live[10] = 1;
  EXPECT_TRUE(w.lines.empty());
  w.h.reset();
  ASSERT_EQ(w.lines.size(), 2u);
  EXPECT_NE(w.lines[0].find("write outside"), std::string::npos) << w.lines[0];
  EXPECT_NE(w.lines[1].find("2 live objects"), std::string::npos) << w.lines[1];
}

TEST(debug_modes_test, quarantine_tells_writes_after_free) {
  heap_options o;
  o.quarantine_bytes = 10000;
  watched_heap w(o);
  char* p = chars(w.h->malloc(500));
  w.h->free(p);
  EXPECT_EQ(static_cast<unsigned char>(p[3]), 0xde);
  EXPECT_EQ(static_cast<unsigned char>(p[4]), 0xef);
  EXPECT_NE(w.h->malloc(500), p) << "an object that is held back was handed out";
  p[77] = 1;
  EXPECT_EQ(w.count(error_kind::use_after_free), 0u);
  for (int i = 0; i < 30; ++i) w.h->free(w.h->malloc(500));
  EXPECT_EQ(w.count(error_kind::use_after_free), 1u);
  const auto errors = w.h->errors();
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].address, reinterpret_cast<std::uintptr_t>(p));
}

TEST(debug_modes_test, clobber_overwrites_freed_objects) {
  heap_options o;
  o.clobber_free = true;
  watched_heap w(o);
  for (const std::size_t n : {4, 100, 5000, 100000}) {
    char* p = chars(w.h->malloc(n));
    std::memset(p, 7, n);
    w.h->free(p);
    std::uint32_t word = 0;
    std::memcpy(&word, p, 4);
    EXPECT_EQ(word, 0xdeadbeef) << n;
    EXPECT_EQ(std::count(p, p + n, 7), 0);
  }
}

TEST(debug_modes_test, sbrk_rises_and_never_frees) {
  heap_options o;
  o.sbrk = true;
  watched_heap w(o);
  std::uintptr_t last = 0;
  std::mt19937 random(8);
  for (int i = 0; i < 20000; ++i) {
    const std::size_t n = 1 + random() % 500;
    void* p = w.h->malloc(n);
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    ASSERT_GT(address, last);
    last = address + n - 1;
    w.h->free(p);
    ASSERT_EQ(w.h->usable_size(p), n);
  }
  EXPECT_TRUE(w.h->errors().empty());
  EXPECT_TRUE(w.lines.empty()) << w.lines.front();
  EXPECT_EQ(w.h->malloc(200_MiB), nullptr);
  w.h.reset();
  ASSERT_EQ(w.lines.size(), 1u);
  EXPECT_NE(w.lines[0].find("out of memory: cannot allocate 209715200-byte"), std::string::npos);
}

TEST(debug_modes_test, trace_replays_to_the_live_set) {
  const std::string file = temporary("trace");
  std::map<std::uintptr_t, std::size_t> live, replayed;
  {
    heap_options o;
    o.trace_file = file;
    o.report_leaks = false;
    watched_heap w(o);
    std::vector<std::thread> threads;
    std::array<std::atomic<void*>, 100> shared{};
    for (unsigned t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(t);
        for (int i = 0; i < warpheap::testing::scaled(20000); ++i)
          w.h->free(shared[random() % 100].exchange(w.h->malloc(1 + random() % 2000)));
      });
    }
    for (std::thread& t : threads) t.join();
    for (auto& slot : shared) {
      if (slot == nullptr) continue;
      if (live.size() > 20)
        w.h->free(slot);
      else
        live.emplace(reinterpret_cast<std::uintptr_t>(slot.load()), 0);
    }
  }
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string what, address;
    std::size_t bytes = 0;
    words >> what >> address >> bytes;
    const std::uintptr_t p = std::stoull(address, nullptr, 16);
    if (what == "m") {
      ASSERT_TRUE(replayed.emplace(p, bytes).second) << "twice at once: " << line;
    } else {
      ASSERT_EQ(what, "f");
      ASSERT_EQ(replayed.erase(p), 1u) << "freed and not there: " << line;
    }
  }
  ASSERT_EQ(replayed.size(), live.size());
  for (const auto& [p, bytes] : live) EXPECT_TRUE(replayed.contains(p));
  unlink(file.c_str());
}

TEST(debug_modes_test, options_that_cannot_be_are_refused) {
  heap_options o;
  o.backend = backend_kind::simt;
  o.trace_file = "/no such folder/trace";
  EXPECT_THROW(heap{o}, heap_error);
}

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

// Faults of the processor, which a sanitizer's handlers answer in their own way.
using debug_modes_death_test = ::testing::Test;

heap_options fenced() {
  heap_options o;
  o.efence = true;
  return o;
}

TEST(debug_modes_death_test, efence_faults_behind_an_object) {
  if (warpheap::testing::sanitized) GTEST_SKIP() << "the sanitizer handles the signal";
  watched_heap w(fenced());
  for (const std::size_t n : {1, 16, 100, 4096, 70000}) {
    volatile char* p = chars(w.h->malloc(n));
    // A guard begins at the end of the object, up to its alignment.
    const std::size_t end = n <= 8 ? (n + 7) / 8 * 8 : (n + 15) / 16 * 16;
    EXPECT_EXIT(p[end] = 1, ::testing::KilledBySignal(SIGSEGV), "") << n;
    EXPECT_EXIT((void)p[end], ::testing::KilledBySignal(SIGSEGV), "") << n;
  }
}

TEST(debug_modes_death_test, efence_faults_in_front_of_an_object_of_pages) {
  if (warpheap::testing::sanitized) GTEST_SKIP() << "the sanitizer handles the signal";
  watched_heap w(fenced());
  volatile char* p = chars(w.h->malloc(4096));
  EXPECT_EXIT(p[-1] = 1, ::testing::KilledBySignal(SIGSEGV), "");
}

TEST(debug_modes_death_test, efence_faults_after_free) {
  if (warpheap::testing::sanitized) GTEST_SKIP() << "the sanitizer handles the signal";
  watched_heap w(fenced());
  volatile char* p = chars(w.h->malloc(40));
  p[0] = 1;
  w.h->free(const_cast<char*>(p));
  EXPECT_EXIT(p[0] = 1, ::testing::KilledBySignal(SIGSEGV), "");
}

TEST(debug_modes_test, efence_tells_writes_into_the_slack) {
  watched_heap w(fenced());
  char* p = chars(w.h->malloc(100));
  p[100] = 1;
  w.h->free(p);
  EXPECT_EQ(w.count(error_kind::write_outside), 1u);
}

TEST(debug_modes_death_test, annotations_reach_the_address_sanitizer) {
#ifdef __SANITIZE_ADDRESS__
  heap_options o;
  o.annotate = true;
  watched_heap w(o);
  volatile char* p = chars(w.h->malloc(21));
  EXPECT_DEATH(p[21] = 1, "use-after-poison|heap-buffer-overflow");
  w.h->free(const_cast<char*>(p));
  EXPECT_DEATH(p[0] = 1, "use-after-poison|heap-use-after-free");
  // Memory that goes back to the heap and to kernels is open again.
  w.h->reset();
  p[0] = 1;
#else
  GTEST_SKIP() << "not built with AddressSanitizer";
#endif
}

TEST(debug_modes_death_test, annotations_reach_the_thread_sanitizer) {
#ifdef __SANITIZE_THREAD__
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        heap_options o;
        o.annotate = true;
        watched_heap w(o);
        char* p = chars(w.h->malloc(21));
        std::thread user([&] { static_cast<volatile char*>(p)[3] = 1; });
        w.h->free(p);
        user.join();
        std::exit(0);  // by which the tool ends the process as failed
      },
      "data race");
#else
  GTEST_SKIP() << "not built with ThreadSanitizer";
#endif
}

TEST(debug_modes_test, DISABLED_for_valgrind) {
  heap_options o;
  o.annotate = true;
  watched_heap w(o);
  volatile char* p = chars(w.h->malloc(21));
  p[20] = 1;
  if (getenv("WARPHEAP_TEST_DAMAGE") == nullptr) return w.h->free(const_cast<char*>(p));
  p[21] = 1;
  w.h->free(const_cast<char*>(p));
  p[5] = 1;
}

TEST(debug_modes_test, annotations_reach_valgrind) {
  if (warpheap::testing::sanitized) GTEST_SKIP() << "no Valgrind over a sanitizer";
  if (std::system("command -v valgrind >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "valgrind is not installed";
#if !__has_include(<valgrind/memcheck.h>)
  GTEST_SKIP() << "built without Valgrind's header";
#endif
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  const auto said = [&](const std::string& environment) {
    const std::string log = temporary("valgrind");
    const int status = std::system(
        (environment + " valgrind -q --error-exitcode=9 --log-file=" + log + " " + program
         + " --gtest_also_run_disabled_tests"
           " --gtest_filter='*DISABLED_for_valgrind' >/dev/null 2>&1")
            .c_str());
    std::ifstream file(log);
    std::string text(std::istreambuf_iterator<char>(file), {});
    unlink(log.c_str());
    return (status == 0 ? "sound" : "damage") + text;
  };
  EXPECT_EQ(said(""), "sound");
  const std::string text = said("WARPHEAP_TEST_DAMAGE=1");
  EXPECT_NE(text.find("0 bytes after a block of size 21 alloc'd"), std::string::npos) << text;
  EXPECT_NE(text.find("5 bytes inside a block of size 21 free'd"), std::string::npos) << text;
}

}  // namespace
