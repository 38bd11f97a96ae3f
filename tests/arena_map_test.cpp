// The two-level map from addresses to pages, against a model.
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <vector>

#include "host/arena_map.hpp"

namespace {

using namespace warpheap;

std::byte* byte_at(std::uintptr_t address) { return reinterpret_cast<std::byte*>(address); }

TEST(arena_map, an_empty_one_knows_no_address) {
  const arena_map map(1000, 10);
  for (const std::uintptr_t address :
       {std::uintptr_t{0}, std::uintptr_t{1}, std::uintptr_t{0xc000000000}, ~std::uintptr_t{0}})
    EXPECT_EQ(map.page_of(byte_at(address)), arena_map::none);
}

TEST(arena_map, addresses_and_pages_lead_to_each_other) {
  persistentalloc metadata;
  sys_counter stat{0};
  constexpr std::size_t first_page = 3 * mapped_arena_pages;
  arena_map map(first_page, 1000);
  // Far apart, side by side in no order, over the border of two tables, and the last address.
  std::vector<std::pair<std::uintptr_t, std::size_t>> added;
  const auto add = [&](std::uintptr_t base, std::size_t arenas) {
    ASSERT_TRUE(map.add(byte_at(base), arenas, metadata, stat));
    added.emplace_back(base, arenas);
  };
  add(std::uintptr_t{5} << 40, 1);
  add((std::uintptr_t{5} << 40) + 2 * arena_bytes, 3);
  add((std::uintptr_t{5} << 40) + arena_bytes, 1);
  add((std::uintptr_t{7} << 37) - 2 * arena_bytes, 5);
  add((std::uintptr_t{1} << 48) - arena_bytes, 1);
  add(arena_bytes, 1);
  std::map<std::uintptr_t, std::size_t> page_at;  // by address of an arena
  std::size_t page = first_page;
  for (const auto& [base, arenas] : added) {
    for (std::size_t i = 0; i < arenas; ++i, page += mapped_arena_pages)
      page_at[base + i * arena_bytes] = page;
  }
  EXPECT_EQ(map.arenas(), 12u);
  EXPECT_EQ(map.end_page(), page);
  const auto model = [&](std::uintptr_t address) {
    const auto found = page_at.find(address / arena_bytes * arena_bytes);
    return found == page_at.end() ? arena_map::none
                                  : found->second + address % arena_bytes / page_size;
  };
  for (const auto& [base, number] : page_at) {
    for (const std::uintptr_t address :
         {base, base + 1, base + 5 * page_size + 77, base + arena_bytes - 1, base - 1,
          base + arena_bytes, base ^ std::uintptr_t{1} << 47, base | std::uintptr_t{1} << 48,
          base | std::uintptr_t{1} << 63, base ^ std::uintptr_t{1} << 37}) {
      EXPECT_EQ(map.page_of(byte_at(address)), model(address)) << std::hex << address;
    }
    EXPECT_EQ(map.address_of(number), byte_at(base));
    EXPECT_EQ(map.address_of(number + 4711), byte_at(base + 4711 * page_size));
  }
  // Any address at all: none is read.
  std::mt19937_64 random(1);
  for (int i = 0; i < 100'000; ++i) {
    const std::uintptr_t address = random() >> random() % 64;
    ASSERT_EQ(map.page_of(byte_at(address)), model(address)) << std::hex << address;
  }
}

TEST(arena_map, what_cannot_be_added_is_refused_and_changes_nothing) {
  persistentalloc metadata;
  sys_counter stat{0};
  arena_map map(0, 4);
  const std::uintptr_t base = std::uintptr_t{9} << 40;
  EXPECT_FALSE(map.add(byte_at(base + page_size), 1, metadata, stat));
  EXPECT_FALSE(map.add(byte_at(base), 0, metadata, stat));
  EXPECT_FALSE(map.add(byte_at(base), 5, metadata, stat));
  EXPECT_FALSE(map.add(byte_at((std::uintptr_t{1} << 48) - arena_bytes), 2, metadata, stat));
  EXPECT_EQ(map.page_of(byte_at(base)), arena_map::none);
  EXPECT_TRUE(map.add(byte_at(base), 3, metadata, stat));
  EXPECT_FALSE(map.add(byte_at(base + 10 * arena_bytes), 2, metadata, stat));
  EXPECT_EQ(map.page_of(byte_at(base + 10 * arena_bytes)), arena_map::none);
  EXPECT_EQ(map.room(), 1u);
  EXPECT_EQ(map.end_page(), 3 * mapped_arena_pages);
}

}  // namespace
