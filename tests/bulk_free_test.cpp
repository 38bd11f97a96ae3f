// What a reset is for the objects, the pointers and the threads that were there before.
#include <gtest/gtest.h>
#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstring>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "tests/host_heap_fixture.hpp"
#include "tests/test_scale.hpp"

namespace {

using namespace warpheap;
using warpheap::test::expect_recount;

struct bulk_free_test : test::host_heap_fixture {
  /// Objects of all kinds and sizes, some freed again; what lives.
  std::vector<void*> populate(unsigned seed = 1) {
    std::mt19937 random(seed);
    std::vector<void*> all;
    for (int i = 0; i < 4000; ++i) {
      const std::size_t n = i % 200 == 0 ? 40000 + random() % 100000 : 1 + random() % 5000;
      all.push_back(heap.malloc(n, i % 3 == 0 ? contents::pointers : contents::no_pointers));
    }
    for (int i = 0; i < 1000; ++i) all.push_back(heap.malloc(1 + random() % 15));
    std::shuffle(all.begin(), all.end(), random);
    for (int i = 0; i < 1500; ++i) {
      EXPECT_EQ(heap.free(all.back()), free_status::ok);
      all.pop_back();
    }
    return all;
  }
  void sweep_all() {
    while (heap.sweep_some(10)) {
    }
  }
};

TEST_F(bulk_free_test, everything_is_freed_at_once_and_swept_later) {
  const auto before = populate();
  const host_heap_stats full = heap.stats();
  EXPECT_GT(full.spans, 100u);
  heap.reset();
  const host_heap_stats st = heap.stats();
  test::expect_nothing_lives(st);
  EXPECT_EQ(st.unswept_spans, full.spans);
  EXPECT_EQ(st.unswept_pages, full.pages_in_use);
  EXPECT_EQ(st.mallocs, full.mallocs);
  EXPECT_EQ(st.frees, full.mallocs);
  for (unsigned c = 0; c < num_classes; ++c) EXPECT_EQ(st.by_class[c].live, 0u);
  heap.for_each_live([](void*, std::size_t) { ADD_FAILURE() << "lives"; });
  expect_recount(heap);
  sweep_all();
  EXPECT_EQ(heap.stats().unswept_spans, 0u);
  EXPECT_EQ(heap.swept().freed, full.spans);
  EXPECT_EQ(heap.stats().frees, full.mallocs);
  EXPECT_EQ(heap.stats().free_pages, heap.stats().heap_sys_bytes / page_size);
  for (void* p : before) EXPECT_EQ(heap.free(p), free_status::double_free);
}

TEST_F(bulk_free_test, pointers_from_before_are_dead_whenever_their_span_is_swept) {
  for (unsigned round = 0; round < 4; ++round) {
    const auto before = populate(round);
    heap.reset();
    const auto expect_dead = [&] {
      for (void* p : before) {
        ASSERT_EQ(heap.free(p), free_status::double_free);
        ASSERT_EQ(heap.usable_size(p), 0u);
      }
    };
    expect_dead();
    std::thread(expect_dead).join();  // by a thread that owned nothing
    for (int i = 0; i < 40 && heap.sweep_some(5); ++i) expect_dead();
    const std::uint64_t refused =
        heap.stats().frees_by_status[static_cast<unsigned>(free_status::double_free)];
    EXPECT_GE(refused, 2 * before.size());
    EXPECT_EQ(heap.stats().live_objects, 0u);
    expect_recount(heap);
    if (round % 2 == 0) sweep_all();
  }
}

TEST_F(bulk_free_test, interior_pointers_from_before_are_told_from_objects) {
  auto* small = static_cast<char*>(heap.malloc(100));
  auto* large = static_cast<char*>(heap.malloc(100000));
  heap.reset();
  EXPECT_EQ(heap.free(small + 1), free_status::not_allocated);
  EXPECT_EQ(heap.free(large + page_size), free_status::not_allocated);
  EXPECT_EQ(heap.free(small), free_status::double_free);
  EXPECT_EQ(heap.free(large), free_status::double_free);
}

TEST_F(bulk_free_test, frees_of_dead_objects_do_not_touch_those_that_took_their_place) {
  // The class's spans are swept for allocation, one after the other; dead pointers are freed all
  // the time, each before its slot can have a new owner.
  std::vector<void*> dead;
  for (int i = 0; i < 5000; ++i) dead.push_back(heap.malloc(64));
  heap.reset();
  std::map<void*, bool> live;
  for (void* p : dead) {
    if (live.count(p) == 0) {
      ASSERT_EQ(heap.free(p), free_status::double_free);
    }
    void* q = heap.malloc(64);
    std::memset(q, 1, 64);
    ASSERT_TRUE(live.emplace(q, true).second);
  }
  EXPECT_EQ(heap.stats().live_objects, live.size());
  EXPECT_GT(heap.swept().for_allocation, 0u);
  for (const auto& [p, unused] : live) ASSERT_EQ(heap.free(p), free_status::ok);
}

TEST_F(bulk_free_test, allocation_sweeps_spans_of_its_class_before_it_takes_pages) {
  for (int i = 0; i < 3000; ++i) (void)heap.malloc(64);
  const std::uint64_t spans = heap.stats().spans;
  const std::uint64_t grown = heap.stats().heap_sys_bytes;
  heap.reset();
  for (int i = 0; i < 3000; ++i) (void)heap.malloc(64);
  EXPECT_EQ(heap.stats().spans, spans);
  EXPECT_EQ(heap.stats().heap_sys_bytes, grown);
  EXPECT_EQ(heap.swept().for_allocation, spans);
  EXPECT_EQ(heap.swept().freed, 0u);
}

/// Records of spans that `f` writes to.
template <class F>
std::size_t spans_written(const host_heap& heap, F&& f) {
  std::vector<const mspan*> spans;
  heap.pages().for_each_span([&](const mspan& s) { spans.push_back(&s); });
  std::vector<std::array<unsigned char, sizeof(mspan)>> before(spans.size());
  for (std::size_t i = 0; i < spans.size(); ++i) {
    std::memcpy(before[i].data(), static_cast<const void*>(spans[i]), sizeof(mspan));
  }
  f();
  std::size_t written = 0;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    written +=
        std::memcmp(before[i].data(), static_cast<const void*>(spans[i]), sizeof(mspan)) != 0;
  }
  return written;
}

