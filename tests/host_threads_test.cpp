#include "host/host_heap.hpp"

#include <gtest/gtest.h>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "tests/host_region.hpp"
#include "tests/test_scale.hpp"

namespace {

using namespace warpheap;

struct object {
  unsigned char* p;
  std::size_t n;
  unsigned generation;
};

/// Contents follow from address and generation: an object that two threads own shows.
unsigned char byte_of(const object& o, std::size_t i) {
  const auto a = reinterpret_cast<std::uintptr_t>(o.p) + i;
  return static_cast<unsigned char>((a >> 3) * 31 + a * 7 + o.generation);
}
void fill(const object& o) {
  for (std::size_t i = 0; i < o.n; ++i) o.p[i] = byte_of(o, i);
}
bool intact(const object& o) {
  for (std::size_t i = 0; i < o.n; ++i) {
    if (o.p[i] != byte_of(o, i)) return false;
  }
  return true;
}

class queue {
 public:
  void push(const object& o) {
    const std::scoped_lock lock(mutex_);
    objects_.push_back(o);
  }
  bool pop(object& o) {
    const std::scoped_lock lock(mutex_);
    if (objects_.empty()) return false;
    o = objects_.front();
    objects_.pop_front();
    return true;
  }

 private:
  std::mutex mutex_;
  std::deque<object> objects_;
};

std::size_t some_size(std::mt19937& random) {
  switch (random() % 16) {
    case 0: return random() % 60000 + 1;
    case 1:
    case 2:
    case 3: return random() % 15 + 1;
    case 4: return 8192;
    default: return random() % 600 + 1;
  }
}

void run_threads(unsigned n, const std::function<void(unsigned)>& f) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < n; ++t) threads.emplace_back(f, t);
  for (std::thread& t : threads) t.join();
}

TEST(host_threads, objects_pass_between_threads) {
  constexpr unsigned n = 4;
  test::host_region region(std::size_t{256} << 20);
  host_heap heap(region.base(), region.bytes(), region.source());
  queue to[n];
  std::atomic<unsigned> broken{0}, failed{0};
  run_threads(n, [&](unsigned me) {
    std::mt19937 random(me);
    std::vector<object> mine;
    for (unsigned step = 0; step < 8000; ++step) {
      const std::size_t size = some_size(random);
      const object o{static_cast<unsigned char*>(heap.malloc(size)), size, step};
      if (o.p == nullptr) {
        ++failed;
        continue;
      }
      fill(o);
      if (random() % 2) {
        to[random() % n].push(o);
      } else {
        mine.push_back(o);
      }
      object got{};
      if (random() % 3 == 0 && !mine.empty()) {
        std::swap(mine[random() % mine.size()], mine.back());
        got = mine.back();
        mine.pop_back();
      } else if (!to[me].pop(got)) {
        continue;
      }
      broken += !intact(got);
      failed += heap.free(got.p) != free_status::ok;
    }
    for (const object& o : mine) {
      broken += !intact(o);
      failed += heap.free(o.p) != free_status::ok;
    }
  });
  object o{};
  for (queue& q : to) {
    while (q.pop(o)) {
      broken += !intact(o);
      failed += heap.free(o.p) != free_status::ok;
    }
  }
  EXPECT_EQ(broken, 0u);
  EXPECT_EQ(failed, 0u);
  EXPECT_EQ(heap.stats().live_objects, 0u);
  EXPECT_EQ(heap.stats().live_bytes, 0u);
  EXPECT_EQ(heap.stats().thread_caches, 1u);  // this thread's; the others' went with them
  heap.trim();
  EXPECT_EQ(heap.stats().pages_in_use, 0u);
  EXPECT_EQ(heap.stats().released_bytes, heap.stats().free_pages * page_size);
}

TEST(host_threads, one_allocates_and_others_free) {
  // Every span goes through full, partial and empty while its owner takes new ones.
  test::host_region region(std::size_t{64} << 20);
  host_heap heap(region.base(), region.bytes(), region.source());
  for (const std::size_t size : {std::size_t{8192}, std::size_t{2048}, std::size_t{128},
                                 std::size_t{16}, std::size_t{3}, std::size_t{40000}}) {
    queue q;
    std::atomic<bool> done{false};
    std::atomic<unsigned> wrong{0};
    run_threads(3, [&](unsigned me) {
      if (me == 0) {
        for (unsigned i = 0; i < 6000; ++i) {
          const object o{static_cast<unsigned char*>(heap.malloc(size)), size, i};
          if (o.p == nullptr) {
            std::this_thread::yield();  // the others are behind
            continue;
          }
          o.p[0] = byte_of(o, 0);
          o.p[size - 1] = byte_of(o, size - 1);
          q.push(o);
        }
        done = true;
        return;
      }
      object o{};
      for (;;) {
        const bool last = done;
        if (q.pop(o)) {
          wrong += o.p[0] != byte_of(o, 0) || o.p[size - 1] != byte_of(o, size - 1);
          wrong += heap.free(o.p) != free_status::ok;
        } else if (last) {
          return;
        } else {
          std::this_thread::yield();
        }
      }
    });
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(heap.stats().live_objects, 0u);
    heap.trim();
    EXPECT_EQ(heap.stats().pages_in_use, 0u) << size;
  }
}

