#include "host/stack_pool.hpp"

#include <gtest/gtest.h>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "host/mheap.hpp"
#include "tests/host_region.hpp"

namespace {

using namespace warpheap;

struct stack_pool_test : ::testing::Test {
  test::host_region region{std::size_t{64} << 20};
  mheap heap{region.base(), region.bytes(), region.source()};
  stack_pool pool{heap};

  std::size_t stack_pages() const {
    return heap.stats().manual_pages[static_cast<unsigned>(manual_use::stacks)];
  }
};

TEST_F(stack_pool_test, sizes_and_orders) {
  EXPECT_EQ(stack_pool::rounded(0), 2048u);
  EXPECT_EQ(stack_pool::rounded(2048), 2048u);
  EXPECT_EQ(stack_pool::rounded(2049), 4096u);
  EXPECT_EQ(stack_pool::rounded(16384), 16384u);
  EXPECT_EQ(stack_pool::rounded(16385), 32768u);
  EXPECT_EQ(stack_pool::rounded(std::size_t{1} << 63), 0u);
  EXPECT_EQ(stack_pool::rounded(~std::size_t{0}), 0u);
  EXPECT_EQ(stack_pool::order_of(2048), 0u);
  EXPECT_EQ(stack_pool::order_of(4096), 1u);
  EXPECT_EQ(stack_pool::order_of(8192), 2u);
  EXPECT_EQ(stack_pool::order_of(16384), 3u);
  EXPECT_TRUE(stack_pool::is_small(16384));
  EXPECT_FALSE(stack_pool::is_small(32768));
}

TEST_F(stack_pool_test, a_span_holds_all_of_its_stacks_and_goes_with_the_last) {
  for (unsigned order = 0; order < stack_pool::orders; ++order) {
    const std::size_t size = stack_pool::size_of(order);
    const auto per_span = static_cast<unsigned>(stack_pool::cache_bytes / size);
    std::vector<void*> all(per_span + 1);
    ASSERT_EQ(pool.take(order, all.data(), per_span), per_span);
    EXPECT_EQ(stack_pages(), 4u);
    std::set<std::uintptr_t> starts;
    for (unsigned i = 0; i < per_span; ++i) {
      pool.begin_use(all[i], size);
      pool.end_use(all[i], size);
      starts.insert(reinterpret_cast<std::uintptr_t>(all[i]));
      std::memset(all[i], 0xee, size);
    }
    EXPECT_EQ(starts.size(), per_span);
    EXPECT_EQ(*starts.rbegin() - *starts.begin(), stack_pool::cache_bytes - size);
    ASSERT_EQ(pool.take(order, &all[per_span], 1), 1u);
    EXPECT_EQ(stack_pages(), 8u);
    // The first span comes and goes as its stacks do.
    for (unsigned i = 0; i < per_span; ++i) {
      EXPECT_EQ(stack_pages(), 8u);
      pool.give(order, &all[i], 1);
    }
    EXPECT_EQ(stack_pages(), 4u);
    pool.give(order, &all[per_span], 1);
    EXPECT_EQ(stack_pages(), 0u);
  }
  EXPECT_EQ(heap.stats().pages_in_use, 0u);
}

TEST_F(stack_pool_test, a_cache_moves_half_of_itself) {
  for (unsigned order = 0; order < stack_pool::orders; ++order) {
    const std::size_t size = stack_pool::size_of(order);
    stack_cache cache;
    std::vector<void*> all;
    // Underflow: 16 KiB come, of which one stack goes on.
    all.push_back(cache.take(pool, order));
    EXPECT_EQ(cache.bytes(order), 16384 - size);
    while (cache.bytes(order) > 0) all.push_back(cache.take(pool, order));
    EXPECT_EQ(all.size(), 16384 / size);
    for (unsigned i = 0; i < 2 * 16384 / size; ++i) all.push_back(cache.take(pool, order));
    // Overflow: full at 32 KiB, the next one moves 16 KiB out.
    while (cache.bytes(order) < 32768) {
      cache.give(pool, order, all.back());
      all.pop_back();
    }
    cache.give(pool, order, all.back());
    all.pop_back();
    EXPECT_EQ(cache.bytes(order), 16384 + size);
    while (!all.empty()) {
      cache.give(pool, order, all.back());
      all.pop_back();
    }
    cache.flush(pool);
    EXPECT_EQ(cache.bytes(order), 0u);
    EXPECT_EQ(stack_pages(), 0u);
  }
}

TEST_F(stack_pool_test, large_stacks_are_kept_by_their_size) {
  void* a = pool.take_large(32768);
  void* b = pool.take_large(131072);
  ASSERT_TRUE(a != nullptr && b != nullptr);
  for (const auto& [p, size] : {std::pair{a, 32768}, std::pair{b, 131072}}) {
    pool.begin_use(p, static_cast<std::size_t>(size));
    pool.end_use(p, static_cast<std::size_t>(size));
  }
  EXPECT_EQ(stack_pages(), 20u);
  pool.give_large(a, 32768);
  EXPECT_EQ(stack_pages(), 20u);
  EXPECT_EQ(pool.take_large(32768), a);
  EXPECT_NE(pool.take_large(32768), a);
  pool.give_large(a, 32768);
  pool.give_large(b, 131072);
  EXPECT_EQ(pool.release(), 32768u + 131072u);
  EXPECT_EQ(stack_pages(), 4u);
  // More than is kept goes back at once.
  void* large = pool.take_large(2 * stack_pool::max_kept_bytes);
  pool.give_large(large, 2 * stack_pool::max_kept_bytes);
  EXPECT_EQ(stack_pages(), 4u);
  EXPECT_EQ(pool.take_large(region.bytes()), nullptr);
}

TEST_F(stack_pool_test, out_of_memory_and_all_of_it_again) {
  for (int round = 0; round < 2; ++round) {
    stack_cache cache;
    std::vector<void*> all;
    while (void* p = cache.take(pool, 3)) all.push_back(p);
    EXPECT_EQ(all.size(), (region.bytes() / page_size - 1) / 4 * 2);
    for (void* p : all) cache.give(pool, 3, p);
    cache.flush(pool);
    EXPECT_EQ(stack_pages(), 0u);
  }
}

TEST_F(stack_pool_test, refused_memory_leaves_nothing_behind) {
  region.refuse = true;
  stack_cache cache;
  EXPECT_EQ(cache.take(pool, 0), nullptr);
  EXPECT_EQ(pool.take_large(65536), nullptr);
  region.refuse = false;
  void* p = cache.take(pool, 0);
  EXPECT_NE(p, nullptr);
  cache.give(pool, 0, p);
  cache.flush(pool);
  EXPECT_EQ(stack_pages(), 0u);
  EXPECT_EQ(heap.stats().free_pages * page_size, chunk_bytes);
}

// Bytes in are bytes out, whoever gives a stack back; stacks do not overlap.
TEST_F(stack_pool_test, threads_pass_stacks_on) {
  constexpr int threads = 4, rounds = 3000;
  std::mutex mutex;
  std::vector<std::pair<void*, unsigned>> shared;
  std::atomic<int> wrong{0};
  const auto work = [&](unsigned seed) {
    stack_cache cache;
    for (int i = 0; i < rounds; ++i) {
      seed = seed * 1664525 + 1013904223;
      const unsigned order = seed >> 30;
      void* p = cache.take(pool, order);
      if (p == nullptr) {
        ++wrong;
        continue;
      }
      pool.begin_use(p, stack_pool::size_of(order));
      std::memset(p, static_cast<int>(order + 1), stack_pool::size_of(order));
      std::pair<void*, unsigned> other{nullptr, 0};
      {
        const std::scoped_lock lock(mutex);
        shared.emplace_back(p, order);
        std::swap(shared.back(), shared[seed % shared.size()]);
        if (shared.size() > 40) {
          other = shared.back();
          shared.pop_back();
        }
      }
      if (other.first == nullptr) continue;
      const auto* bytes = static_cast<const unsigned char*>(other.first);
      const std::size_t size = stack_pool::size_of(other.second);
      if (bytes[0] != other.second + 1 || bytes[size - 1] != other.second + 1) ++wrong;
      pool.end_use(other.first, size);
      cache.give(pool, other.second, other.first);
      const stack_pool_stats st = pool.stats();
      if (st.inuse_bytes > st.sys_bytes || st.inuse_bytes + st.idle_bytes != st.sys_bytes) ++wrong;
    }
    cache.flush(pool);
  };
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t) all.emplace_back(work, t + 1);
  for (std::thread& t : all) t.join();
  EXPECT_EQ(wrong, 0);
  for (const auto& [p, order] : shared) {
    pool.end_use(p, stack_pool::size_of(order));
    pool.give(order, &p, 1);
  }
  EXPECT_EQ(stack_pages(), 0u);
  EXPECT_EQ(pool.stats().sys_bytes, 0u);
  EXPECT_EQ(pool.stats().inuse_bytes, 0u);
}

