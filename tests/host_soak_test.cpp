// Very many operations of several threads on one heap: tests/run --long makes 10^9 of them.
#include <gtest/gtest.h>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "tests/host_heap_fixture.hpp"
#include "tests/test_scale.hpp"

namespace {

using namespace warpheap;

/// Contents follow from the address and the number of its use, which is kept beside the stamp.
struct head {
  std::uint64_t stamp;
  std::uint64_t generation;
};

std::uint64_t stamp_of(const void* p, std::uint64_t generation) {
  return (reinterpret_cast<std::uintptr_t>(p) ^ generation << 40) * 0x9e3779b97f4a7c15u;
}

/// n: all bytes that may be used, at least 24. The last 8 repeat the stamp.
void write(head* p, std::size_t n, std::uint64_t generation) {
  const std::uint64_t stamp = stamp_of(p, generation);
  *p = {stamp, generation};
  std::memcpy(reinterpret_cast<std::byte*>(p) + n - 8, &stamp, 8);
}

bool intact(const head* p, std::size_t n) {
  std::uint64_t end = 0;
  std::memcpy(&end, reinterpret_cast<const std::byte*>(p) + n - 8, 8);
  return p->stamp == stamp_of(p, p->generation) && end == p->stamp;
}

std::size_t bytes_for(std::uint64_t r) {
  if (r % 1024 == 0) return 32769 + r / 1024 % 100'000;
  if (r % 16 == 0) return 24 + r / 16 % 8000;
  return 24 + r / 16 % 256;
}

struct host_soak : warpheap::test::host_heap_fixture {};

TEST_F(host_soak, objects_stay_intact_and_none_is_lost) {
  constexpr unsigned threads = 4;
  constexpr unsigned slots = 2048;
  const std::uint64_t rounds = warpheap::testing::scaled(std::uint64_t{5'000'000}) / threads;
  // Half of all objects are left in a place of all threads, and freed by whoever comes next.
  struct place {
    std::atomic<head*> p{nullptr};
  };
  std::vector<place> shared(slots);
  std::atomic<std::uint64_t> broken{0}, mallocs{0}, frees{0}, resized{0};
  const auto work = [&](unsigned thread) {
    std::mt19937_64 random(thread);
    std::array<head*, 256> mine{};
    std::uint64_t wrong = 0, made = 0, freed = 0;
    const auto let_go = [&](head* p) {
      if (p == nullptr) return;
      wrong += !intact(p, heap.usable_size(p));
      p->stamp = 0;  // a second owner of it would notice
      wrong += heap.free(p) != free_status::ok;
      ++freed;
    };
    for (std::uint64_t i = 0; i < rounds; ++i) {
      const std::uint64_t r = random();
      auto* p = static_cast<head*>(heap.malloc(bytes_for(r >> 20)));
      if (p == nullptr) {
        ++wrong;
        break;
      }
      ++made;
      write(p, heap.usable_size(p), i * threads + thread);
      if (const std::size_t n = heap.usable_size(p); n > max_small_size) {
        // Longer or shorter where it is, if that can be.
        resized += heap.resize(p, n, 32769 + (r >> 40) % 200'000);
        wrong += p->stamp != stamp_of(p, p->generation);
        write(p, heap.usable_size(p), p->generation);
      }
      head* old = nullptr;
      if (r % 2 == 0) {
        old = shared[r / 2 % slots].p.exchange(p, std::memory_order_acq_rel);
      } else {
        old = std::exchange(mine[r / 2 % mine.size()], p);
      }
      let_go(old);
    }
    for (head* p : mine) let_go(p);
    broken += wrong;
    mallocs += made;
    frees += freed;
  };
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t) all.emplace_back(work, t);
  for (std::thread& t : all) t.join();
  for (place& s : shared) {
    if (head* p = s.p.load(); p != nullptr) {
      broken += heap.free(p) != free_status::ok;
      ++frees;
    }
  }
  EXPECT_EQ(broken, 0u);
  EXPECT_GT(resized, 0u);
  EXPECT_EQ(mallocs, rounds * threads);
  EXPECT_EQ(frees, mallocs);
  EXPECT_EQ(heap.stats().mallocs, mallocs);
  EXPECT_EQ(heap.stats().live_objects, 0u);
  EXPECT_TRUE(heap.take_late_double_frees().empty());
  heap.trim();
  EXPECT_EQ(heap.stats().pages_in_use, 0u);
}

}  // namespace
