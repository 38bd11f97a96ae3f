#include "host/page_allocator.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <random>
#include <vector>

#include "tests/vectors.hpp"

namespace {

using namespace warpheap;
using nlohmann::json;
using warpheap::test::bits_of;
using warpheap::test::kinds_of_cases;
using warpheap::test::load_cases;
using warpheap::test::page_of;

// All that a 48-bit address space has: cases may name any.
constexpr std::size_t vector_chunks = page_allocator::max_chunks;

/// An allocator with the chunks of a case: allocated as in `before`, and of the free pages those of
/// `scav` given back to the system.
void set_up(page_allocator& pages, const json& before, const json& scav) {
  for (const auto& [key, unused] : before.items()) {
    pages.grow(std::stoull(key), 1);
    pages.allocate_range(std::stoull(key) * chunk_pages, chunk_pages);
  }
  const auto free_those = [&](bool scavenged) {
    for (const auto& [key, ranges] : before.items()) {
      const page_bits allocated = bits_of(ranges);
      const page_bits given_back = scav.contains(key) ? bits_of(scav[key]) : page_bits();
      for (unsigned i = 0; i < chunk_pages; ++i) {
        if (!allocated.get(i) && given_back.get(i) == scavenged) {
          pages.free(std::stoull(key) * chunk_pages + i, 1, scavenged);
        }
      }
    }
  };
  free_those(true);
  free_those(false);
}

void expect_state(const page_allocator& pages, const json& after, const std::string& name) {
  for (const auto& [key, ranges] : after.items()) {
    EXPECT_EQ(pages.chunk(std::stoull(key)).alloc, bits_of(ranges)) << name << " chunk " << key;
  }
}

TEST(page_allocator, every_kind_of_case_has_a_reader) {
  EXPECT_EQ(kinds_of_cases("page_allocator.json"),
            (std::set<std::string>{"alloc", "alloc_and_free", "free", "grow"}));
}

TEST(page_allocator, go_grow) {
  const json cases = load_cases("page_allocator.json");
  for (const auto& [name, c] : cases["grow"].items()) {
    page_allocator pages(vector_chunks);
    for (const auto& chunk : c["chunks"]) pages.grow(chunk, 1);
    sys_vector<page_allocator::chunk_range> want;
    for (const auto& r : c["inUse"]) {
      ASSERT_TRUE(want.push_back({page_of(r[0]) / chunk_pages, page_of(r[1]) / chunk_pages}));
    }
    EXPECT_EQ(pages.in_use(), want) << name;
    // And in reverse order.
    page_allocator reversed(vector_chunks);
    for (auto at = c["chunks"].rbegin(); at != c["chunks"].rend(); ++at) reversed.grow(*at, 1);
    EXPECT_EQ(reversed.in_use(), want) << name;
  }
}

TEST(page_allocator, go_alloc) {
  const json cases = load_cases("page_allocator.json");
  for (const auto& [name, c] : cases["alloc"].items()) {
    page_allocator pages(vector_chunks);
    set_up(pages, c["before"], c["scav"]);
    for (const auto& hit : c["hits"]) {
      const page_allocation got = pages.alloc(hit["npages"]);
      if (hit["base"].is_null()) {
        EXPECT_FALSE(got) << name << hit.dump();
      } else {
        EXPECT_EQ(got.first, page_of(hit["base"])) << name << hit.dump();
        EXPECT_EQ(got.scavenged * 8192, hit["scav"].get<std::size_t>()) << name << hit.dump();
      }
    }
    expect_state(pages, c["after"], name);
  }
}

TEST(page_allocator, go_free) {
  const json cases = load_cases("page_allocator.json");
  for (const auto& [name, c] : cases["free"].items()) {
    page_allocator pages(vector_chunks);
    set_up(pages, c["before"], json::object());
    for (const auto& at : c["frees"]) pages.free(page_of(at), c["npages"]);
    expect_state(pages, c["after"], name);
  }
}

TEST(page_allocator, go_alloc_and_free) {
  const json cases = load_cases("page_allocator.json");
  for (const auto& [name, c] : cases["alloc_and_free"].items()) {
    page_allocator pages(vector_chunks);
    set_up(pages, c["init"], json::object());
    for (const auto& hit : c["hits"]) {
      if (hit["alloc"].get<bool>()) {
        EXPECT_EQ(pages.alloc(hit["npages"]).first, page_of(hit["base"])) << name << hit.dump();
      } else {
        pages.free(page_of(hit["base"]), hit["npages"]);
      }
    }
  }
}

/// The same books, kept page by page.
struct model {
  explicit model(std::size_t pages)
      : allocated(pages, true), scavenged(pages, false), known(pages, false) {}

  std::size_t find(std::size_t n) const {
    std::size_t run = 0;
    for (std::size_t i = 0; i < allocated.size(); ++i) {
      run = allocated[i] ? 0 : run + 1;
      if (run == n) return i + 1 - n;
    }
    return page_allocation::npos;
  }
  std::size_t take(std::size_t first, std::size_t n) {
    std::size_t count = 0;
    for (std::size_t i = first; i < first + n; ++i) {
      allocated[i] = true;
      count += scavenged[i];
      scavenged[i] = false;
    }
    return count;
  }

