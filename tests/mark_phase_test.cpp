// What is allocated after the first mark outlives the sweep without a mark. (Go: allocate black.)
#include <gtest/gtest.h>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "host/barrier_for_all.hpp"
#include "tests/host_heap_fixture.hpp"
#include "tests/test_scale.hpp"

namespace {

using namespace warpheap;

struct mark_phase_test : test::host_heap_fixture {
  std::vector<void*> make(std::size_t n, unsigned count, contents kind = contents::no_pointers) {
    std::vector<void*> all;
    for (unsigned i = 0; i < count; ++i) {
      void* p = heap.malloc(n, kind);
      EXPECT_NE(p, nullptr);
      std::memset(p, 0x5a, n);
      all.push_back(p);
    }
    return all;
  }
  bool lives(void* p) const { return heap.usable_size(p) != 0; }
  /// Ends with nothing.
  void expect_sweep(std::uint64_t kept, std::uint64_t leaked) {
    const sweep_report report = heap.sweep();
    EXPECT_TRUE(report.complete);
    EXPECT_EQ(report.kept.objects, kept);
    EXPECT_EQ(report.leaked.objects, leaked);
    EXPECT_EQ(report.dangling, 0u);
    test::expect_recount(heap);
  }
};

// Sizes of every way that an allocation goes, and counts so that some are of the word in use when
// the phase begins, and some of others, of new spans, and of open and new tiny blocks.
TEST_F(mark_phase_test, new_objects_of_all_sizes_live_on_and_old_ones_do_not) {
  for (const std::size_t n :
       {1u, 3u, 7u, 8u, 12u, 15u, 16u, 100u, 1000u, 5000u, 30000u, 32768u, 40000u, 1000000u}) {
    const unsigned count = n > 30000 ? 3 : n > 1000 ? 20 : 2500;
    for (const contents kind : {contents::no_pointers, contents::pointers}) {
      for (const unsigned before : {0u, 1u, count}) {
        SCOPED_TRACE(std::to_string(n) + " bytes, " + std::to_string(before) + " before");
        const auto old = make(n, before, kind);
        void* const root = heap.malloc(200);
        ASSERT_EQ(heap.mark(root), mark_status::marked);
        const auto made = make(n, count, kind);
        expect_sweep(made.size() + 1, old.size());
        for (void* p : made) ASSERT_TRUE(lives(p));
        // For one sweep only.
        ASSERT_EQ(heap.mark(root), mark_status::marked);
        expect_sweep(1, made.size());
        heap.reset();
      }
    }
  }
}

TEST_F(mark_phase_test, slots_that_were_freed_before_and_since) {
  for (const std::size_t n : {5u, 48u, 3000u, 50000u}) {
    SCOPED_TRACE(n);
    const unsigned count = n > 3000 ? 8 : 500;
    auto old = make(n, count);
    for (unsigned i = 0; i < count; i += 4) ASSERT_EQ(heap.free(old[i]), free_status::ok);
    void* const root = heap.malloc(200);
    ASSERT_EQ(heap.mark(root), mark_status::marked);
    for (unsigned i = 1; i < count; i += 4) ASSERT_EQ(heap.free(old[i]), free_status::ok);
    std::thread([&] {
      for (unsigned i = 2; i < count; i += 4) EXPECT_EQ(heap.free(old[i]), free_status::ok);
    }).join();
    const auto made = make(n, count);
    expect_sweep(made.size() + 1, count / 4);
    for (void* p : made) ASSERT_TRUE(lives(p));
    heap.reset();
  }
}

// Each thread has a word in use when the phase begins, of which it knows nothing.
TEST_F(mark_phase_test, threads_that_had_caches_and_threads_that_come) {
  constexpr int threads = 4;
  std::atomic<int> ready{0};
  std::atomic<bool> marked{false};
  std::vector<std::vector<void*>> old(threads), made(2 * threads);
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t) {
    all.emplace_back([&, t] {
      for (const std::size_t n : {2u, 24u, 500u})
        for (void* p : make(n, 5 + t * 9)) old[t].push_back(p);
      ++ready;
      while (!marked) std::this_thread::yield();
      for (const std::size_t n : {2u, 24u, 500u, 60000u})
        for (void* p : make(n, 30)) made[t].push_back(p);
    });
  }
  while (ready != threads) std::this_thread::yield();
  void* const root = heap.malloc(300);
  ASSERT_EQ(heap.mark(root), mark_status::marked);
  marked = true;
  for (unsigned t = 0; t < threads; ++t) {
    std::thread([&, t] {
      for (void* p : make(24, 100)) made[threads + t].push_back(p);
    }).join();
  }
  for (std::thread& t : all) t.join();
  std::uint64_t before = 0, since = 0;
  for (const auto& objects : old) before += objects.size();
  for (const auto& objects : made) since += objects.size();
  expect_sweep(since + 1, before);
  for (const auto& objects : made)
    for (void* p : objects) ASSERT_TRUE(lives(p));
  heap.reset();
}

