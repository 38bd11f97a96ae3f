// Figures of the host's allocator: exact at rest, in keeping with each other at any time.
#include <warpheap/memory_stats.hpp>

#include <gtest/gtest.h>
#include <atomic>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <sstream>
#include <thread>
#include <vector>

#include "host/epoch_history.hpp"
#include "host/host_heap.hpp"
#include "tests/host_region.hpp"
#include "tests/test_scale.hpp"

namespace {

using namespace warpheap;

/// The first of the identities of memory_stats.hpp that does not hold; empty: all do.
std::string broken_identity(const memory_stats& m) {
  if (m.sys
      != m.heap_sys + m.device_sys + m.stacks_sys + m.regions_sys + m.mspan_sys + m.mcache_sys
             + m.tiny_mask_sys + m.buckhash_sys + m.page_table_sys + m.device_table_sys
             + m.other_sys) {
    return "sys";
  }
  if (m.heap_sys != m.heap_inuse + m.heap_idle) return "heap_sys";
  if (m.heap_released > m.heap_idle) return "heap_released";
  if (m.quarantined > m.heap_released) return "quarantined";
  if (m.stacks_inuse > m.stacks_sys) return "stacks_inuse";
  if (m.mspan_inuse > m.mspan_sys) return "mspan_inuse";
  if (m.mcache_inuse > m.mcache_sys) return "mcache_inuse";
  if (m.heap_sys > m.reserved || m.other_sys > m.reserved) return "reserved";
  std::uint64_t mallocs = m.tiny_mallocs, frees = m.tiny_frees;
  if (m.tiny_frees > m.tiny_mallocs) return "tiny";
  for (const auto& c : m.by_class) {
    if (c.frees > c.mallocs) return "class of " + std::to_string(c.slot_bytes);
    mallocs += c.mallocs;
    frees += c.frees;
  }
  if (mallocs != m.mallocs || frees != m.frees) return "by_class";
  if (m.live_objects != m.mallocs - m.frees) return "live_objects";
  if (m.large_mallocs != m.by_class[0].mallocs || m.large_frees != m.by_class[0].frees)
    return "large_mallocs";
  if (m.large_free > m.large_alloc || m.heap_alloc > m.total_alloc) return "bytes";
  return {};
}

/// An event count that is lower in `b` than in `a`, which was taken before; empty if there is none.
std::string fallen_count(const memory_stats& a, const memory_stats& b) {
  for (unsigned c = 0; c < num_classes; ++c) {
    if (b.by_class[c].mallocs < a.by_class[c].mallocs) return "mallocs";
    if (b.by_class[c].frees < a.by_class[c].frees) return "frees";
  }
  if (b.tiny_mallocs < a.tiny_mallocs || b.tiny_frees < a.tiny_frees) return "tiny";
  if (b.total_alloc < a.total_alloc || b.large_alloc < a.large_alloc) return "total_alloc";
  if (b.scavenged_growth < a.scavenged_growth || b.scavenged_asked < a.scavenged_asked)
    return "scavenged";
  return {};
}

struct memory_stats_test : ::testing::Test {
  test::host_region region{std::size_t{256} << 20};
  host_heap heap{region.base(), region.bytes(), region.source()};

