// Which free slots become ready together, beside a model that remembers every slot.
#include "host/ready_window.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace {

using warpheap::ready_window;
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

}  // namespace