// The phase begins at any moment of what threads do.
TEST_F(mark_phase_test, a_phase_begins_while_threads_allocate) {
  for (int round = 0; round < warpheap::testing::scaled(60); ++round) {
    void* const root = heap.malloc(300);
    std::atomic<bool> begun{false}, stop{false};
    std::atomic<unsigned> running{0};
    std::vector<std::vector<std::pair<unsigned char*, std::size_t>>> since(3);
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(static_cast<unsigned>(round) * 3 + t);
        std::vector<void*> mine;
        ++running;
        while (!stop) {
          const std::size_t n = random() % 3 == 0    ? 1 + random() % 15
                                : random() % 64 == 0 ? 40000
                                                     : 16 + random() % 200;
          const bool is_new = begun;  // before the call
          auto* p = static_cast<unsigned char*>(heap.malloc(n));
          if (p == nullptr) break;
          std::memset(p, static_cast<int>(n), n);
          if (is_new) {
            since[t].emplace_back(p, n);
            if (since[t].size() == 3000) break;
          } else {
            mine.push_back(p);
          }
          if (mine.size() > 200) {
            std::swap(mine[random() % mine.size()], mine.back());
            if (heap.free(mine.back()) != free_status::ok) std::abort();
            mine.pop_back();
          }
        }
      });
    }
    while (running != 3) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(200 + 97 * round % 1000));
    ASSERT_EQ(heap.mark(root), mark_status::marked);
    begun = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    stop = true;
    for (std::thread& t : threads) t.join();
    const sweep_report report = heap.sweep(0);
    ASSERT_TRUE(report.complete);
    ASSERT_EQ(report.dangling, 0u);
    for (const auto& objects : since) {
      for (const auto& [p, n] : objects) {
        ASSERT_TRUE(lives(p)) << n << " bytes, round " << round;
        ASSERT_EQ(p[n - 1], static_cast<unsigned char>(n));
      }
    }
    test::expect_recount(heap);
    heap.reset();
  }
}