TEST(host_threads, of_many_frees_of_one_object_one_succeeds) {
  constexpr unsigned n = 4;
  test::host_region region(std::size_t{64} << 20);
  host_heap heap(region.base(), region.bytes(), region.source());
  for (const std::size_t size : {std::size_t{6}, std::size_t{64}, std::size_t{50000}}) {
    std::vector<void*> all;
    for (int i = 0; i < 400; ++i) all.push_back(heap.malloc(size));
    const host_heap_stats before = heap.stats();
    std::atomic<unsigned> ok{0}, twice{0};
    run_threads(n, [&](unsigned) {
      for (void* p : all) {
        const free_status s = heap.free(p);
        ok += s == free_status::ok;
        twice += s == free_status::double_free;
      }
    });
    heap.trim();  // this thread's spans are collected, those of the others have been
    // Frees at the same time may both be answered "ok"; then one is told now.
    const std::size_t late = heap.take_late_double_frees().size();
    EXPECT_EQ(ok, all.size() + late);
    EXPECT_EQ(ok + twice, n * all.size());
    const host_heap_stats after = heap.stats();
    EXPECT_EQ(after.frees - before.frees, all.size());
    const auto told = static_cast<unsigned>(free_status::double_free);
    EXPECT_EQ(after.frees_by_status[told] - before.frees_by_status[told], (n - 1) * all.size());
    EXPECT_EQ(after.live_objects, 0u);
  }
}

TEST(host_threads, second_free_by_another_thread_is_told_at_once) {
  // One thread at a time, in an order that each knows of; whose span it is varies.
  test::host_region region(std::size_t{64} << 20);
  host_heap heap(region.base(), region.bytes(), region.source());
  for (const std::size_t size : {std::size_t{6}, std::size_t{64}, std::size_t{3000}}) {
    std::vector<void*> all;
    for (int i = 0; i < 3000; ++i) all.push_back(heap.malloc(size));
    const auto expect = [&](std::size_t from, free_status want) {
      for (std::size_t i = from; i < all.size(); i += 3) ASSERT_EQ(heap.free(all[i]), want) << i;
    };
    run_threads(1, [&](unsigned) { expect(0, free_status::ok); });
    expect(1, free_status::ok);
    expect(0, free_status::double_free);
    run_threads(1, [&](unsigned) {
      expect(0, free_status::double_free);
      expect(1, free_status::double_free);
      expect(2, free_status::ok);
    });
    for (std::size_t from : {0u, 1u, 2u}) expect(from, free_status::double_free);
  }
  EXPECT_TRUE(heap.take_late_double_frees().empty());
  EXPECT_EQ(heap.stats().live_objects, 0u);
}

TEST(host_threads, spans_change_hands_while_others_free_in_them) {
  // Two threads swap objects at every step, so that spans run full, are freed in and adopted at the
  // same time; threads end with live objects, which others free.
  test::host_region region(std::size_t{64} << 20);
  host_heap heap(region.base(), region.bytes(), region.source());
  for (const std::size_t size : {std::size_t{8192}, std::size_t{1000}, std::size_t{100},
                                 std::size_t{9}, std::size_t{20000}}) {
    constexpr std::size_t places = 64;
    std::array<std::atomic<void*>, places> slots{};
    std::atomic<unsigned> wrong{0};
    const int steps = warpheap::testing::scaled(20000);
    for (int generation = 0; generation < 4; ++generation) {
      run_threads(2, [&](unsigned me) {
        std::mt19937 random(me + static_cast<unsigned>(generation) * 10);
        for (int i = 0; i < steps; ++i) {
          auto* p = static_cast<unsigned char*>(heap.malloc(size));
          if (p != nullptr) {
            p[0] = static_cast<unsigned char>(reinterpret_cast<std::uintptr_t>(p) >> 3);
            p[size - 1] = p[0];
          }
          auto* old = static_cast<unsigned char*>(slots[random() % places].exchange(p));
          if (old == nullptr) continue;
          wrong += old[0] != static_cast<unsigned char>(reinterpret_cast<std::uintptr_t>(old) >> 3);
          wrong += old[0] != old[size - 1];
          wrong += heap.free(old) != free_status::ok;
        }
      });
    }
    for (auto& slot : slots) {
      if (void* p = slot.exchange(nullptr); p != nullptr) wrong += heap.free(p) != free_status::ok;
    }
    EXPECT_EQ(wrong, 0u) << size;
    heap.trim();
    const host_heap_stats st = heap.stats();
    EXPECT_EQ(st.live_objects, 0u) << size;
    EXPECT_EQ(st.live_bytes, 0u) << size;
    EXPECT_EQ(st.pages_in_use, 0u) << size;  // no slot and no span was lost
  }
  EXPECT_TRUE(heap.take_late_double_frees().empty());
}