  /// What the counters say must be what a slow recount says. Of one thread, nothing running.
  void expect_recount() {
    (void)heap.trim();  // pages that the thread keeps for spans to come are in no bitmap
    const memory_stats m = heap.memory();
    EXPECT_EQ(broken_identity(m), "");
    const page_recount pages = heap.recount_pages();
    EXPECT_EQ(m.heap_inuse, pages.in_spans * page_size);
    EXPECT_EQ(pages.owned_by_spans, pages.in_spans);
    EXPECT_EQ(m.stacks_sys + m.regions_sys + m.quarantined, pages.in_manual_spans * page_size);
    EXPECT_EQ(pages.owned_manually, pages.in_manual_spans);
    EXPECT_EQ(m.device_sys, pages.device * page_size);
    EXPECT_EQ(m.heap_idle - m.quarantined, pages.free * page_size);
    EXPECT_EQ(m.heap_released - m.quarantined, pages.scavenged * page_size);
    EXPECT_EQ(m.heap_sys + m.device_sys + m.stacks_sys + m.regions_sys, pages.grown * page_size);
    EXPECT_EQ(m.committed + m.heap_released,
              m.heap_sys + m.device_sys + m.stacks_sys + m.regions_sys);
    const auto in_state = [&](page_state s) {
      return pages.by_state[static_cast<unsigned>(s)] * page_size;
    };
    EXPECT_EQ(in_state(page_state::ready), m.committed);
    EXPECT_EQ(in_state(page_state::faulted), m.quarantined);
    EXPECT_EQ(in_state(page_state::reserved) + in_state(page_state::prepared),
              m.reserved - m.committed - m.quarantined);
    EXPECT_LE(m.heap_alloc, m.heap_inuse);
    std::uint64_t objects = 0, large = 0;
    heap.for_each_live([&](void*, std::size_t bytes) {
      ++objects;
      large += bytes > max_small_size ? bytes : 0;
    });
    EXPECT_EQ(m.live_objects, objects);
    EXPECT_EQ(m.large_alloc - m.large_free, large);
    EXPECT_EQ(heap.stats().live_bytes, m.heap_alloc);
  }
};

TEST_F(memory_stats_test, a_fresh_heap_has_nothing) {
  const memory_stats m = heap.memory();
  EXPECT_EQ(broken_identity(m), "");
  EXPECT_EQ(m.heap_sys, 0u);
  EXPECT_EQ(m.sys, 0u);
  EXPECT_EQ(m.mallocs, 0u);
  EXPECT_EQ(m.reserved, region.bytes());
}

TEST_F(memory_stats_test, counts_are_those_of_a_model) {
  std::array<std::uint64_t, num_classes> mallocs{}, frees{};
  std::uint64_t tiny_mallocs = 0, tiny_frees = 0, large_bytes = 0, large_freed = 0;
  std::vector<std::pair<void*, std::size_t>> live;
  std::mt19937 random(11);
  for (int i = 0; i < 20000; ++i) {
    if (random() % 5 < 3 || live.empty()) {
      const std::size_t n = 1 + random() % (random() % 50 == 0 ? 200000 : 1 << random() % 14);
      void* p = heap.malloc(n);
      ASSERT_NE(p, nullptr);
      live.emplace_back(p, n);
      const bool tiny = n < tiny_size && n != 8;
      tiny_mallocs += tiny;
      if (tiny) continue;
      ++mallocs[n > max_small_size ? 0 : size_to_class(n)];
      if (n > max_small_size) large_bytes += bits::align_up(n, page_size);
    } else {
      std::swap(live[random() % live.size()], live.back());
      const auto [p, n] = live.back();
      live.pop_back();
      ASSERT_EQ(heap.free(p), free_status::ok);
      const bool tiny = n < tiny_size && n != 8;
      tiny_frees += tiny;
      if (tiny) continue;
      ++frees[n > max_small_size ? 0 : size_to_class(n)];
      if (n > max_small_size) large_freed += bits::align_up(n, page_size);
    }
  }
  const memory_stats m = heap.memory();
  EXPECT_EQ(m.tiny_mallocs, tiny_mallocs);
  EXPECT_EQ(m.tiny_frees, tiny_frees);
  EXPECT_EQ(m.large_alloc, large_bytes);
  EXPECT_EQ(m.large_free, large_freed);
  for (unsigned c = 0; c < num_classes; ++c) {
    EXPECT_EQ(m.by_class[c].mallocs, mallocs[c]) << c;
    EXPECT_EQ(m.by_class[c].frees, frees[c]) << c;
    EXPECT_EQ(m.by_class[c].slot_bytes, class_to_size(c));
  }
  expect_recount();
}

TEST_F(memory_stats_test, pages_count_for_the_use_they_have) {
  void* small = heap.malloc(100);
  void* large = heap.malloc(1000000);
  void* stack = heap.acquire_stack(4096);
  void* big_stack = heap.acquire_stack(100000);
  std::byte* chunk = heap.take_region_chunk(100);
  const page_run lent = heap.take_device_pages(50, 50);
  expect_recount();
  memory_stats m = heap.memory();
  EXPECT_EQ(m.stacks_inuse, 4096u + 131072u);
  EXPECT_EQ(m.stacks_sys, 32768u + 131072u);
  EXPECT_EQ(m.regions_sys, 100 * page_size);
  EXPECT_EQ(m.device_sys, 50 * page_size);
  EXPECT_GE(m.heap_inuse, 1000000u);
  EXPECT_EQ(m.live_objects, 2u);
  EXPECT_GE(m.mspan_inuse, 4 * sizeof(mspan));
  EXPECT_EQ(m.mcache_inuse, sizeof(mcache));
  EXPECT_EQ(m.thread_caches, 1u);
  EXPECT_EQ(heap.memory(1000, 2000).sys, m.sys + 3000);
  heap.give_region_chunk(chunk);
  heap.release_stack(stack, 4096);
  heap.release_stack(big_stack, 100000);
  heap.give_back_device_pages(lent);
  heap.free(small);
  heap.free(large);
  expect_recount();
  m = heap.memory();
  EXPECT_EQ(m.stacks_inuse, 0u);
  EXPECT_EQ(m.stacks_sys + m.regions_sys + m.device_sys + m.heap_inuse, 0u);
  EXPECT_EQ(m.heap_released, m.heap_idle);
  EXPECT_GE(m.peak, 1000000u);
}

// Snapshots while threads allocate, hand over and free: each adds up, and counts only rise.
TEST_F(memory_stats_test, snapshots_under_load_add_up) {
  constexpr int threads = 3;
  const int snapshots = warpheap::testing::scaled(20000);
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::vector<void*> shared;
  const auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    std::vector<void*> mine;
    while (!stop) {
      switch (random() % 16) {
        default: {
          const std::size_t n = 1 + random() % (1 << random() % 13);
          if (void* p = heap.malloc(n)) mine.push_back(p);
          break;
        }
        case 0:
          if (void* p = heap.malloc(40000 + random() % 100000)) mine.push_back(p);
          break;
        case 1: {
          const std::size_t bytes = 1000u << random() % 7;
          if (void* stack = heap.acquire_stack(bytes)) heap.release_stack(stack, bytes);
          break;
        }
        case 2:
          if (std::byte* chunk = heap.take_region_chunk(1 + random() % 20))
            heap.give_region_chunk(chunk);
          break;
        case 3: heap.give_back_device_pages(heap.take_device_pages(1, 20)); break;
        case 4: {
          // To whom it may concern: frees by other threads.
          const std::scoped_lock lock(mutex);
          mine.swap(shared);
          break;
        }
        case 5:
        case 6:
        case 7:
        case 8:
        case 9:
          for (int k = 0; k < 3 && !mine.empty(); ++k) {
            heap.free(mine.back());
            mine.pop_back();
          }
      }
      if (mine.size() > 2000) {
        for (void* p : mine) heap.free(p);
        mine.clear();
      }
    }
    for (void* p : mine) heap.free(p);
  };
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t) all.emplace_back(work, t + 1);
  memory_stats last = heap.memory();
  // On a busy machine the threads may begin after the first of them.
  for (int i = 0; i < snapshots || last.mallocs <= 1000; ++i) {
    const memory_stats m = heap.memory();
    EXPECT_EQ(broken_identity(m), "") << i;
    EXPECT_EQ(fallen_count(last, m), "") << i;
    last = m;
    if (i % 16 == 0) (void)heap.trim();
  }
  stop = true;
  for (std::thread& t : all) t.join();
  for (void* p : shared) heap.free(p);
  expect_recount();
  EXPECT_EQ(heap.memory().live_objects, 0u);
}