// Marks, allocations and frees in any order, against a set.
TEST_F(mark_phase_test, does_what_a_set_of_objects_does) {
  std::mt19937 random(5);
  std::map<void*, bool> live;  // whether it outlives the sweep
  bool begun = false;
  for (int i = 0; i < warpheap::testing::scaled(200'000); ++i) {
    const auto any = [&] {
      auto at = live.lower_bound(static_cast<std::byte*>(heap.base())
                                 + random() % (std::size_t{32} << 20));
      return at == live.end() ? live.begin() : at;
    };
    switch (random() % 1000) {
      case 0: {
        if (!begun) break;
        std::uint64_t kept = 0;
        for (const auto& [p, stays] : live) kept += stays;
        expect_sweep(kept, live.size() - kept);
        for (auto at = live.begin(); at != live.end();)
          at = at->second ? std::next(at) : live.erase(at);
        for (auto& [p, stays] : live) stays = false;
        begun = false;
        break;
      }
      case 1:
      case 2:
      case 3: {
        if (live.empty()) break;
        const auto at = any();
        const mark_status status = heap.mark(at->first);
        ASSERT_TRUE(status == mark_status::marked || (at->second && status == mark_status::again));
        at->second = begun = true;
        break;
      }
      default: {
        if (random() % 2 == 0 && !live.empty()) {
          // Of what has a mark nothing is freed: it would be dangling, or not if its slot was used.
          const auto at = any();
          if (at->second) break;
          ASSERT_EQ(heap.free(at->first), free_status::ok);
          live.erase(at);
          break;
        }
        const std::size_t n = random() % 3 == 0    ? 1 + random() % 15
                              : random() % 50 == 0 ? 33000 + random() % 50000
                                                   : 16 + random() % 600;
        void* p = heap.malloc(n, random() % 2 == 0 ? contents::pointers : contents::no_pointers);
        ASSERT_NE(p, nullptr);
        live.emplace(p, begun);
      }
    }
  }
  heap.reset();
}

TEST_F(mark_phase_test, a_reset_ends_it) {
  void* const root = heap.malloc(300);
  ASSERT_EQ(heap.mark(root), mark_status::marked);
  heap.reset();
  const auto made = make(100, 1000);
  expect_sweep(0, made.size());
}

TEST_F(mark_phase_test, zeroed_aligned_and_moved_objects_are_new_too) {
  void* const old = heap.malloc(100);
  void* const root = heap.malloc(300);
  ASSERT_EQ(heap.mark(root), mark_status::marked);
  void* const zeroed = heap.calloc(1, 700);
  void* const large = heap.calloc(1, 700'000);
  void* const aligned = heap.aligned_alloc(4096, 5000);
  void* const wide = heap.aligned_alloc(1 << 20, 100);
  expect_sweep(5, 1);
  EXPECT_FALSE(lives(old));
  for (void* p : {root, zeroed, large, aligned, wide}) EXPECT_TRUE(lives(p));
  heap.reset();
}

void wait_for(const std::atomic<int>& word, int value) {
  for (int spins = 0; word.load(std::memory_order_acquire) != value; ++spins)
    if (spins > 1000) std::this_thread::yield();
}

// Two threads store and then look at each other's word. One of them has only a fence of the
// compiler, as the other's barrier is for both: at least one sees what the other has stored.
TEST(barrier_for_all, orders_a_store_and_a_load_of_another_thread) {
  const int rounds = warpheap::testing::scaled(20'000);
  alignas(64) std::atomic<int> first{0};
  alignas(64) std::atomic<int> second{0};
  alignas(64) std::atomic<int> round{0};
  alignas(64) std::atomic<int> arrived{0};
  std::vector<unsigned char> first_saw(static_cast<std::size_t>(rounds) + 1);
  std::thread other([&] {
    for (int r = 1; r <= rounds; ++r) {
      wait_for(round, r);
      first.store(r, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      first_saw[static_cast<std::size_t>(r)] = second.load(std::memory_order_relaxed) == r;
      arrived.store(r, std::memory_order_release);
    }
  });
  int both_missed = 0;
  for (int r = 1; r <= rounds; ++r) {
    round.store(r, std::memory_order_release);
    // As long as the other takes to see it, more or less.
    for (int i = r % 256; i > 0; --i) std::atomic_signal_fence(std::memory_order_seq_cst);
    second.store(r, std::memory_order_relaxed);
    barrier_for_all();
    const bool second_saw = first.load(std::memory_order_relaxed) == r;
    wait_for(arrived, r);
    both_missed += !second_saw && first_saw[static_cast<std::size_t>(r)] == 0;
  }
  other.join();
  EXPECT_EQ(both_missed, 0);
}

}  // namespace