TEST(bulk_free, reset_writes_to_as_many_spans_of_a_large_heap_as_of_a_small_one) {
  test::host_region region(std::size_t{1} << 30);
  std::vector<std::size_t> written;
  for (const std::size_t objects : {10u, 1000u, 25000u}) {
    host_heap heap(region.base(), region.bytes(), region.source());
    // Full spans, those with free slots, and large ones; all of one class each.
    std::vector<void*> all;
    for (std::size_t i = 0; i < objects; ++i) all.push_back(heap.malloc(8192));
    for (std::size_t i = 0; i < objects; ++i) all.push_back(heap.malloc(100));
    for (std::size_t i = 0; i < objects / 20; ++i) all.push_back(heap.malloc(40000));
    for (std::size_t i = 0; i < all.size(); i += 3) heap.free(all[i]);
    const std::uint64_t spans = heap.stats().spans;
    const sweep_counts swept = heap.swept();
    written.push_back(spans_written(heap, [&] { heap.reset(); }));
    EXPECT_EQ(heap.stats().unswept_spans, spans);
    EXPECT_EQ(heap.swept().freed + heap.swept().kept + heap.swept().for_allocation,
              swept.freed + swept.kept + swept.for_allocation);
    // Two classes with a current span and others, which are linked together; the kept large ones.
    EXPECT_LE(written.back(), 10u) << spans << " spans";
    if (objects == 25000) {
      EXPECT_GT(spans, 2400u);
    }
  }
}

TEST_F(bulk_free_test, what_can_never_be_had_sweeps_nothing) {
  populate();
  heap.reset();
  const auto unswept = heap.stats().unswept_spans;
  ASSERT_GT(unswept, 100u);
  for (const std::size_t n : {~std::size_t{0}, ~std::size_t{0} / 2, heap.reserve_bytes() + 1}) {
    EXPECT_EQ(heap.malloc(n), nullptr);
    EXPECT_EQ(heap.calloc(1, n), nullptr);
    EXPECT_EQ(heap.aligned_alloc(64, n), nullptr);
  }
  EXPECT_EQ(heap.stats().unswept_spans, unswept);
  EXPECT_EQ(heap.stats().out_of_memory, 9u);
  // Nor has the next allocation a debt to pay.
  EXPECT_NE(heap.malloc(100000), nullptr);
  EXPECT_GT(heap.stats().unswept_spans, unswept / 2);
}

