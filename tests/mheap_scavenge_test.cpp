// When the memory of free pages goes back to the system.
#include <gtest/gtest.h>
#include <atomic>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "host/mheap.hpp"
#include "tests/host_region.hpp"

namespace {

using namespace warpheap;

struct mheap_scavenge_test : ::testing::Test {
  test::host_region region{std::size_t{256} << 20};
  mheap heap{region.base(), region.bytes(), region.source()};
  page_stock stock;
  mspan* large(std::size_t pages) {
    return heap.alloc_large(pages, 1, make_span_class(0, true), stock);
  }
  void expect_books() {
    heap.flush(stock);
    const mheap_stats st = heap.stats();
    EXPECT_EQ(st.committed_pages, st.grown_pages - st.scavenged_pages);
    EXPECT_LE(st.scavenged_pages, st.free_pages);
    std::uint64_t ever = 0;
    for (const std::uint64_t n : st.scavenged_ever) ever += n;
    EXPECT_EQ(ever * page_size, region.decommitted);
    EXPECT_EQ(heap.recount().free, st.free_pages);
    EXPECT_EQ(heap.recount().scavenged, st.scavenged_pages);
  }
  std::uint64_t ever(scavenge_cause cause) const {
    return heap.stats().scavenged_ever[static_cast<unsigned>(cause)];
  }
  void TearDown() override { expect_books(); }
};

TEST_F(mheap_scavenge_test, pages_hold_memory_from_their_first_use_until_they_are_scavenged) {
  EXPECT_EQ(heap.committed_pages(), 0u);
  mspan* s = large(100);
  EXPECT_EQ(heap.committed_pages(), 100u);
  EXPECT_EQ(heap.scavenge(scavenge_cause::asked), 0u);  // in use
  heap.free_span(s);
  EXPECT_EQ(heap.committed_pages(), 100u);
  EXPECT_EQ(heap.scavenge(scavenge_cause::asked, 30), 30u);
  EXPECT_EQ(heap.committed_pages(), 70u);
  EXPECT_EQ(heap.scavenge(scavenge_cause::background), 70u);
  EXPECT_EQ(heap.scavenge(scavenge_cause::background), 0u);
  EXPECT_EQ(ever(scavenge_cause::asked), 30u);
  EXPECT_EQ(ever(scavenge_cause::background), 70u);
}

/// What was mapped, in order, and whether more is.
struct mapped_chunks {
  test::host_region region{3 * chunk_bytes + 5 * page_size};
  std::vector<std::pair<std::size_t, std::size_t>> runs;
  bool refuse = false;