  std::vector<bool> allocated, scavenged, known;
};

TEST(page_allocator, agrees_with_page_by_page_books) {
  constexpr std::size_t chunks = 20;
  for (unsigned seed = 0; seed < 4; ++seed) {
    std::mt19937 random(seed);
    page_allocator pages(chunks);
    model m(chunks * chunk_pages);
    struct run {
      std::size_t first, n;
    };
    std::vector<run> live;
    std::vector<page_cache> caches;
    for (int step = 0; step < 2500; ++step) {
      switch (random() % 10) {
        case 0: {
          const std::size_t c = random() % chunks;
          if (m.known[c]) break;
          m.known[c] = true;
          pages.grow(c, 1);
          std::fill_n(m.allocated.begin() + static_cast<long>(c * chunk_pages), chunk_pages, false);
          std::fill_n(m.scavenged.begin() + static_cast<long>(c * chunk_pages), chunk_pages, true);
          break;
        }
        case 1:
        case 2:
        case 3:
        case 4: {
          const std::size_t n = random() % 8 == 0 ? random() % 1500 + 1 : random() % 40 + 1;
          const std::size_t want = m.find(n);
          const page_allocation got = pages.alloc(n);
          ASSERT_EQ(got.first, want) << "seed " << seed << " step " << step;
          if (!got) break;
          ASSERT_EQ(got.scavenged, m.take(got.first, n));
          live.push_back({got.first, n});
          break;
        }
        case 5: {
          const std::size_t n = random() % 8 == 0 ? random() % 1500 + 1 : random() % 40 + 1;
          const std::size_t first = random() % (chunks * chunk_pages);
          bool want = first + n <= m.allocated.size();
          for (std::size_t i = first; want && i < first + n; ++i) want = !m.allocated[i];
          ASSERT_EQ(pages.is_free(first, n), want) << "seed " << seed << " step " << step;
          if (!want) break;
          ASSERT_EQ(pages.allocate_range(first, n), m.take(first, n));
          live.push_back({first, n});
          break;
        }
        case 6:
        case 7: {
          if (live.empty()) break;
          std::swap(live[random() % live.size()], live.back());
          const run r = live.back();
          live.pop_back();
          const bool scavenged = random() % 8 == 0;
          pages.free(r.first, r.n, scavenged);
          for (std::size_t i = r.first; i < r.first + r.n; ++i) {
            m.allocated[i] = false;
            m.scavenged[i] = scavenged;
          }
          break;
        }
        case 8: {
          if (caches.size() > 3) {
            page_cache c = caches.back();
            caches.pop_back();
            c.alloc(random() % 5 + 1);  // what the cache gave away stays allocated
            for (std::size_t i = 0; i < 64; ++i) {
              if ((c.free_bits() >> i & 1) == 0) continue;
              m.allocated[c.base() + i] = false;
              m.scavenged[c.base() + i] = (c.scavenged_bits() >> i & 1) != 0;
            }
            c.flush(pages);
            ASSERT_TRUE(c.empty());
            break;
          }
          const std::size_t lowest = m.find(1);
          page_cache c = pages.alloc_to_cache();
          if (lowest == page_allocation::npos) {
            ASSERT_TRUE(c.empty());
            break;
          }
          ASSERT_EQ(c.base(), lowest / 64 * 64);
          for (std::size_t i = 0; i < 64; ++i) {
            ASSERT_EQ((c.free_bits() >> i & 1) != 0, !m.allocated[c.base() + i]);
            ASSERT_EQ((c.scavenged_bits() >> i & 1) != 0,
                      !m.allocated[c.base() + i] && m.scavenged[c.base() + i]);
            if (!m.allocated[c.base() + i]) m.take(c.base() + i, 1);
          }
          caches.push_back(c);
          break;
        }
        default: {
          if (random() % 20 != 0) break;
          // From the top down, so many pages at most, and all of them if that is not the limit.
          const std::size_t most = random() % 2 == 0 ? page_allocation::npos : random() % 600;
          const bool refuses = random() % 4 == 0;
          std::size_t below = page_allocation::npos;
          std::size_t sum = 0;
          const std::size_t idle = pages.idle_pages();
          const std::size_t released = pages.scavenge(
              [&](std::size_t first, std::size_t n) {
                EXPECT_LE(first + n, below);
                below = first;
                if (refuses && random() % 8 == 0) return false;
                for (std::size_t i = first; i < first + n; ++i) {
                  EXPECT_FALSE(m.allocated[i] || m.scavenged[i]);
                  m.scavenged[i] = true;
                }
                sum += n;
                return true;
              },
              most);
          ASSERT_EQ(released, sum);
          if (!refuses) {
            ASSERT_EQ(released, std::min(most, idle));
          }
          for (std::size_t i = below; i < m.allocated.size() && !refuses; ++i) {
            ASSERT_TRUE(m.allocated[i] || m.scavenged[i]);
          }
        }
      }
      if (step % 32 != 0) continue;
      const auto free = std::count(m.allocated.begin(), m.allocated.end(), false);
      ASSERT_EQ(pages.free_pages(), static_cast<std::size_t>(free));
      ASSERT_EQ(pages.scavenged_pages(),
                static_cast<std::size_t>(std::count(m.scavenged.begin(), m.scavenged.end(), true)));
      ASSERT_LE(pages.search_start(), m.find(1));
    }
    // No page is both allocated and given back.
    for (std::size_t c = 0; c < chunks; ++c) {
      for (unsigned w = 0; w < page_bits::words; ++w) {
        ASSERT_EQ(pages.chunk(c).alloc.word(w) & pages.chunk(c).scavenged.word(w), 0u);
      }
    }
  }
}

TEST(page_allocator, everything_freed_is_one_run_again) {
  page_allocator pages(40);
  pages.grow(0, 40);
  std::vector<std::size_t> firsts;
  while (const page_allocation got = pages.alloc(7)) firsts.push_back(got.first);
  EXPECT_EQ(firsts.size(), 40 * chunk_pages / 7);
  std::mt19937 random(5);
  std::shuffle(firsts.begin(), firsts.end(), random);
  for (std::size_t f : firsts) pages.free(f, 7);
  EXPECT_EQ(pages.alloc(40 * chunk_pages).first, 0u);
}

/// What scavenge gives back, as runs in its order.
std::vector<std::pair<std::size_t, std::size_t>> scavenged(page_allocator& pages,
                                                           std::size_t most) {
  std::vector<std::pair<std::size_t, std::size_t>> runs;
  std::size_t sum = 0;
  const std::size_t released = pages.scavenge(
      [&](std::size_t first, std::size_t n) {
        runs.emplace_back(first, n);
        sum += n;
        return true;
      },
      most);
  EXPECT_EQ(released, sum);
  return runs;
}

using runs = std::vector<std::pair<std::size_t, std::size_t>>;
constexpr std::size_t all = page_allocation::npos;

TEST(page_allocator, scavenges_from_the_top_down) {
  page_allocator pages(4);
  pages.grow(0, 2);
  pages.grow(3, 1);
  EXPECT_EQ(scavenged(pages, all), runs());  // never touched
  pages.allocate_range(0, 2 * chunk_pages);
  pages.allocate_range(3 * chunk_pages, chunk_pages);
  EXPECT_EQ(scavenged(pages, all), runs());  // nothing free
  pages.free(10, 20);
  pages.free(500, 30);  // across a border of chunks
  pages.free(3 * chunk_pages + 63, 2);
  EXPECT_EQ(scavenged(pages, 1), (runs{{3 * chunk_pages + 64, 1}}));
  EXPECT_EQ(scavenged(pages, 3), (runs{{3 * chunk_pages + 63, 1}, {528, 2}}));
  EXPECT_EQ(scavenged(pages, 28), (runs{{500, 28}}));
  EXPECT_EQ(scavenged(pages, 5), (runs{{25, 5}}));
  // What comes free above is found again; what has no memory is passed over.
  pages.free(600, 64);
  pages.free(700, 10, /*scavenged=*/true);
  EXPECT_EQ(scavenged(pages, 0), runs());
  EXPECT_EQ(scavenged(pages, all), (runs{{600, 64}, {10, 15}}));
  EXPECT_EQ(pages.idle_pages(), 0u);
  EXPECT_EQ(scavenged(pages, all), runs());
}

TEST(page_allocator, scavenges_what_a_cache_and_another_allocator_leave) {
  page_allocator pages(2), other(2);
  pages.grow(0, 1);
  other.grow(1, 1);
  pages.allocate_range(0, chunk_pages);
  pages.free(128, 64);
  page_cache cache = pages.alloc_to_cache();
  EXPECT_EQ(scavenged(pages, all), runs());
  cache.flush(pages);
  EXPECT_EQ(scavenged(pages, all), (runs{{128, 64}}));
  other.allocate_range(chunk_pages, 7);
  other.free(chunk_pages, 7);
  other.hand_over(1, 1, pages);
  EXPECT_EQ(scavenged(other, all), runs());
  EXPECT_EQ(scavenged(pages, all), (runs{{chunk_pages, 7}}));
}

TEST(page_allocator, refused_memory_is_offered_again) {
  page_allocator pages(1);
  pages.grow(0, 1);
  pages.allocate_range(0, 100);
  pages.free(10, 5);
  pages.free(20, 5);
  std::vector<std::size_t> offered;
  EXPECT_EQ(pages.scavenge([&](std::size_t first, std::size_t) {
    offered.push_back(first);
    return first == 20;
  }),
            5u);
  EXPECT_EQ(offered, (std::vector<std::size_t>{20, 10}));
  EXPECT_EQ(scavenged(pages, all), (runs{{10, 5}}));
}

TEST(page_allocator, misuse_aborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  page_allocator pages(2);
  pages.grow(0, 1);
  EXPECT_DEATH(pages.free(3, 1), "page freed twice");
  EXPECT_DEATH(pages.grow(0, 1), "grown twice");
  EXPECT_DEATH(pages.grow(1, 2), "out of range");
}

}  // namespace
