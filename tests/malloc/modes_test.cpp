// Profile and debug modes of the preloaded library, switched on by the environment, each in a
// process of its own.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/malloc/process.hpp"
#include "tests/temporary_files.hpp"

namespace {

using warpheap::test::ended;
using warpheap::test::in_child;
using warpheap::test::run_disabled_test;
using warpheap::testing::temporary_file;

ended with(const std::string& modes, const std::string& test) {
  return run_disabled_test(test, [&] { setenv("WARPHEAP", modes.c_str(), 1); });
}

std::string contents(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// A bit of everything.
TEST(modes_test, DISABLED_work) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([t] {
      std::vector<std::string> texts;
      for (std::size_t i = 0; i < 1500; ++i) {
        texts.emplace_back(i * 7 % 900 + t, 'x');
        if (i % 5 == 0) texts[i / 2].append(300, 'y');
        free(memalign(64, i));
        char* p = static_cast<char*>(calloc(i + 1, 3));
        ASSERT_EQ(p[i], 0);
        p = static_cast<char*>(realloc(p, 5 * i + 20));
        ASSERT_EQ(p[i], 0);
        free(p);
      }
    });
  }
  for (int round = 0; round < 3; ++round) {
    const ended e = in_child([] {
      std::vector<std::string> texts(500, std::string(100, 'x'));
      return texts.size() == 500 ? 0 : 1;
    });
    EXPECT_EQ(e.code, 0) << e.errors;
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(malloc(SIZE_MAX / 2 - 100), nullptr);
}

class modes : public ::testing::TestWithParam<const char*> {};

TEST_P(modes, a_program_runs_as_without) {
  const std::string file = temporary_file("mode");
  std::string text = GetParam();
  if (const std::size_t at = text.find("FILE"); at != text.npos) text.replace(at, 4, file);
  const ended e = with(text, "work");
  EXPECT_EQ(e.code, 0) << e.errors;
  EXPECT_EQ(e.errors, "");
  unlink(file.c_str());
}
INSTANTIATE_TEST_SUITE_P(each, modes,
                         ::testing::Values("red_zones=1", "quarantine=1M", "clobberfree=1",
                                           "annotate=1", "efence=1", "sbrk=1", "profile=1",
                                           "profile_file=FILE", "trace=FILE",
                                           "red_zones=1,quarantine=1M,clobberfree=1,annotate=1,"
                                           "efence=1,profile=4K,trace=FILE"));

TEST(modes_test, DISABLED_damage) {
  volatile char* p = static_cast<char*>(malloc(21));
  p[21] = 1;
  free(const_cast<char*>(p));
  p = static_cast<char*>(malloc(21));
  free(const_cast<char*>(p));
  p[3] = 1;
}

TEST(modes_test, DISABLED_free_under_a_limit) {
  constexpr std::size_t n = 200000;
  static void* all[n];
  for (void*& p : all) p = malloc(32);
  // The layers have no memory for what they would note of the frees.
  rlimit before{};
  getrlimit(RLIMIT_AS, &before);
  const rlimit little{1 << 20, before.rlim_max};
  setrlimit(RLIMIT_AS, &little);
  std::size_t changed = 0;
  for (void* p : all) {
    errno = EBADF;
    free(p);
    changed += errno != EBADF;
  }
  setrlimit(RLIMIT_AS, &before);
  EXPECT_EQ(changed, 0u);
}

TEST(modes_test, free_leaves_errno) {
  for (const char* text : {"quarantine=64M", "annotate=1", "red_zones=1", "trace=/dev/null", ""}) {
    const ended e = with(text, "free_under_a_limit");
    EXPECT_EQ(e.code, 0) << text << ": " << e.errors;
  }
}

TEST(modes_test, damage_is_reported) {
  ended e = with("red_zones=1,quarantine=1M", "damage");
  EXPECT_EQ(e.code, 0);
  EXPECT_NE(e.errors.find("write outside"), std::string::npos) << e.errors;
  EXPECT_NE(e.errors.find("write into a freed"), std::string::npos) << e.errors;
  e = with("efence=1", "damage");
  EXPECT_EQ(e.code, -SIGSEGV);
  EXPECT_NE(e.errors.find("write outside"), std::string::npos) << e.errors;
  e = with("", "damage");
  EXPECT_EQ(e.code, 0);
  EXPECT_EQ(e.errors, "");
}

TEST(modes_test, trace_replays) {
  const std::string file = temporary_file("trace");
  const ended e = with("trace=" + file, "objects");
  ASSERT_EQ(e.code, 0) << e.errors;
  std::istringstream lines(contents(file));
  std::multiset<std::string> live;
  std::size_t of_77777 = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string what, address;
    std::size_t bytes = 0;
    words >> what >> address >> bytes;
    if (what == "m") {
      ASSERT_FALSE(live.contains(address)) << line;
      live.insert(address);
      of_77777 += bytes == 77777;
    } else {
      ASSERT_EQ(what, "f") << line;
      ASSERT_EQ(live.erase(address), 1u) << line;
    }
  }
  EXPECT_EQ(of_77777, 13u);
  unlink(file.c_str());
}

TEST(modes_test, DISABLED_objects) {
  for (int i = 0; i < 13; ++i) free(malloc(77777));
}

TEST(modes_test, profile_is_written_at_the_end) {
  const std::string raw = temporary_file("heap.pb"), folded = temporary_file("heap.folded");
  ended e = with("profile=1,profile_file=" + raw, "kept");
  EXPECT_EQ(e.code, 0) << e.errors;
  EXPECT_NE(contents(raw).find("inuse_space"), std::string::npos);
  e = with("profile=1,profile_file=" + folded, "kept");
  EXPECT_EQ(e.code, 0) << e.errors;
  EXPECT_NE(contents(folded).find(" 1234567\n"), std::string::npos) << contents(folded);
  e = with("profile_file=/no such folder/x", "kept");
  EXPECT_EQ(e.code, 0);
  EXPECT_NE(e.errors.find("/no such folder"), std::string::npos) << e.errors;
  unlink(raw.c_str());
  unlink(folded.c_str());
}

/// No memory for the profile itself: its std::bad_alloc stays inside the library.
TEST(modes_test, profile_without_memory_is_told) {
  const std::string raw = temporary_file("none.pb");
  const ended e = with("profile_file=" + raw + ",memory_limit=96M", "none_left");
  EXPECT_EQ(e.code, 0) << e.errors;
  EXPECT_NE(e.errors.find("the profile could not be written"), std::string::npos) << e.errors;
  unlink(raw.c_str());
}

bool none_is_left = false;

TEST(modes_test, DISABLED_none_left) { none_is_left = true; }

/// After the destructors of all objects, which need some, and before those of the library.
[[gnu::destructor]] void take_all() {
  for (std::size_t n = std::size_t{1} << 20; none_is_left && n >= 8; n -= n > 4096 ? n / 8 : 8) {
    while (malloc(n) != nullptr) continue;
  }
}

void* volatile kept;

TEST(modes_test, DISABLED_kept) {
  kept = malloc(1234567);
  EXPECT_NE(kept, nullptr);
}

}  // namespace
