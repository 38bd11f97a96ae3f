#include "host/heap_arenas.hpp"

#include <gtest/gtest.h>
#include <random>
#include <vector>

namespace {

using namespace warpheap;

constexpr auto device = page_user::device;
constexpr auto host = page_user::host;
constexpr std::size_t gib_pages = (std::size_t{1} << 30) / page_size;

TEST(heap_arenas, arenas_are_64_mib_and_an_eighth_of_small_heaps) {
  EXPECT_EQ(heap_arenas(8 * gib_pages).arena_pages() * page_size, arena_bytes);
  EXPECT_EQ(heap_arenas(gib_pages / 2).arena_pages() * page_size, arena_bytes);
  EXPECT_EQ(heap_arenas(gib_pages / 16).arena_pages() * page_size, std::size_t{8} << 20);
  EXPECT_EQ(heap_arenas(2).arena_pages(), chunk_pages);
}

TEST(heap_arenas, users_take_from_opposite_ends_and_never_share_an_arena_with_room_left) {
  heap_arenas arenas(gib_pages);  // 16 arenas
  for (int i = 0; i < 50; ++i) {
    for (const page_user user : {device, host}) {
      const page_allocation got = arenas.alloc(user, 1000);
      ASSERT_TRUE(got);
      EXPECT_TRUE(arenas.is_in_arena_of(user, got.first));
      EXPECT_TRUE(arenas.is_in_arena_of(user, got.first + 999));
      EXPECT_EQ(got.first < gib_pages / 2, user == device);
    }
  }
  // No user has more arenas than its pages need.
  const std::size_t needed = 50 * 1000 / arenas.arena_pages() + 1;
  EXPECT_LE(arenas.arenas(device), needed + 1);
  EXPECT_LE(arenas.arenas(host), needed + 1);
}

TEST(heap_arenas, tells_once_whose_arenas_are_new) {
  heap_arenas arenas(gib_pages);
  EXPECT_EQ(arenas.take_new_arenas().pages, 0u);
  const auto expect_next = [&](page_user user, std::size_t first_arena, std::size_t n) {
    const heap_arenas::arena_run run = arenas.take_new_arenas();
    EXPECT_EQ(run.first, first_arena * arenas.arena_pages());
    EXPECT_EQ(run.pages, n * arenas.arena_pages());
    EXPECT_EQ(run.user, user);
  };
  ASSERT_TRUE(arenas.alloc(host, 1));
  const page_allocation first = arenas.alloc(device, 1);
  ASSERT_TRUE(first);
  expect_next(device, 0, 1);
  expect_next(host, 15, 1);
  EXPECT_EQ(arenas.take_new_arenas().pages, 0u);
  ASSERT_TRUE(arenas.alloc(device, 1));
  EXPECT_EQ(arenas.take_new_arenas().pages, 0u) << "the arena is known";
  const page_allocation most = arenas.alloc(device, 14 * arenas.arena_pages());
  ASSERT_TRUE(most);
  expect_next(device, 1, 14);
  EXPECT_EQ(arenas.take_new_arenas().pages, 0u);
  // All change hands but the first, where a page is in use.
  arenas.free(most.first, 14 * arenas.arena_pages());
  ASSERT_TRUE(arenas.alloc(host, 14 * arenas.arena_pages()));
  const heap_arenas::arena_run run = arenas.take_new_arenas();
  EXPECT_EQ(run.user, host);
  EXPECT_GE(run.pages, 13 * arenas.arena_pages());
  EXPECT_EQ(arenas.take_new_arenas().pages, 0u);
}

TEST(heap_arenas, grows_chunk_by_chunk_within_an_arena) {
  heap_arenas arenas(gib_pages);
  EXPECT_EQ(arenas.grown_pages(), 0u);
  ASSERT_TRUE(arenas.alloc(host, 1));
  EXPECT_EQ(arenas.grown_pages(), chunk_pages);
  ASSERT_TRUE(arenas.alloc(device, 1));
  EXPECT_EQ(arenas.grown_pages(), 2 * chunk_pages - 1);  // page 0 is no page to use
  ASSERT_TRUE(arenas.alloc(device, 3 * chunk_pages));
  EXPECT_EQ(arenas.grown_pages(), 5 * chunk_pages - 1);
  EXPECT_EQ(arenas.arenas(device), 1u);
  EXPECT_EQ(arenas.arenas(host), 1u);
}

TEST(heap_arenas, a_run_longer_than_an_arena_crosses_it) {
  for (const page_user user : {device, host}) {
    heap_arenas arenas(gib_pages);
    ASSERT_TRUE(arenas.alloc(user, 1));
    const std::size_t n = 3 * arenas.arena_pages() + 5;
    const page_allocation got = arenas.alloc(user, n);
    ASSERT_TRUE(got);
    EXPECT_EQ(got.scavenged, n);
    for (std::size_t p = got.first; p < got.first + n; p += chunk_pages)
      EXPECT_TRUE(arenas.is_in_arena_of(user, p));
    arenas.free(got.first, n);
    EXPECT_EQ(arenas.free_pages(), arenas.grown_pages() - 1);  // the first page of all is in use
  }
}

TEST(heap_arenas, the_whole_heap_is_one_run_for_either_user_in_turn) {
  for (const std::size_t pages : {gib_pages, gib_pages / 16 + 100, std::size_t{2}}) {
    heap_arenas arenas(pages);
    for (const page_user user : {host, device, host, host, device}) {
      // The other one's arenas are all free by then.
      const page_allocation small = arenas.alloc(user == host ? device : host, 1);
      ASSERT_TRUE(small);
      arenas.free(small.first, 1);
      const page_allocation all = arenas.alloc(user, pages - 1);
      ASSERT_TRUE(all) << pages;
      EXPECT_EQ(all.first, 1u);
      EXPECT_FALSE(arenas.alloc(device, 1));
      EXPECT_FALSE(arenas.alloc(host, 1));
      EXPECT_EQ(arenas.free_pages(), 0u);
      EXPECT_EQ(arenas.grown_pages(), pages - 1);
      arenas.free(1, pages - 1);
    }
  }
}

TEST(heap_arenas, arenas_in_which_all_is_free_change_hands_with_their_memory) {
  heap_arenas arenas(gib_pages);
  const page_allocation most = arenas.alloc(device, gib_pages - 1);
  ASSERT_TRUE(most);
  // All but the first two arenas come free.
  const std::size_t kept = 2 * arenas.arena_pages();
  arenas.free(kept, gib_pages - kept);
  EXPECT_EQ(arenas.arenas(host), 0u);
  const page_allocation got = arenas.alloc(host, 10);
  ASSERT_TRUE(got);
  EXPECT_TRUE(arenas.is_in_arena_of(host, got.first));
  EXPECT_EQ(got.scavenged, 0u);  // they hold what the device left there
  EXPECT_EQ(arenas.arenas(host), 1u);
  std::size_t released = 0;
  EXPECT_EQ(arenas.scavenge([&](std::size_t, std::size_t n) { return (released += n) != 0; }),
            released);
  EXPECT_EQ(released, gib_pages - kept - 10);
  const page_allocation next = arenas.alloc(host, arenas.arena_pages());
  ASSERT_TRUE(next);
  EXPECT_EQ(next.scavenged, arenas.arena_pages());
}

TEST(heap_arenas, pages_in_an_arena_of_the_other_come_last_and_return_to_it) {
  heap_arenas arenas(gib_pages);
  // A page of the host in every arena.
  std::vector<std::size_t> pinned;
  const page_allocation all = arenas.alloc(host, gib_pages - 1);
  ASSERT_TRUE(all);
  for (std::size_t p = 1; p < gib_pages; ++p) {
    if (p % arenas.arena_pages() == 7)
      pinned.push_back(p);
    else
      arenas.free(p, 1);
  }
  EXPECT_EQ(arenas.arenas(device), 0u);
  EXPECT_FALSE(arenas.alloc(device, 1, /*from_the_other=*/false));
  const page_allocation guest = arenas.alloc(device, 100);
  ASSERT_TRUE(guest);
  EXPECT_TRUE(arenas.is_in_arena_of(host, guest.first));
  arenas.free(guest.first, 100);
  // An arena that empties goes to the one in need.
  arenas.free(pinned[3], 1);
  const page_allocation own = arenas.alloc(device, 1, /*from_the_other=*/false);
  ASSERT_TRUE(own);
  EXPECT_EQ(own.first / arenas.arena_pages(), 3u);
  EXPECT_EQ(arenas.arenas(device), 1u);
  EXPECT_EQ(arenas.arenas(host), 15u);
}

TEST(heap_arenas, page_caches_come_from_and_return_to_their_arena) {
  heap_arenas arenas(gib_pages / 64);
  std::vector<page_cache> caches;
  std::size_t pages = 0;
  for (;;) {
    caches.push_back(arenas.alloc_to_cache(caches.size() % 2 == 0 ? host : device));
    if (caches.back().empty()) break;
    pages += static_cast<std::size_t>(bits::popcount(caches.back().free_bits()));
  }
  EXPECT_EQ(pages, gib_pages / 64 - 1);
  for (page_cache& c : caches) arenas.flush(c);
  EXPECT_EQ(arenas.free_pages(), pages);
  EXPECT_TRUE(arenas.alloc(host, pages));
}

TEST(heap_arenas, pages_of_several_runs_and_arenas_are_freed_in_one_piece) {
  heap_arenas arenas(gib_pages / 16);
  const std::size_t border = (gib_pages / 16) / arenas.arena_pages() / 2 * arenas.arena_pages();
  // The arenas above the border are the host's, each with a page in use at its end.
  ASSERT_TRUE(arenas.alloc(host, gib_pages / 16 - border));
  ASSERT_TRUE(arenas.alloc(device, border - 1));
  for (std::size_t p = border; p < gib_pages / 16; ++p)
    if (p % arenas.arena_pages() != arenas.arena_pages() - 1) arenas.free(p, 1);
  const page_allocation guest = arenas.alloc(device, 10);
  ASSERT_TRUE(guest);
  ASSERT_EQ(guest.first, border);
  EXPECT_TRUE(arenas.is_in_arena_of(host, border));
  EXPECT_TRUE(arenas.is_in_arena_of(device, border - 1));
  const std::size_t free_before = arenas.free_pages();
  arenas.free(1, border - 1 + 10);
  EXPECT_EQ(arenas.free_pages(), free_before + border - 1 + 10);
}

TEST(heap_arenas, runs_grow_into_what_is_free_or_unused_behind_them) {
  heap_arenas arenas(gib_pages);
  const page_allocation got = arenas.alloc(host, 10);
  ASSERT_TRUE(got);
  const std::size_t arena_end = gib_pages;
  // Within the chunk in use, and two chunks further.
  EXPECT_EQ(arenas.alloc_behind(got.first + 9, 20).first, got.first + 10);
  EXPECT_EQ(arenas.grown_pages(), chunk_pages);
  EXPECT_EQ(arenas.alloc_behind(got.first + 29, 2 * chunk_pages).first, got.first + 30);
  EXPECT_EQ(arenas.grown_pages(), 3 * chunk_pages);
  // Not over what is taken, nor beyond the arena.
  const std::size_t end = got.first + 30 + 2 * chunk_pages;
  const page_allocation other = arenas.alloc(host, 1);
  ASSERT_EQ(other.first, end);
  EXPECT_FALSE(arenas.alloc_behind(end - 1, 1));
  EXPECT_FALSE(arenas.alloc_behind(end - 1, chunk_pages));
  arenas.free(other.first, 1);
  EXPECT_FALSE(arenas.alloc_behind(end - 1, arena_end - end + 1));
  EXPECT_FALSE(arenas.alloc_behind(end - 1, ~std::size_t{0}));
  EXPECT_EQ(arenas.grown_pages(), 3 * chunk_pages) << "what fails takes nothing into use";
  const page_allocation rest = arenas.alloc_behind(end - 1, arena_end - end);
  EXPECT_EQ(rest.first, end);
  EXPECT_EQ(rest.scavenged, arena_end - end - 1) << "one of its pages was used before";
  EXPECT_FALSE(arenas.alloc_behind(arena_end - 1, 1));
}

TEST(heap_arenas, runs_do_not_grow_into_arenas_of_others) {
  heap_arenas arenas(gib_pages);
  const std::size_t arena = arenas.arena_pages();
  const page_allocation of_device = arenas.alloc(device, arena - 1);
  ASSERT_EQ(of_device.first, 1u);
  EXPECT_FALSE(arenas.alloc_behind(arena - 1, 1)) << "nobody's";
  ASSERT_TRUE(arenas.alloc(host, 15 * arena));
  EXPECT_FALSE(arenas.alloc_behind(arena - 1, 1)) << "the host's, and in use";
  arenas.free(arena, 15 * arena);
  EXPECT_FALSE(arenas.alloc_behind(arena - 1, 1)) << "the host's, and free";
}

/// Against a plain map of pages: no page has two owners, none is lost, and a single page is refused
/// only when there is none.
TEST(heap_arenas, random_traffic_agrees_with_a_map) {
  for (const std::size_t pages : {gib_pages / 16 + 77, gib_pages / 128}) {
    std::mt19937_64 random(pages);
    heap_arenas arenas(pages);
    std::vector<bool> taken(pages);
    std::size_t used = 0;
    struct run {
      std::size_t first, n;
    };
    std::vector<run> live;
    for (int step = 0; step < 30'000; ++step) {
      // Full and empty times take turns.
      const bool take = random() % 100 < (step / 3000 % 2 == 0 ? 60u : 40u);
      if (take) {
        const page_user user = random() % 2 == 0 ? device : host;
        const std::size_t n = random() % 20 == 0 ? 1 + random() % 900 : 1 + random() % 4;
        const page_allocation got = arenas.alloc(user, n);
        if (!got) {
          ASSERT_FALSE(n == 1 && used < pages - 1);
          continue;
        }
        for (std::size_t p = got.first; p < got.first + n; ++p) {
          ASSERT_TRUE(p != 0 && p < pages);
          ASSERT_FALSE(taken[p]);
          taken[p] = true;
        }
        used += n;
        live.push_back({got.first, n});
      } else if (!live.empty() && random() % 3 == 0) {
        run& r = live[random() % live.size()];
        const std::size_t first = r.first + r.n;
        const std::size_t n = random() % 20 == 0 ? 1 + random() % 900 : 1 + random() % 4;
        const std::size_t arena_end =
            ((first - 1) / arenas.arena_pages() + 1) * arenas.arena_pages();
        bool room = first + n <= std::min(pages, arena_end);
        for (std::size_t p = first; room && p < first + n; ++p) room = !taken[p];
        const page_allocation got = arenas.alloc_behind(first - 1, n);
        // It may lead into the next arena.
        ASSERT_TRUE(got || !room);
        if (!got) continue;
        ASSERT_EQ(got.first, first);
        for (std::size_t p = first; p < first + n; ++p) {
          ASSERT_TRUE(p < pages);
          ASSERT_FALSE(taken[p]);
          taken[p] = true;
        }
        used += n;
        r.n += n;
      } else if (!live.empty()) {
        std::swap(live[random() % live.size()], live.back());
        const run r = live.back();
        live.pop_back();
        arenas.free(r.first, r.n, random() % 2 == 0);
        for (std::size_t p = r.first; p < r.first + r.n; ++p) taken[p] = false;
        used -= r.n;
      }
      ASSERT_EQ(arenas.free_pages(), arenas.grown_pages() - used);
    }
    for (const run r : live) arenas.free(r.first, r.n);
    EXPECT_TRUE(arenas.alloc(device, pages - 1));
  }
}

}  // namespace