TEST_F(bulk_free_test, next_reset_finds_nothing_unswept_or_makes_it_so) {
  for (int round = 0; round < 5; ++round) {
    populate(static_cast<unsigned>(round));
    const std::uint64_t spans = heap.stats().spans + heap.stats().unswept_spans;
    heap.reset();
    // Those of this round alone: what the last one left is gone.
    EXPECT_LE(heap.stats().unswept_spans, spans);
    EXPECT_EQ(heap.stats().live_objects, 0u);
  }
  heap.reset();
  EXPECT_EQ(heap.stats().unswept_spans, 0u);
  heap.reset();
  EXPECT_EQ(heap.stats().unswept_spans, 0u);
}

TEST_F(bulk_free_test, all_of_the_heap_can_be_had_after_a_reset) {
  test::host_region small(std::size_t{16} << 20);
  host_heap h(small.base(), small.bytes(), small.source());
  const std::size_t all = small.bytes() - page_size;
  for (int round = 0; round < 3; ++round) {
    while (h.malloc(3000) != nullptr) {
    }
    h.reset();
    EXPECT_NE(h.malloc(all), nullptr) << "one object";
    h.reset();
    std::size_t objects = 0;
    while (h.malloc(8192) != nullptr) ++objects;
    EXPECT_GE(objects, all / 8192 - 16) << "small ones";
    h.reset();
    EXPECT_GE(h.take_device_pages(1, 1024).count, 1024u);
    const page_run rest = h.take_device_pages(1023, 1023);
    EXPECT_EQ(rest.count, 1023u);
    for (std::uint32_t p = 0; p < all / page_size + 1; ++p) {
      if (h.is_device_page(p)) h.give_back_device_pages({p, 1});
    }
  }
}

TEST_F(bulk_free_test, spans_that_an_idle_thread_had_are_swept_without_it) {
  std::barrier step(2);
  void* theirs = nullptr;
  std::thread idle([&] {
    for (int i = 0; i < 1000; ++i) theirs = heap.malloc(48);
    for (int i = 0; i < 10; ++i) (void)heap.malloc(5);
    heap.free(heap.malloc(100000));  // kept by its cache
    step.arrive_and_wait();
    step.arrive_and_wait();
    // Its cache is of the cycle before.
    EXPECT_EQ(heap.free(theirs), free_status::double_free);
    void* p = heap.malloc(48);
    EXPECT_NE(p, nullptr);
    EXPECT_EQ(heap.free(p), free_status::ok);
  });
  step.arrive_and_wait();
  heap.reset();
  EXPECT_EQ(heap.stats().thread_caches, 0u);
  sweep_all();
  EXPECT_EQ(heap.stats().unswept_spans, 0u);
  EXPECT_GT(heap.trim(), 0u);
  EXPECT_EQ(heap.stats().released_bytes, heap.stats().heap_sys_bytes);
  step.arrive_and_wait();
  idle.join();
  EXPECT_EQ(heap.stats().live_objects, 0u);
}

TEST_F(bulk_free_test, thread_that_ends_after_a_reset_leaves_the_sweep_alone) {
  std::barrier step(2);
  std::thread ends([&] {
    for (int i = 0; i < 1000; ++i) (void)heap.malloc(48);
    step.arrive_and_wait();
    step.arrive_and_wait();
  });
  step.arrive_and_wait();
  const std::uint64_t spans = heap.stats().spans;
  heap.reset();
  step.arrive_and_wait();
  ends.join();
  EXPECT_EQ(heap.stats().unswept_spans, spans);
  sweep_all();
  EXPECT_EQ(heap.swept().freed, spans);
}

