// The trace of calls.
#include <gtest/gtest.h>
#include <unistd.h>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/temporary_files.hpp"
#include "tests/test_scale.hpp"
#include "tests/watched_heap.hpp"

namespace {

using namespace warpheap;
using warpheap::testing::temporary_file;
using warpheap::testing::watched_heap;

TEST(debug_modes_test, trace_replays_to_the_live_set) {
  const std::string file = temporary_file("trace");
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

}  // namespace