  page_source source() {
    page_source s = region.source();
    s.context = this;
    s.commit = nullptr;
    s.decommit = nullptr;
    s.map = [](void* self, std::byte* start, std::size_t bytes) {
      auto& m = *static_cast<mapped_chunks*>(self);
      if (m.refuse) return false;
      m.runs.emplace_back(static_cast<std::size_t>(start - m.region.base()) / page_size,
                          bytes / page_size);
      return true;
    };
    return s;
  }
};

TEST(mheap_mapping, chunks_are_mapped_once_before_their_first_use) {
  using runs = std::vector<std::pair<std::size_t, std::size_t>>;
  mapped_chunks mapped;
  mheap heap(mapped.region.base(), mapped.region.bytes(), mapped.source());
  page_stock stock;
  const auto take = [&](std::size_t pages) {
    return heap.alloc_large(pages, 1, make_span_class(0, true), stock);
  };
  constexpr std::size_t chunk = chunk_pages;
  const auto in_state = [&](page_state s) {
    return heap.recount().by_state[static_cast<unsigned>(s)];
  };
  EXPECT_EQ(in_state(page_state::reserved), 3 * chunk + 5);
  mapped.refuse = true;
  EXPECT_EQ(take(1), nullptr);
  EXPECT_EQ(in_state(page_state::reserved), 3 * chunk + 5);
  EXPECT_EQ(heap.committed_pages(), 0u);
  mapped.refuse = false;
  mspan* one = take(1);
  ASSERT_NE(one, nullptr);
  EXPECT_EQ(mapped.runs, (runs{{3 * chunk, 5}}));
  EXPECT_EQ(in_state(page_state::ready), 1u);
  EXPECT_EQ(in_state(page_state::prepared), 4u);
  EXPECT_NE(take(4), nullptr);
  EXPECT_EQ(mapped.runs.size(), 1u);
  // Two chunks at once; in the refused one nothing is lost.
  mapped.refuse = true;
  EXPECT_EQ(take(2 * chunk), nullptr);
  EXPECT_EQ(in_state(page_state::reserved), 3 * chunk);
  mapped.refuse = false;
  mspan* two = take(2 * chunk);
  ASSERT_NE(two, nullptr);
  EXPECT_EQ(mapped.runs, (runs{{3 * chunk, 5}, {chunk, 2 * chunk}}));
  heap.free_span(two);
  EXPECT_NE(take(2 * chunk), nullptr);
  EXPECT_NE(take(chunk - 1), nullptr);
  EXPECT_EQ(mapped.runs, (runs{{3 * chunk, 5}, {chunk, 2 * chunk}, {0, chunk}}));
  EXPECT_EQ(in_state(page_state::reserved), 0u);
  EXPECT_EQ(in_state(page_state::prepared), 1u);  // page 0
}

TEST_F(mheap_scavenge_test, the_highest_pages_go_first) {
  mspan* s = large(100);
  std::byte* const base = s->base();
  std::memset(base, 0xff, 100 * page_size);
  heap.free_span(s);
  EXPECT_EQ(heap.scavenge(scavenge_cause::asked, 40), 40u);
  for (std::size_t page = 0; page < 100; ++page)
    EXPECT_EQ(base[page * page_size] != std::byte{0}, page < 60) << page;
}

TEST_F(mheap_scavenge_test, growth_gives_back_what_it_takes) {
  // 2 MiB each, side by side; every other one is freed: no room for one of 3 MiB.
  std::vector<mspan*> all;
  for (int i = 0; i < 24; ++i) all.push_back(large(256));
  for (std::size_t i = 0; i < all.size(); i += 2) heap.free_span(all[i]);
  const std::size_t before = heap.committed_pages();
  EXPECT_EQ(ever(scavenge_cause::growth), 0u);
  mspan* s = large(384);
  EXPECT_EQ(ever(scavenge_cause::growth), chunk_pages);
  EXPECT_EQ(heap.committed_pages(), before - chunk_pages + 384);
  // Growth without free pages costs nothing.
  while (ever(scavenge_cause::growth) < 12 * 256) ASSERT_NE(large(384), nullptr);
  const std::size_t calls = region.decommitted;
  EXPECT_NE(large(1024), nullptr);
  EXPECT_EQ(region.decommitted, calls);
  heap.free_span(s);
}

TEST_F(mheap_scavenge_test, a_limit_is_kept_by_giving_back_first) {
  heap.set_memory_limit(std::size_t{32} << 20);
  const auto within = [&] {
    return heap.committed_pages() * page_size + heap.stats().metadata_sys <= heap.memory_limit();
  };
  std::vector<mspan*> all;
  while (mspan* s = large(256)) all.push_back(s);
  EXPECT_GE(all.size(), 14u);
  EXPECT_LE(all.size(), 15u);
  EXPECT_TRUE(within());
  EXPECT_EQ(ever(scavenge_cause::limit), 0u);
  // Free memory in the wrong places moves to where it is wanted.
  const std::size_t n = all.size();
  for (std::size_t i = 0; i < n; i += 2) heap.free_span(all[i]);
  mspan* s = large(1024);
  ASSERT_NE(s, nullptr);
  EXPECT_TRUE(within());
  EXPECT_GT(ever(scavenge_cause::growth) + ever(scavenge_cause::limit), 0u);
  heap.free_span(s);
  EXPECT_EQ(large(4096), nullptr);  // more than the limit
  EXPECT_EQ(large(4000), nullptr);  // more than the others leave
  for (std::size_t i = 1; i < n; i += 2) heap.free_span(all[i]);
  s = large(3500);
  EXPECT_NE(s, nullptr);
  EXPECT_TRUE(within());
  // Lowered below what is used: no page is taken away, and none given out.
  heap.set_memory_limit(std::size_t{1} << 20);
  EXPECT_EQ(large(1), nullptr);
  heap.set_memory_limit(mheap::no_limit);
  EXPECT_NE(large(8000), nullptr);
}

TEST_F(mheap_scavenge_test, the_device_gets_what_the_limit_leaves) {
  heap.set_memory_limit(std::size_t{8} << 20);
  const page_run run = heap.take_device_pages(16, 2000);
  EXPECT_GE(run.count, 500u);
  EXPECT_LT(run.count, 1024u);
  const page_run rest = heap.take_device_pages(1, 2000);
  EXPECT_GE(rest.count, 1u);
  EXPECT_EQ(heap.take_device_pages(1024, 1024).count, 0u);
  heap.give_back_device_pages(run);
  heap.give_back_device_pages(rest);
}

TEST_F(mheap_scavenge_test, memory_that_the_system_does_not_take_stays) {
  mspan* s = large(100);
  std::byte* const base = s->base();
  std::memset(base, 0xff, 100 * page_size);
  heap.free_span(s);
  region.refuse_decommit = true;
  EXPECT_EQ(heap.scavenge(scavenge_cause::asked), 0u);
  EXPECT_EQ(heap.committed_pages(), 100u);
  s = large(100);
  EXPECT_EQ(s->base(), base);
  EXPECT_TRUE(s->needzero);
  heap.free_span(s);
  region.refuse_decommit = false;
  EXPECT_EQ(heap.scavenge(scavenge_cause::asked), 100u);
  s = large(100);
  EXPECT_EQ(s->base(), base);
  EXPECT_FALSE(s->needzero);
  EXPECT_EQ(base[0], std::byte{0});
  heap.free_span(s);
}

TEST_F(mheap_scavenge_test, refused_commits_leave_the_books_right) {
  mspan* s = large(50);
  heap.free_span(s);
  region.refuse = true;
  EXPECT_EQ(large(100), nullptr);  // in part with memory
  EXPECT_EQ(heap.alloc_manual(60, manual_use::stacks), nullptr);
  EXPECT_EQ(heap.take_device_pages(10, 3000).count, 0u);
  region.refuse = false;
  EXPECT_EQ(heap.committed_pages(), 0u);
  EXPECT_EQ(ever(scavenge_cause::limit), 50u);
  s = large(100);
  EXPECT_NE(s, nullptr);
  heap.free_span(s);
}

TEST_F(mheap_scavenge_test, pages_that_keep_their_memory_after_a_refused_commit_can_be_used) {
  mspan* s = large(50);
  std::byte* const base = s->base();
  std::memset(base, 0xff, 50 * page_size);
  heap.free_span(s);
  region.refuse = true;
  region.refuse_decommit = true;
  EXPECT_EQ(large(100), nullptr);  // in part with memory, which the system does not take
  EXPECT_EQ(heap.committed_pages(), 50u);
  EXPECT_EQ(ever(scavenge_cause::limit), 0u);
  expect_books();
  region.refuse = false;
  s = large(50);
  ASSERT_NE(s, nullptr);
  EXPECT_EQ(s->base(), base);
  EXPECT_TRUE(s->needzero);
  heap.free_span(s);
}

TEST(mheap_without_decommit, pages_of_a_refused_commit_are_not_taken_for_zeroed) {
  test::host_region region{std::size_t{64} << 20};
  page_source source = region.source();
  source.decommit = nullptr;
  mheap heap{region.base(), region.bytes(), source};
  page_stock stock;
  mspan* s = heap.alloc_large(128, 1, make_span_class(0, true), stock);
  std::memset(s->base(), 0x5a, 128 * page_size);
  heap.free_span(s);
  heap.set_memory_limit(std::size_t{5} << 20);
  EXPECT_EQ(heap.alloc_large(8000, 1, make_span_class(0, true), stock), nullptr);
  EXPECT_EQ(heap.committed_pages(), 128u);
  heap.set_memory_limit(mheap::no_limit);
  std::size_t dirty = 0;
  while ((s = heap.alloc_large(100, 1, make_span_class(0, true), stock)) != nullptr) {
    if (s->needzero) continue;
    for (std::size_t page = 0; page < 100; ++page)
      dirty += s->base()[page * page_size] != std::byte{0};
  }
  EXPECT_EQ(dirty, 0u);
}

// Threads that allocate and free under a limit, while one gives memory back: the limit holds at any
// time, and contents are never lost.
TEST_F(mheap_scavenge_test, threads_share_a_limit) {
  constexpr int threads = 3, rounds = 600;
  heap.set_memory_limit(std::size_t{24} << 20);
  std::atomic<int> wrong{0}, had{0};
  std::atomic<bool> stop{false};
  const auto work = [&](unsigned seed) {
    page_stock mine;
    std::vector<std::pair<mspan*, unsigned char>> live;
    for (int i = 0; i < rounds; ++i) {
      seed = seed * 1664525 + 1013904223;
      if (seed >> 31 == 0 || live.empty()) {
        mspan* s = heap.alloc_large(1 + (seed >> 16) % 400, 1, make_span_class(0, true), mine);
        if (s == nullptr) continue;
        ++had;
        const auto mark = static_cast<unsigned char>(seed >> 8 | 1);
        for (std::size_t page = 0; page < s->npages(); ++page)
          s->base()[page * page_size] = std::byte{mark};
        live.emplace_back(s, mark);
      } else {
        std::swap(live[(seed >> 8) % live.size()], live.back());
        const auto [s, mark] = live.back();
        for (std::size_t page = 0; page < s->npages(); ++page)
          if (s->base()[page * page_size] != std::byte{mark}) ++wrong;
        heap.free_span(s);
        live.pop_back();
      }
      if (heap.committed_pages() * page_size > heap.memory_limit()) ++wrong;
    }
    for (const auto& [s, mark] : live) heap.free_span(s);
    heap.flush(mine);
  };
  std::thread scavenger([&] {
    while (!stop) {
      (void)heap.scavenge(scavenge_cause::background, 64);
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t) all.emplace_back(work, t + 1);
  for (std::thread& t : all) t.join();
  stop = true;
  scavenger.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(had, threads * rounds / 4);
  EXPECT_EQ(heap.stats().pages_in_use, 0u);
}

}  // namespace
