// Which free slots become ready together, beside a model that remembers every slot.
#include "host/ready_window.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "host/mspan.hpp"
#include "host/span_check.hpp"

namespace {

using namespace warpheap;
namespace bits = warpheap::bits;

constexpr unsigned words = 4;

struct window_model {
  ready_window window;
  std::vector<std::uint64_t> free = std::vector<std::uint64_t>(words, ~std::uint64_t{0});
  std::vector<std::uint64_t> chosen_before = std::vector<std::uint64_t>(words);
  unsigned not_told_fresh = 0;  // slots chosen for the first time that were not told to be

  explicit window_model(std::size_t elemsize) { window.init(elemsize); }

  std::uint64_t choose(unsigned w) {
    const std::uint64_t chosen = window.choose(w, free[w]);
    EXPECT_NE(chosen, 0u);
    EXPECT_EQ(chosen & ~free[w], 0u);
    EXPECT_EQ(chosen & -chosen, free[w] & -free[w]) << "the lowest";
    const std::uint64_t first_time = chosen & ~chosen_before[w];
    if (window.is_fresh())
      EXPECT_EQ(first_time, chosen);
    else
      not_told_fresh += static_cast<unsigned>(bits::popcount(first_time));
    chosen_before[w] |= chosen;
    free[w] &= ~chosen;
    return chosen;
  }
};

TEST(ready_window_test, all_slots_are_fresh_when_taken_in_turn) {
  for (const std::size_t elemsize : {8u, 256u, 257u, 1000u, 4096u, 8192u, 16384u, 16385u}) {
    window_model model(elemsize);
    model.window.restart();
    const auto first = static_cast<std::size_t>(bits::popcount(model.choose(0))) * elemsize;
    EXPECT_LE(first, std::max<std::size_t>(16384, 2 * elemsize)) << elemsize;
    for (unsigned w = 0; w < words; ++w) {
      while (model.free[w] != 0) {
        model.choose(w);
        EXPECT_TRUE(model.window.is_fresh());
      }
    }
    EXPECT_EQ(model.not_told_fresh, 0u);
  }
}

TEST(ready_window_test, what_was_chosen_before_is_never_fresh) {
  std::mt19937_64 random(1);
  for (const std::size_t elemsize : {8u, 512u, 1000u, 4096u, 8192u, 32768u}) {
    for (unsigned run = 0; run < 200; ++run) {
      window_model model(elemsize);
      const std::uint64_t past_end = random() % 2 == 0 ? 0 : ~std::uint64_t{0} << (random() % 64);
      model.free[words - 1] &= ~past_end;
      for (unsigned step = 0; step < 300; ++step) {
        const auto w = static_cast<unsigned>(random() % words);
        if (random() % 16 == 0) model.window.restart();
        // Some that were taken are free again.
        if (random() % 2 == 0) model.free[w] |= model.chosen_before[w] & random() & random();
        if (model.free[w] != 0) model.choose(w);
      }
    }
  }
}

std::byte* const some_base = reinterpret_cast<std::byte*>(std::uintptr_t{0x10000000});

TEST(ready_window, slots_of_this_word_or_one_behind_come_as_advance_would_give_them) {
  std::mt19937 random(5);
  for (unsigned c = 1; c < num_classes; ++c) {
    // Two spans to which the same is done; in one of them the short way is tried first.
    mspan plain, tried;
    for (mspan* s : {&plain, &tried}) {
      s->init(some_base, host_span_pages(c), make_span_class(c, true));
      ASSERT_TRUE(s->enter());
    }
    const auto take = [](mspan& s, bool tries, unsigned& behind) -> std::byte* {
      if (std::byte* p = s.take(); p != nullptr) return p;
      std::uint64_t ready = tries ? s.advance_behind() : 0;
      behind += ready != 0;
      if (ready == 0) ready = s.advance();
      return ready != 0 ? s.take_of(ready) : nullptr;
    };
    std::vector<std::byte*> live;
    unsigned behind = 0, none = 0;
    for (unsigned i = 0; i < 4000; ++i) {
      // Long runs of either kind, so that spans fill and empty.
      if (random() % 8 < (i / 500 % 2 == 0 ? 5u : 3u)) {
        std::byte* const p = take(plain, false, none);
        ASSERT_EQ(take(tried, true, behind), p) << class_to_size(c) << " at " << i;
        ASSERT_EQ(plain.takes_fresh(), tried.takes_fresh());
        if (p != nullptr) live.push_back(p);
      } else if (!live.empty()) {
        std::swap(live[random() % live.size()], live.back());
        for (mspan* s : {&plain, &tried}) ASSERT_TRUE(s->free_own(live.back()));
        live.pop_back();
      }
      for (mspan* s : {&plain, &tried}) ASSERT_EQ(span_error(*s), nullptr);
    }
    for (unsigned w = 0; w < plain.words(); ++w) {
      ASSERT_EQ(plain.sets(w).ready, tried.sets(w).ready);
      ASSERT_EQ(plain.sets(w).free, tried.sets(w).free);
    }
    EXPECT_GT(behind, 10u) << class_to_size(c);
    while (take(tried, true, behind) != nullptr) {
    }
    EXPECT_EQ(tried.advance_behind(), 0u);
    EXPECT_EQ(tried.count_free(), 0u);
  }
}

}  // namespace