TEST_F(memory_stats_test, resets_are_recorded) {
  EXPECT_EQ(heap.memory().epochs.count, 0u);
  for (int i = 1; i <= 3; ++i) {
    (void)heap.malloc(100);
    heap.reset();
    const epoch_stats e = heap.memory().epochs;
    EXPECT_EQ(e.count, static_cast<std::uint64_t>(i));
    EXPECT_EQ(std::accumulate(e.duration_ns.begin(), e.duration_ns.end(), std::uint64_t{0}),
              e.total_ns);
    const std::size_t at = (e.count + 255) % 256;
    EXPECT_GT(e.duration_ns[at], 0u);
    EXPECT_GT(e.end_unix_ns[at], 1'500'000'000'000'000'000u);
  }
}

std::uint64_t number_in(const std::string& line, std::size_t column) {
  std::istringstream words(line);
  std::string word;
  for (std::size_t i = 0; i <= column; ++i) words >> word;
  return std::stoull(word);
}

TEST_F(memory_stats_test, text_adds_up) {
  std::vector<void*> all;
  for (std::size_t n : {5u, 100u, 100u, 5000u, 100000u}) all.push_back(heap.malloc(n));
  for (int i = 0; i < 3; ++i) heap.free(all[static_cast<std::size_t>(i)]);
  const std::string text = to_string(heap.memory(12345, 678));
  std::istringstream lines(text);
  // Above: what has a sign in front is added up in the lines that begin with "=".
  std::uint64_t sum = 0;
  unsigned sums = 0;
  std::string line;
  while (std::getline(lines, line) && !line.empty()) {
    const bool unnamed = line.substr(2, 18) == std::string(18, ' ');
    if (line[0] != '+' && line[0] != '-' && line[0] != '=') continue;
    const std::uint64_t value = number_in(line, unnamed ? 1 : 2);
    if (line[0] == '=') {
      EXPECT_EQ(value, sum) << line;
      ++sums;
    }
    sum = line[0] == '+' ? sum + value : line[0] == '-' ? sum - value : value;
  }
  EXPECT_EQ(sums, 3u) << text;
  // Below: objects by size.
  std::uint64_t mallocs = 0, frees = 0;
  bool seen = false;
  std::getline(lines, line);
  while (std::getline(lines, line) && !seen) {
    seen = line.starts_with("sum");
    const std::uint64_t m = number_in(line, 1), f = number_in(line, 2);
    EXPECT_EQ(number_in(line, 3), m - f) << line;
    if (seen) {
      EXPECT_EQ(m, mallocs);
      EXPECT_EQ(f, frees);
    }
    mallocs += m;
    frees += f;
  }
  EXPECT_TRUE(seen) << text;
  EXPECT_EQ(mallocs, 2 * 5u);
}