TEST_F(stack_pool_test, what_is_no_stack_aborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  void* p = nullptr;
  ASSERT_EQ(pool.take(1, &p, 1), 1u);
  const char* not_in_use = "no scratch stack that is in use";
  EXPECT_DEATH(pool.end_use(p, 4096), not_in_use);
  pool.begin_use(p, 4096);
  const char* no_stack = "no scratch stack of this (size|heap)";
  EXPECT_DEATH(pool.end_use(p, 2048), no_stack);
  EXPECT_DEATH(pool.end_use(static_cast<std::byte*>(p) + 16, 4096), no_stack);
  EXPECT_DEATH(pool.end_use(&p, 4096), no_stack);
  EXPECT_DEATH(pool.end_use(nullptr, 4096), no_stack);
  // What was not taken, and chunks of regions.
  EXPECT_DEATH(pool.end_use(static_cast<std::byte*>(p) + 4096, 4096), not_in_use);
  mspan* chunk = heap.alloc_manual(8, manual_use::regions);
  EXPECT_DEATH(pool.end_use(chunk->base(), 8 * page_size), not_in_use);
  heap.free_manual(chunk, manual_use::regions);
  pool.end_use(p, 4096);
  EXPECT_DEATH(pool.end_use(p, 4096), not_in_use);
  void* other = nullptr;
  ASSERT_EQ(pool.take(1, &other, 1), 1u);
  pool.give(1, &p, 1);
  EXPECT_DEATH(pool.give(1, &p, 1), "released twice");
  void* large = pool.take_large(65536);
  pool.give_large(large, 65536);
  EXPECT_DEATH(pool.give_large(large, 65536), "released twice");
}

}  // namespace
