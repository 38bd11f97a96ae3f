// A heap whose reservation is used up goes on in arenas that lie anywhere.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <algorithm>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "tests/host_heap_fixture.hpp"

namespace {

using namespace warpheap;

/// Bytes of an object that get a pattern: not all of a long one, which takes sanitizers seconds.
std::size_t marked_bytes(std::size_t size) { return std::min<std::size_t>(size, 4096); }

/// A reservation of 16 MiB, and arenas far from it and from each other.
struct far_arenas : ::testing::Test {
  static constexpr std::size_t near_bytes = std::size_t{16} << 20;
  static constexpr std::size_t most = std::size_t{1} << 30;

  struct piece {
    std::byte* start;
    std::size_t bytes;
  };
  std::vector<piece> pieces;
  bool refuse = false;
  bool in_a_row = false;  // each behind the one before it
  std::byte* row = nullptr;
  test::host_region region{near_bytes};
  host_heap heap{region.base(), region.bytes(), source()};

  page_source source() {
    page_source s = region.source();
    s.context = this;
    s.commit = nullptr;
    s.decommit = [](void*, std::byte* start, std::size_t n) {
      return madvise(start, n, MADV_DONTNEED) == 0;
    };
    s.fault = [](void*, std::byte* start, std::size_t n) {
      return madvise(start, n, MADV_DONTNEED) == 0 && mprotect(start, n, PROT_NONE) == 0;
    };
    s.unfault = [](void*, std::byte* start, std::size_t n) {
      return mprotect(start, n, PROT_READ | PROT_WRITE) == 0;
    };
    s.reserve = [](void* self, std::byte*, std::size_t bytes) {
      return static_cast<far_arenas*>(self)->reserve(bytes);
    };
    s.most_bytes = most;
    return s;
  }