TEST_F(memory_stats_test, json_has_every_figure_and_a_version) {
  (void)heap.malloc(100);
  (void)heap.malloc(50000);
  for (int i = 0; i < 300; ++i) heap.reset();
  (void)heap.malloc(7);
  const memory_stats m = heap.memory(5, 6);
  const nlohmann::json j = nlohmann::json::parse(to_json(m));
  EXPECT_EQ(j["schema"], 1);
  EXPECT_EQ(j["sys"], m.sys);
  EXPECT_EQ(j["buckhash_sys"], 5u);
  EXPECT_EQ(j["device_table_sys"], 6u);
  EXPECT_EQ(j["mallocs"], 3u);
  EXPECT_EQ(j["live_objects"], 1u);
  EXPECT_EQ(j["by_class"].size(), std::size_t{num_classes});
  EXPECT_EQ(j["by_class"][0]["mallocs"], 1u);
  EXPECT_EQ(j["by_class"][size_to_class(100)]["slot_bytes"], 112u);
  EXPECT_EQ(j["epochs"]["count"], 300u);
  ASSERT_EQ(j["epochs"]["duration_ns"].size(), 256u);
  EXPECT_EQ(j["epochs"]["duration_ns"][255], m.epochs.duration_ns[299 % 256]);
  EXPECT_EQ(j["epochs"]["duration_ns"][0], m.epochs.duration_ns[44]);
  // Every 64-bit figure of the struct has a name; by_class, epochs and schema are three more.
  const std::size_t plain =
      (sizeof(memory_stats) - sizeof(memory_stats::by_class) - sizeof(epoch_stats))
      / sizeof(std::uint64_t);
  EXPECT_EQ(j.size(), plain + 3);
}

TEST(epoch_history, the_ring_has_the_last_256) {
  epoch_history h;
  std::uint64_t sum = 0;
  for (std::uint64_t i = 1; i <= 600; ++i) {
    h.record(1000 + i, i);
    sum += i;
    const epoch_stats& e = h.stats();
    ASSERT_EQ(e.count, i);
    ASSERT_EQ(e.total_ns, sum);
    ASSERT_EQ(e.duration_ns[(i + 255) % 256], i);
    ASSERT_EQ(e.end_unix_ns[(i + 255) % 256], 1000 + i);
    if (i <= 256) {
      ASSERT_EQ(std::accumulate(e.duration_ns.begin(), e.duration_ns.end(), std::uint64_t{0}), sum);
    }
  }
  EXPECT_EQ(h.stats().duration_ns[600 % 256], 600u - 255);
}

}  // namespace
