// The page allocator where its tree has something to say: chunks at the borders of entries of all
// levels, runs longer than an entry of the root, and lists of chunks that come and go.
#include <gtest/gtest.h>
#include <algorithm>
#include <iterator>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "host/page_allocator.hpp"

namespace {

using namespace warpheap;

/// Free pages as runs: first page and length. Neighbours are one run.
class free_runs {
 public:
  void add(std::size_t first, std::size_t n) {
    auto next = runs_.lower_bound(first);
    if (next != runs_.begin()) {
      const auto before = std::prev(next);
      ASSERT_LE(before->first + before->second, first);
      if (before->first + before->second == first) {
        n += before->second;
        first = before->first;
        runs_.erase(before);
      }
    }
    if (next != runs_.end() && next->first == first + n) {
      n += next->second;
      runs_.erase(next);
    }
    runs_[first] = n;
  }
  /// The lowest n pages in a row.
  std::size_t find(std::size_t n) const {
    const auto at = std::ranges::find_if(runs_, [n](const auto& r) { return r.second >= n; });
    return at == runs_.end() ? page_allocation::npos : at->first;
  }
  void take(std::size_t first, std::size_t n) {
    const auto at = std::prev(runs_.upper_bound(first));
    const auto [start, length] = *at;
    ASSERT_GE(start + length, first + n);
    runs_.erase(at);
    if (start < first) runs_[start] = first - start;
    if (first + n < start + length) runs_[first + n] = start + length - (first + n);
  }
  std::size_t lowest() const {
    return runs_.empty() ? page_allocation::npos : runs_.begin()->first;
  }
  std::size_t longest() const {
    std::size_t n = 0;
    for (const auto& run : runs_) n = std::max(n, run.second);
    return n;
  }

 private:
  std::map<std::size_t, std::size_t> runs_;
};

/// Chunks that an entry of a level sums up.
constexpr std::size_t chunks_of(unsigned level) {
  return std::size_t{1} << (page_allocator::level_shift(level) - chunk_pages_shift);
}

TEST(page_allocator_levels, agrees_with_a_map_of_runs) {
  constexpr std::size_t root = chunks_of(0);
  // Across a border of each level, three entries of the root in a row, and the last chunks.
  const std::vector<page_allocator::chunk_range> chunks = {
      {0, 3},
      {chunks_of(3) - 1, chunks_of(3) + 2},
      {chunks_of(2) - 5, chunks_of(2) + 9},
      {chunks_of(1) - 20, chunks_of(1) + 20},
      {root - 70, root + 70},
      {3 * root - 100, 5 * root + 100},
      {page_allocator::max_chunks - 3, page_allocator::max_chunks}};
  for (unsigned seed = 0; seed < 2; ++seed) {
    std::mt19937_64 random(seed);
    page_allocator pages(page_allocator::max_chunks);
    free_runs model;
    for (const auto& [first, last] : chunks) {
      pages.grow(first, last - first);
      model.add(first * chunk_pages, (last - first) * chunk_pages);
    }
    std::vector<std::pair<std::size_t, std::size_t>> live;
    const auto any_size = [&]() -> std::size_t {
      switch (random() % 16) {
        case 0: return model.longest() + random() % 2;
        case 1: return std::size_t{1} << random() % 22;
        case 2: return (std::size_t{1} << random() % 22) + 1;
        case 3: return 1 + random() % (chunks_of(1) * chunk_pages);
        case 4:
        case 5: return 1 + random() % (20 * chunk_pages);
        case 6:
        case 7: return 1 + random() % (2 * chunk_pages);
        default: return 1 + random() % 100;
      }
    };
    for (int step = 0; step < 1500; ++step) {
      if (live.empty() || random() % 100 < 55) {
        const std::size_t n = any_size();
        const std::size_t want = model.find(n);
        ASSERT_EQ(pages.alloc(n).first, want) << "seed " << seed << " step " << step << ", " << n;
        if (want == page_allocation::npos) continue;
        model.take(want, n);
        live.emplace_back(want, n);
      } else {
        std::swap(live[random() % live.size()], live.back());
        auto [first, n] = live.back();
        live.pop_back();
        if (n > 2 && random() % 4 == 0) {  // a part now, the other later
          const std::size_t part = 1 + random() % (n - 1);
          live.emplace_back(first + part, n - part);
          n = part;
        }
        pages.free(first, n);
        model.add(first, n);
      }
      ASSERT_LE(pages.search_start(), model.lowest());
    }
    for (const auto& [first, n] : live) pages.free(first, n);
    for (const auto& [first, last] : chunks)
      for (std::size_t c = first; c < last; ++c)
        ASSERT_EQ(pages.summary(page_allocator::levels - 1, c),
                  page_summary::pack(chunk_pages, chunk_pages, chunk_pages));
  }
}

/// The runs of true in a list.
sys_vector<page_allocator::chunk_range> runs_of(const std::vector<bool>& chunks) {
  sys_vector<page_allocator::chunk_range> runs;
  for (std::size_t c = 0; c < chunks.size(); ++c) {
    if (!chunks[c]) continue;
    std::size_t last = c + 1;
    while (last < chunks.size() && chunks[last]) ++last;
    EXPECT_TRUE(runs.push_back({c, last}));
    c = last;
  }
  return runs;
}

TEST(page_allocator_levels, chunks_come_in_any_order_and_change_hands) {
  constexpr std::size_t all = 90;
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    page_allocator users[2] = {page_allocator(all), page_allocator(all)};
    std::vector<bool> has[2] = {std::vector<bool>(all), std::vector<bool>(all)};
    const auto free_from = [&](std::size_t first, auto&& wanted) {
      std::size_t n = 0;
      while (first + n < all && wanted(first + n)) ++n;
      return n;
    };
    for (int step = 0; step < 60; ++step) {
      const std::size_t first = random() % all;
      const unsigned user = random() % 2;
      const auto set = [&](unsigned who, std::size_t n, bool value) {
        std::fill_n(has[who].begin() + static_cast<std::ptrdiff_t>(first), n, value);
      };
      if (random() % 2 == 0) {
        std::size_t n = free_from(first, [&](std::size_t c) { return !has[0][c] && !has[1][c]; });
        if (n == 0) continue;
        n = 1 + random() % n;
        users[user].grow(first, n);
        set(user, n, true);
      } else {
        std::size_t n = free_from(first, [&](std::size_t c) { return has[user][c]; });
        if (n == 0) continue;
        n = 1 + random() % n;
        users[user].hand_over(first, n, users[1 - user]);
        set(user, n, false);
        set(1 - user, n, true);
      }
      for (unsigned u : {0u, 1u}) {
        ASSERT_EQ(users[u].in_use(), runs_of(has[u])) << "seed " << seed << " step " << step;
        ASSERT_EQ(users[u].free_pages(), users[u].total_pages());
      }
    }
    // Whoever has them can use them, and nobody else.
    for (unsigned u : {0u, 1u}) {
      std::size_t pages = 0;
      while (const page_allocation got = users[u].alloc(chunk_pages)) {
        ASSERT_TRUE(has[u][got.first / chunk_pages]);
        pages += chunk_pages;
      }
      ASSERT_EQ(pages, users[u].total_pages());
    }
  }
}