/// A model: what lives, and what a reset has made of the rest.
TEST_F(bulk_free_test, does_what_a_list_of_objects_does) {
  struct object {
    std::size_t bytes;
    unsigned char mark;
  };
  std::mt19937 random(42);
  std::map<char*, object> live;
  std::vector<char*> dead;  // may be live again
  const int steps = warpheap::testing::scaled(60000);
  for (int step = 0; step < steps; ++step) {
    switch (random() % 16) {
      default: {
        const std::size_t kinds[] = {1 + random() % 15, 16 + random() % 300, 1 + random() % 40000,
                                     32769 + random() % 100000};
        const std::size_t n = kinds[std::min<unsigned>(random() % 12 / 3, 3)];
        const auto kind = random() % 2 == 0 ? contents::pointers : contents::no_pointers;
        const bool zeroed = random() % 4 == 0;
        auto* p = static_cast<char*>(zeroed ? heap.calloc(1, n, kind) : heap.malloc(n, kind));
        ASSERT_NE(p, nullptr);
        if (zeroed) {
          ASSERT_TRUE(std::all_of(p, p + n, [](char c) { return c == 0; }));
        }
        const auto mark = static_cast<unsigned char>(random());
        std::memset(p, mark, n);
        const auto above = live.lower_bound(p);
        ASSERT_TRUE(above == live.end() || above->first >= p + n);
        ASSERT_TRUE(above == live.begin()
                    || std::prev(above)->first + std::prev(above)->second.bytes <= p);
        live[p] = {n, mark};
        break;
      }
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
      case 6: {
        if (live.empty()) break;
        const auto at = std::next(live.begin(), static_cast<long>(random() % live.size() % 50));
        for (std::size_t i = 0; i < at->second.bytes; ++i) {
          ASSERT_EQ(static_cast<unsigned char>(at->first[i]), at->second.mark);
        }
        ASSERT_EQ(heap.free(at->first), free_status::ok);
        dead.push_back(at->first);
        live.erase(at);
        break;
      }
      case 7: {
        if (dead.empty()) break;
        char* p = dead[random() % dead.size()];
        if (live.count(p) != 0) break;
        const free_status got = heap.free(p);
        // Where another object covers the place, or a span of another class.
        ASSERT_NE(got, free_status::ok);
        ASSERT_EQ(heap.usable_size(p), 0u);
        break;
      }
      case 8: {
        if (random() % 100 != 0) break;
        heap.reset();
        for (const auto& [p, o] : live) dead.push_back(p);
        live.clear();
        if (dead.size() > 10000) dead.erase(dead.begin(), dead.end() - 10000);
        break;
      }
      case 9: heap.sweep_some(random() % 4); break;
      case 10:
        if (random() % 200 == 0) heap.trim();
        break;
    }
    if (step % 5000 == 0) {
      ASSERT_EQ(heap.stats().live_objects, live.size());
      expect_recount(heap);
    }
  }
  ASSERT_EQ(heap.stats().live_objects, live.size());
}

TEST(bulk_free, threads_allocate_free_and_sweep_after_each_reset) {
  test::host_region region(std::size_t{256} << 20);
  host_heap heap(region.base(), region.bytes(), region.source());
  constexpr int threads = 4;
  const int rounds = warpheap::testing::scaled(30);
  std::vector<std::vector<void*>> mine(threads);
  std::atomic<int> busy{0};
  std::uint64_t expected = 0;
  std::barrier between(threads + 1, [&]() noexcept {
    if (busy.exchange(threads) != 0) std::abort();
  });
  std::barrier end(threads + 1);
  const auto work = [&](int t) {
    std::mt19937 random(static_cast<unsigned>(t));
    for (int round = 0; round < rounds; ++round) {
      between.arrive_and_wait();
      // Those of the round before, freed by their allocator and by its neighbour, while others
      // sweep their spans. Nobody has allocated anything yet.
      for (const int of : {t, (t + 1) % threads}) {
        for (void* p : mine[static_cast<std::size_t>(of)]) {
          if (heap.free(p) != free_status::double_free) ADD_FAILURE() << "freed again";
        }
      }
      --busy;
      while (busy != 0) (void)heap.sweep_some(1);
      std::vector<void*> fresh;
      for (int i = 0; i < 2000; ++i) {
        const std::size_t n = 1 + random() % (i % 50 == 0 ? 60000 : 700);
        void* p = heap.malloc(n);
        if (p == nullptr) {
          ADD_FAILURE() << "no room";
          continue;
        }
        std::memset(p, t, n);
        fresh.push_back(p);
        if (i % 3 == 0) {
          if (heap.free(fresh.back()) != free_status::ok) ADD_FAILURE() << "not freed";
          fresh.pop_back();
        }
        if (i % 100 == 0) (void)heap.sweep_some(2);
      }
      for (void* p : fresh) {
        if (*static_cast<char*>(p) != t) ADD_FAILURE() << "another's object";
      }
      end.arrive_and_wait();  // all have read mine
      mine[static_cast<std::size_t>(t)] = std::move(fresh);
      end.arrive_and_wait();
      end.arrive_and_wait();  // all is as it was counted, and then reset
    }
  };
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) running.emplace_back(work, t);
  for (int round = 0; round < rounds; ++round) {
    between.arrive_and_wait();
    end.arrive_and_wait();
    end.arrive_and_wait();
    expected = 0;
    for (const auto& m : mine) expected += m.size();
    EXPECT_EQ(heap.stats().live_objects, expected);
    expect_recount(heap);
    heap.reset();
    end.arrive_and_wait();
  }
  for (std::thread& t : running) t.join();
  EXPECT_EQ(heap.stats().live_objects, 0u);
}

}  // namespace