  std::byte* reserve(std::size_t bytes) {
    if (refuse) return nullptr;
    std::byte* start;
    if (in_a_row) {
      if (row == nullptr) row = map(0, 2 * bytes);
      start = row;
      if (row != nullptr) row += bytes;
    } else {
      // From the top of the address space downwards and back, 2 TiB apart.
      const std::size_t n = pieces.size();
      start = map((std::uintptr_t{1} << 46) - (n % 2 == 0 ? n : 12 - n) * (std::uintptr_t{2} << 40),
                  bytes);
    }
    if (start != nullptr) pieces.push_back({start, bytes});
    return start;
  }
  static std::byte* map(std::uintptr_t wanted, std::size_t bytes) {
    void* p = mmap(reinterpret_cast<void*>(wanted), bytes + arena_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    const std::uintptr_t aligned = bits::align_up(address, arena_bytes);
    if (aligned != address) munmap(p, aligned - address);
    munmap(reinterpret_cast<void*>(aligned + bytes), address + arena_bytes - aligned);
    return reinterpret_cast<std::byte*>(aligned);
  }
  bool is_far(const void* p) const {
    return std::any_of(pieces.begin(), pieces.end(),
                       [&](const piece& a) { return a.start <= p && p < a.start + a.bytes; });
  }
  std::vector<void*> fill(std::size_t size, unsigned n) {
    std::vector<void*> all;
    for (unsigned i = 0; i < n; ++i) {
      void* p = heap.malloc(size);
      if (p == nullptr) break;
      std::memset(p, static_cast<int>(i), marked_bytes(size));
      all.push_back(p);
    }
    return all;
  }
  void TearDown() override {
    test::expect_recount(heap);
    const page_recount pages = heap.recount_pages();
    const memory_stats m = heap.memory();
    EXPECT_EQ(pages.grown * page_size, m.heap_sys + m.device_sys + m.stacks_sys + m.regions_sys);
    EXPECT_EQ((pages.owned_by_spans) * page_size, m.heap_inuse);
    std::size_t all = near_bytes;
    for (const piece& a : pieces) all += a.bytes;
    EXPECT_EQ(m.reserved, all);
  }
  ~far_arenas() override {
    for (const piece& a : pieces) munmap(a.start, a.bytes);
  }
};

TEST_F(far_arenas, objects_of_all_sizes_come_from_them_and_go_back) {
  std::mt19937 random(3);
  std::vector<std::pair<unsigned char*, std::size_t>> live;
  std::size_t bytes = 0;
  unsigned far = 0;
  for (int i = 0; i < 40'000; ++i) {
    if (bytes < (std::size_t{300} << 20) && random() % 5 != 0) {
      const std::size_t n = random() % 8 == 0   ? 1 + random() % 15
                            : random() % 3 == 0 ? 16 + random() % 300'000
                                                : 16 + random() % 3000;
      auto* p = static_cast<unsigned char*>(random() % 4 == 0 ? heap.calloc(1, n) : heap.malloc(n));
      ASSERT_NE(p, nullptr);
      ASSERT_GE(heap.usable_size(p), n);
      far += is_far(p);
      std::memset(p, static_cast<int>(n), marked_bytes(n));
      live.emplace_back(p, n);
      bytes += n;
    } else if (!live.empty()) {
      std::swap(live[random() % live.size()], live.back());
      const auto [p, n] = live.back();
      live.pop_back();
      bytes -= n;
      ASSERT_TRUE(std::all_of(p, p + marked_bytes(n), [n = n](unsigned char c) {
        return c == static_cast<unsigned char>(n);
      }));
      ASSERT_EQ(heap.free(p), free_status::ok);
      ASSERT_EQ(heap.free(p), free_status::double_free);
    }
  }
  EXPECT_GT(far, 10'000u);
  EXPECT_GE(pieces.size(), 3u);
  for (const auto& [p, n] : live) ASSERT_EQ(heap.free(p), free_status::ok);
  EXPECT_EQ(heap.stats().live_objects, 0u);
  (void)heap.trim();
  const host_heap_stats s = heap.stats();
  EXPECT_EQ(s.pages_in_use, 0u);
  EXPECT_EQ(s.released_bytes, s.heap_sys_bytes);
}

TEST_F(far_arenas, one_object_over_several_of_them) {
  constexpr std::size_t large = std::size_t{200} << 20;
  auto* p = static_cast<std::byte*>(heap.malloc(large));
  ASSERT_NE(p, nullptr);
  EXPECT_TRUE(is_far(p) && is_far(p + large - 1));
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(pieces[0].bytes, 4 * arena_bytes);
  for (std::size_t i = 0; i < large; i += 4096) p[i] = std::byte{1};
  EXPECT_EQ(heap.usable_size(p), large);
  EXPECT_EQ(heap.free(p + large / 2), free_status::interior);
  EXPECT_EQ(heap.free(p), free_status::ok);
  // It is had again, where it was.
  EXPECT_EQ(heap.malloc(large), p);
  EXPECT_EQ(pieces.size(), 1u);
  EXPECT_EQ(heap.free(p), free_status::ok);
}

// Two that lie side by side are one, for an object, when they came one after the other.
TEST_F(far_arenas, a_run_leads_through_arenas_in_a_row_only) {
  in_a_row = true;
  const std::size_t arena = arena_bytes - page_size;  // all of one, but for its first page
  void* const first = heap.malloc(arena);
  void* const second = heap.malloc(arena);
  ASSERT_TRUE(first != nullptr && second != nullptr);
  ASSERT_EQ(pieces.size(), 2u);
  ASSERT_EQ(pieces[0].start + pieces[0].bytes, pieces[1].start);
  EXPECT_EQ(heap.free(first), free_status::ok);
  EXPECT_EQ(heap.free(second), free_status::ok);
  (void)heap.trim();
  void* const both = heap.malloc(2 * arena);
  EXPECT_EQ(both, first);
  EXPECT_EQ(pieces.size(), 2u);

  in_a_row = false;
  for (int i = 0; i < 3; ++i) {
    auto* const p = static_cast<std::byte*>(heap.malloc(arena));
    ASSERT_NE(p, nullptr);
    const piece& last = pieces.back();
    EXPECT_TRUE(last.start <= p && p + arena <= last.start + last.bytes);
  }
  EXPECT_EQ(pieces.size(), 5u);
}

TEST_F(far_arenas, objects_grow_as_far_as_their_addresses_go_on) {
  in_a_row = true;
  const auto grow = [&](std::byte* p, std::size_t to) {
    const std::size_t old = heap.usable_size(p);
    p[old - 1] = std::byte{7};
    const bool grown = heap.resize(p, old, to);
    EXPECT_EQ(heap.usable_size(p), grown ? to : old);
    EXPECT_EQ(p[old - 1], std::byte{7});
    p[heap.usable_size(p) - 1] = std::byte{7};
    return grown;
  };
  const std::size_t arena = arena_bytes - page_size;  // all of one, but for its first page
  auto* const p = static_cast<std::byte*>(heap.malloc(arena));
  ASSERT_TRUE(is_far(p));
  EXPECT_FALSE(grow(p, arena + page_size)) << "nothing is behind it yet";
  void* const second = heap.malloc(arena);
  ASSERT_TRUE(is_far(second));
  EXPECT_FALSE(grow(p, arena + page_size)) << "in the way";
  EXPECT_EQ(heap.free(second), free_status::ok);
  (void)heap.trim();
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_TRUE(grow(p, arena + page_size));
  EXPECT_TRUE(grow(p, 2 * arena_bytes - page_size));
  EXPECT_FALSE(grow(p, 2 * arena_bytes));

  in_a_row = false;
  std::vector<std::byte*> apart;
  for (int i = 0; i < 2; ++i) {
    apart.push_back(static_cast<std::byte*>(heap.malloc(arena)));
    ASSERT_TRUE(is_far(apart.back()));
  }
  for (std::byte* q : apart) EXPECT_FALSE(grow(q, arena + page_size));
  for (std::byte* q : apart) EXPECT_EQ(heap.free(q), free_status::ok);
  EXPECT_EQ(heap.free(p), free_status::ok);
}

TEST_F(far_arenas, what_is_no_object_there_is_told) {
  const auto all = fill(100'000, 400);
  ASSERT_EQ(all.size(), 400u);
  ASSERT_GE(pieces.size(), 1u);
  const piece a = pieces[0];
  auto* p = static_cast<std::byte*>(all.back());
  ASSERT_TRUE(is_far(p));
  EXPECT_EQ(heap.free(p + 8), free_status::interior);
  EXPECT_EQ(heap.free(a.start), free_status::not_allocated);  // the page that nobody is given
  EXPECT_EQ(heap.free(a.start - 8), free_status::foreign);
  EXPECT_EQ(heap.free(a.start + a.bytes), free_status::foreign);
  EXPECT_EQ(heap.usable_size(a.start + a.bytes), 0u);
  EXPECT_EQ(heap.usable_size(reinterpret_cast<void*>(~std::uintptr_t{7})), 0u);
  EXPECT_EQ(heap.free(reinterpret_cast<void*>(std::uintptr_t{1} << 62)), free_status::foreign);
  EXPECT_EQ(heap.mark(a.start + a.bytes), mark_status::foreign);
  for (void* q : all) EXPECT_EQ(heap.free(q), free_status::ok);
}

TEST_F(far_arenas, other_threads_free_there) {
  for (int round = 0; round < 3; ++round) {
    const auto small = fill(48, 600'000);
    ASSERT_EQ(small.size(), 600'000u);
    const auto tiny = fill(5, 100'000);
    ASSERT_TRUE(is_far(small.back()));
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t i = t; i < small.size(); i += 3) {
          if (heap.free(small[i]) != free_status::ok) std::abort();
        }
        for (std::size_t i = t; i < tiny.size(); i += 3) {
          if (heap.free(tiny[i]) != free_status::ok) std::abort();
        }
      });
    }
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(heap.stats().live_objects, 0u);
  }
}

TEST_F(far_arenas, bulk_frees_and_sweeps_reach_them) {
  auto all = fill(3000, 20'000);
  ASSERT_TRUE(is_far(all.back()));
  heap.reset();
  test::expect_nothing_lives(heap.stats());
  EXPECT_EQ(heap.free(all.back()), free_status::double_free);
  all = fill(3000, 20'000);
  ASSERT_EQ(all.size(), 20'000u);
  // A list through both, of which only the head is known.
  void** list = nullptr;
  for (int i = 0; i < 100; ++i) {
    void* const tail = fill(200'000, 1).at(0);
    auto** node = static_cast<void**>(heap.malloc(100, contents::pointers));
    ASSERT_NE(node, nullptr);
    std::memset(node, 0, 100);
    node[0] = list;
    node[1] = tail;
    list = node;
  }
  EXPECT_EQ(heap.mark_reachable(list), mark_status::marked);
  const sweep_report report = heap.sweep();
  EXPECT_EQ(report.kept.objects, 200u);
  EXPECT_EQ(report.leaked.objects, 20'000u);
  EXPECT_EQ(report.dangling, 0u);
  heap.reset();
}

TEST_F(far_arenas, stacks_and_regions_lie_there) {
  const auto all = fill(1 << 20, 30);
  std::vector<std::pair<void*, std::size_t>> stacks;
  for (const std::size_t bytes : {std::size_t{2048}, std::size_t{16384}, std::size_t{1} << 20}) {
    for (int i = 0; i < 20; ++i) {
      void* p = heap.acquire_stack(bytes);
      ASSERT_NE(p, nullptr);
      std::memset(p, 1, bytes);
      stacks.emplace_back(p, bytes);
    }
  }
  EXPECT_TRUE(is_far(stacks.back().first));
  for (const auto& [p, bytes] : stacks) heap.release_stack(p, bytes);
  for (int i = 0; i < 20; ++i) {
    std::byte* chunk = heap.take_region_chunk(100);
    ASSERT_TRUE(is_far(chunk));
    std::memset(chunk, 1, 100 * page_size);
    heap.give_region_chunk(chunk);
  }
  for (void* p : all) EXPECT_EQ(heap.free(p), free_status::ok);
}

TEST_F(far_arenas, the_end_is_the_most_that_was_allowed_or_can_be_had) {
  auto all = fill(std::size_t{30} << 20, 1000);
  std::size_t bytes = near_bytes;
  for (const piece& a : pieces) bytes += a.bytes;
  EXPECT_LE(bytes, most);
  EXPECT_GT(bytes, most - 2 * arena_bytes);
  EXPECT_EQ(heap.malloc(most + 1), nullptr);
  EXPECT_EQ(heap.malloc(~std::size_t{0}), nullptr);
  EXPECT_GE(heap.stats().out_of_memory, 2u);
  for (void* p : all) EXPECT_EQ(heap.free(p), free_status::ok);
}

TEST_F(far_arenas, without_address_space_it_is_as_if_there_was_no_such_thing) {
  refuse = true;
  const auto all = fill(100'000, 1000);
  EXPECT_LT(all.size(), 170u);
  EXPECT_GT(all.size(), 120u);
  EXPECT_EQ(heap.stats().out_of_memory, 1u);
  refuse = false;
  const auto more = fill(100'000, 1000);
  EXPECT_EQ(more.size(), 1000u);
  for (void* p : all) EXPECT_EQ(heap.free(p), free_status::ok);
  for (void* p : more) EXPECT_EQ(heap.free(p), free_status::ok);
}

TEST_F(far_arenas, pages_for_the_device_are_of_the_reservation) {
  const auto all = fill(100'000, 1000);
  ASSERT_GE(pieces.size(), 1u);
  // The host has all of the reservation but for some pages here and there, and goes on elsewhere.
  EXPECT_EQ(heap.take_device_pages(20, 100).count, 0u);
  for (void* p : all) EXPECT_EQ(heap.free(p), free_status::ok);
  (void)heap.trim();
  std::vector<page_run> runs;
  std::size_t pages = 0;
  for (page_run r; (r = heap.take_device_pages(1, 5000)).count != 0;) {
    EXPECT_LE(r.first + r.count, near_bytes / page_size);
    pages += r.count;
    runs.push_back(r);
  }
  EXPECT_GT(pages, near_bytes / page_size * 9 / 10);
  // The host finds room all the same.
  const auto beside = fill(100'000, 300);
  EXPECT_EQ(beside.size(), 300u);
  for (void* p : beside) EXPECT_TRUE(is_far(p));
  for (void* p : beside) EXPECT_EQ(heap.free(p), free_status::ok);
  for (const page_run r : runs) heap.give_back_device_pages(r);
}

}  // namespace