TEST(page_summary, merges_as_the_pages_say) {
  std::mt19937 random(11);
  constexpr std::size_t block = 32;
  const auto sum_up = [](const std::vector<bool>& is_free) {
    std::size_t start = 0, longest = 0, run = 0;
    for (std::size_t i = 0; i < is_free.size(); ++i) {
      run = is_free[i] ? run + 1 : 0;
      longest = std::max(longest, run);
      if (run == i + 1) start = run;
    }
    return page_summary::pack(start, longest, run);
  };
  for (int round = 0; round < 3000; ++round) {
    const std::size_t n = 1 + random() % 8;
    std::vector<bool> is_free(n * block);
    // Long runs of both kinds, whole blocks among them.
    for (std::size_t i = 0; i < is_free.size();) {
      const bool value = random() % 2 == 0;
      for (std::size_t length = 1 + random() % (3 * block); length > 0 && i < is_free.size();
           --length, ++i)
        is_free[i] = value;
    }
    std::vector<page_summary> sums;
    for (std::size_t b = 0; b < n; ++b) {
      const auto at = is_free.begin() + static_cast<std::ptrdiff_t>(b * block);
      sums.push_back(sum_up({at, at + block}));
    }
    ASSERT_EQ(merge_summaries(sums.data(), n, block), sum_up(is_free)) << round;
  }
}

TEST(page_summary, gives_back_whatever_was_packed) {
  std::mt19937 random(12);
  constexpr std::size_t most = page_summary::max_pages;
  for (int round = 0; round < 20'000; ++round) {
    const std::size_t longest = random() % 8 == 0 ? most : random() % most;
    const std::size_t start = longest == most ? most : random() % (longest + 1);
    const std::size_t end = longest == most ? most : random() % (longest + 1);
    const page_summary s = page_summary::pack(start, longest, end);
    ASSERT_EQ(s.start(), start);
    ASSERT_EQ(s.longest(), longest);
    ASSERT_EQ(s.end(), end);
    ASSERT_EQ(s.none_free(), longest == 0);
  }
}

}  // namespace