TEST(host_threads, figures_may_be_read_at_any_time) {
  test::host_region region(std::size_t{64} << 20);
  host_heap heap(region.base(), region.bytes(), region.source());
  std::atomic<bool> done{false};
  std::thread reader([&] {
    while (!done) {
      const host_heap_stats st = heap.stats();
      EXPECT_LE(st.free_pages * page_size, st.heap_sys_bytes);
      EXPECT_LE(st.heap_sys_bytes, st.reserved_bytes);
    }
  });
  run_threads(2, [&](unsigned me) {
    std::mt19937 random(me);
    for (int i = 0; i < 3000; ++i) heap.free(heap.malloc(some_size(random)));
  });
  done = true;
  reader.join();
  EXPECT_EQ(heap.stats().live_objects, 0u);
}

TEST(host_threads, device_pages_come_and_go_beside_host_objects) {
  test::host_region region(std::size_t{64} << 20);
  host_heap heap(region.base(), region.bytes(), region.source());
  run_threads(3, [&](unsigned me) {
    std::mt19937 random(me);
    for (int i = 0; i < 1500; ++i) {
      if (me == 0) {
        const page_run run = heap.take_device_pages(1, random() % 300 + 1);
        for (std::uint32_t k = 0; k < run.count; ++k) {
          std::byte* page = region.base() + std::size_t{run.first + k} * page_size;
          page[0] = std::byte{1};
          EXPECT_EQ(heap.free(page), free_status::device_page);
        }
        heap.give_back_device_pages(run);
      } else {
        const std::size_t size = some_size(random);
        const object o{static_cast<unsigned char*>(heap.malloc(size)), size, 0};
        if (o.p == nullptr) continue;
        fill(o);
        EXPECT_TRUE(intact(o));
        EXPECT_EQ(heap.free(o.p), free_status::ok);
        if (i % 500 == 0) heap.trim();
      }
    }
  });
  EXPECT_EQ(heap.stats().device_pages, 0u);
}

TEST(host_threads, heap_may_go_before_the_threads_that_used_it) {
  test::host_region region(std::size_t{16} << 20);
  auto heap = std::make_unique<host_heap>(region.base(), region.bytes(), region.source());
  std::mutex mutex;
  std::condition_variable changed;
  unsigned used = 0;
  bool gone = false;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) heap->malloc(16 + t);
      heap->malloc(3);
      std::unique_lock lock(mutex);
      ++used;
      changed.notify_all();
      changed.wait(lock, [&] { return gone; });
      // The next heap at the same place is another heap.
      EXPECT_NE(heap->malloc(16), nullptr);
    });
  }
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return used == 3; });
    EXPECT_EQ(heap->stats().thread_caches, 3u);
    heap.reset();
    heap = std::make_unique<host_heap>(region.base(), region.bytes(), region.source());
    gone = true;
    changed.notify_all();
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(heap->stats().live_objects, 3u);
  EXPECT_EQ(heap->stats().thread_caches, 0u);
}

TEST(host_threads, reset_clears_the_caches_of_all_threads) {
  test::host_region region(std::size_t{16} << 20);
  host_heap heap(region.base(), region.bytes(), region.source());
  std::mutex mutex;
  std::condition_variable changed;
  int phase = 0;
  void* before = heap.malloc(48);
  std::thread other([&] {
    void* mine = heap.malloc(48);
    heap.malloc(3);
    std::unique_lock lock(mutex);
    phase = 1;
    changed.notify_all();
    changed.wait(lock, [&] { return phase == 2; });
    EXPECT_EQ(heap.free(mine), free_status::double_free);
    EXPECT_NE(heap.malloc(48), nullptr);
    EXPECT_NE(heap.malloc(3), nullptr);
  });
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return phase == 1; });
    heap.reset();
    EXPECT_EQ(heap.free(before), free_status::double_free);
    phase = 2;
    changed.notify_all();
  }
  other.join();
  EXPECT_EQ(heap.stats().live_objects, 2u);
}

