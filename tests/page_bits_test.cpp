#include "host/page_bits.hpp"

#include <gtest/gtest.h>
#include <random>
#include <sstream>
#include <vector>

#include "tests/vectors.hpp"

namespace {

using namespace warpheap;
using warpheap::test::bits_of;
using warpheap::test::kinds_of_cases;
using warpheap::test::load_cases;

TEST(page_bits, every_kind_of_case_has_a_reader) {
  EXPECT_EQ(
      kinds_of_cases("page_bits.json"),
      (std::set<std::string>{"alloc_range", "find", "popcnt_range", "summarize_free_ranges"}));
}

TEST(page_bits, go_alloc_range) {
  const auto cases = load_cases("page_bits.json");
  for (const auto& c : cases["alloc_range"]) {
    page_bits b;
    b.set_range(c["i"], c["n"]);
    std::string text = c["want"];
    std::istringstream in(text.substr(1, text.size() - 2));
    for (unsigned w = 0; w < page_bits::words; ++w) {
      std::string word;
      in >> word;
      EXPECT_EQ(b.word(w), std::stoull(word, nullptr, 16)) << c.dump();
    }
  }
}

TEST(page_bits, go_popcount_range) {
  const auto cases = load_cases("page_bits.json");
  for (const auto& [name, c] : cases["popcnt_range"].items()) {
    const page_bits b = bits_of(c["init"]);
    for (const auto& t : c["tests"]) {
      EXPECT_EQ(b.popcount_range(t["i"], t["n"]), t["want"].get<unsigned>()) << name << t.dump();
    }
  }
}

TEST(page_bits, go_summarize) {
  const auto cases = load_cases("page_bits.json");
  for (const auto& [name, c] : cases["summarize_free_ranges"].items()) {
    page_bits b;
    b.set_range(0, page_bits::size);
    for (const auto& r : c["free"]) b.clear_range(r[0], r[1]);
    const page_summary s = b.summarize();
    for (const auto& want : c["hits"]) {
      EXPECT_EQ(s.start(), want["start"].get<std::size_t>()) << name;
      EXPECT_EQ(s.longest(), want["max"].get<std::size_t>()) << name;
      EXPECT_EQ(s.end(), want["end"].get<std::size_t>()) << name;
    }
  }
}

TEST(page_bits, go_find) {
  const auto cases = load_cases("page_bits.json");
  for (const auto& [name, c] : cases["find"].items()) {
    page_bits b = bits_of(c["before"]);
    const unsigned n = c["npages"];
    for (const auto& hit : c["hits"]) {
      const unsigned at = b.find(n);
      if (hit.get<int>() < 0) {
        EXPECT_EQ(at, page_bits::none) << name;
      } else {
        EXPECT_EQ(at, hit.get<unsigned>()) << name;
        b.set_range(at, n);
      }
    }
    EXPECT_EQ(b, bits_of(c["after"])) << name;
  }
}

TEST(page_bits, agrees_with_a_vector_of_bools) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    page_bits b;
    std::vector<bool> model(page_bits::size);
    const int ranges = static_cast<int>(random() % 40);
    for (int i = 0; i < ranges; ++i) {
      const unsigned first = random() % page_bits::size;
      const unsigned n = random() % std::min(page_bits::size - first, 90u) + 1;
      const bool set = random() % 3 != 0;
      set ? b.set_range(first, n) : b.clear_range(first, n);
      std::fill_n(model.begin() + first, n, set);
    }
    std::size_t start = 0, longest = 0, run = 0;
    std::vector<std::size_t> run_at(page_bits::size + 1);  // length of the run of zeros from i on
    for (unsigned i = page_bits::size; i-- > 0;) run_at[i] = model[i] ? 0 : run_at[i + 1] + 1;
    start = run_at[0];
    longest = *std::max_element(run_at.begin(), run_at.end());
    for (unsigned i = page_bits::size; i-- > 0 && !model[i];) ++run;
    EXPECT_EQ(b.summarize(), page_summary::pack(start, longest, run));
    for (unsigned n : {1u, 2u, 3u, 17u, 63u, 64u, 65u, 100u, 129u, 512u}) {
      unsigned want = page_bits::none;
      for (unsigned i = 0; i < page_bits::size && want == page_bits::none; ++i) {
        if (run_at[i] >= n) want = i;
      }
      ASSERT_EQ(b.find(n), want) << n;
    }
    const unsigned i = random() % page_bits::size;
    const unsigned n = random() % (page_bits::size - i + 1);
    EXPECT_EQ(b.popcount_range(i, n), std::count(model.begin() + i, model.begin() + i + n, true));
  }
}

TEST(page_summary, packs_all_values) {
  const page_summary all =
      page_summary::pack(page_summary::max_pages, page_summary::max_pages, page_summary::max_pages);
  EXPECT_EQ(all.start(), page_summary::max_pages);
  EXPECT_EQ(all.longest(), page_summary::max_pages);
  EXPECT_EQ(all.end(), page_summary::max_pages);
  const page_summary s = page_summary::pack(5, page_summary::max_pages - 1, 7);
  EXPECT_EQ(s.start(), 5u);
  EXPECT_EQ(s.longest(), page_summary::max_pages - 1);
  EXPECT_EQ(s.end(), 7u);
  EXPECT_TRUE(page_summary().none_free());
}

TEST(page_summary, merges_runs_across_blocks) {
  const page_summary free = page_summary::pack(512, 512, 512);
  const page_summary none;
  const page_summary ends = page_summary::pack(3, 100, 20);
  const page_summary a[] = {free, free, ends, ends};
  EXPECT_EQ(merge_summaries(a, 4, 512), page_summary::pack(1027, 1027, 20));
  const page_summary b[] = {ends, free, ends, none};
  EXPECT_EQ(merge_summaries(b, 4, 512), page_summary::pack(3, 535, 0));
  const page_summary c[] = {ends, ends, free, free};
  EXPECT_EQ(merge_summaries(c, 4, 512), page_summary::pack(3, 1044, 1044));
}

}  // namespace