/// Uses the heap when the thread's cache is gone already.
struct late_user {
  host_heap* heap = nullptr;
  void* p = nullptr;
  ~late_user() {
    if (heap == nullptr) return;
    EXPECT_EQ(heap->free(p), free_status::ok);
    void* q = heap->malloc(100);
    EXPECT_NE(q, nullptr);
    EXPECT_NE(heap->malloc(4), nullptr);
    EXPECT_EQ(heap->free(q), free_status::ok);
    EXPECT_EQ(heap->free(q), free_status::double_free);
  }
};
thread_local late_user late;

TEST(host_threads, heap_works_in_destructors_of_thread_locals) {
  test::host_region region(std::size_t{16} << 20);
  host_heap heap(region.base(), region.bytes(), region.source());
  std::thread([&] {
    late.heap = &heap;  // constructed before the thread's first malloc, destroyed after its cache
    late.p = heap.malloc(10);
  }).join();
  EXPECT_EQ(heap.stats().live_objects, 1u);
  EXPECT_EQ(heap.stats().thread_caches, 0u);
  heap.trim();
  EXPECT_EQ(heap.stats().pages_in_use, 1u);
}

TEST(host_threads, a_cache_of_a_heap_that_is_gone_is_not_taken_for_one_of_the_next_heap) {
  test::host_region region(std::size_t{16} << 20);
  unsigned at_the_same_address = 0;
  const void* gone = nullptr;
  for (int i = 0; i < 20; ++i) {
    {
      auto first = std::make_unique<host_heap>(region.base(), region.bytes(), region.source());
      EXPECT_EQ(first->free(first->malloc(100)), free_status::ok);
      gone = last_used.get();
      if (i % 2 != 0) std::thread([&] { first = nullptr; }).join();
    }
    EXPECT_EQ(last_used.get(), nullptr);
    // Another thread's cache may now lie where this thread's was.
    host_heap heap(region.base(), region.bytes(), region.source());
    void* q = nullptr;
    std::atomic<bool> made{false}, freed{false};
    std::thread owner([&] {
      q = heap.malloc(100);
      at_the_same_address += last_used.get() == gone;
      made = true;
      while (!freed) std::this_thread::yield();
    });
    while (!made) std::this_thread::yield();
    EXPECT_EQ(heap.free_fast(q, heap.view()), host_heap::fast_free::refused);
    EXPECT_EQ(heap.free(q), free_status::ok);
    freed = true;
    owner.join();
    EXPECT_EQ(heap.stats().live_objects, 0u);
  }
  if (!warpheap::testing::sanitized) {
    EXPECT_GT(at_the_same_address, 0u) << "the case was not met";
  }
}

TEST(host_threads, a_reset_by_another_thread_ends_the_cache_that_a_thread_used_last) {
  test::host_region region(std::size_t{16} << 20), other_region(std::size_t{16} << 20);
  host_heap heap(region.base(), region.bytes(), region.source());
  host_heap other(other_region.base(), other_region.bytes(), other_region.source());
  void* const p = heap.malloc(100);
  EXPECT_NE(last_used.get(), nullptr);
  std::thread([&] { heap.reset(); }).join();
  EXPECT_EQ(last_used.get(), nullptr);
  // Its span still has the owner that it had.
  EXPECT_EQ(heap.free_fast(p, heap.view()), host_heap::fast_free::refused);
  EXPECT_EQ(heap.free(p), free_status::double_free);
  EXPECT_EQ(heap.free(heap.malloc(100)), free_status::ok);
  // One of another heap stays.
  void* const q = other.malloc(100);
  std::thread([&] { heap.reset(); }).join();
  EXPECT_EQ(other.free_fast(q, other.view()), host_heap::fast_free::done);
  EXPECT_EQ(other.stats().live_objects, 0u);
  EXPECT_EQ(heap.stats().live_objects, 0u);
}

TEST(host_threads, heaps_come_go_and_are_reset_while_threads_that_used_them_use_another) {
  test::host_region stays_region(std::size_t{64} << 20), region(std::size_t{16} << 20);
  host_heap stays(stays_region.base(), stays_region.bytes(), stays_region.source());
  for (int round = 0; round < 20; ++round) {
    auto heap = std::make_unique<host_heap>(region.base(), region.bytes(), region.source());
    std::atomic<int> left{2};
    std::atomic<bool> end{false};
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&] {
        EXPECT_EQ(heap->free(heap->malloc(48)), free_status::ok);
        left.fetch_sub(1);
        while (!end.load(std::memory_order_relaxed)) {
          void* p = stays.malloc(48);
          EXPECT_EQ(stays.free(p), free_status::ok);
        }
      });
    }
    while (left.load() != 0) std::this_thread::yield();
    heap->reset();
    heap.reset();
    end.store(true, std::memory_order_relaxed);
    for (std::thread& t : threads) t.join();
  }
  EXPECT_EQ(stays.stats().live_objects, 0u);
}

}  // namespace
