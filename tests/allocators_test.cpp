// The heap behind the standard library's containers.
#include <gtest/gtest.h>
#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory_resource>
#include <numeric>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>
#include <warpheap/allocator.hpp>
#include <warpheap/memory_resource.hpp>

#include "tests/host_only.hpp"

namespace {

using namespace warpheap;
using warpheap::testing::host_only;

std::uintptr_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

struct allocators_test : ::testing::Test {
  heap h{host_only(64_MiB)};
  std::uint64_t live() { return h.stats().host.live_objects; }
};

TEST_F(allocators_test, resource_gives_every_alignment) {
  memory_resource memory(h);
  for (std::size_t alignment = 1; alignment <= 64_KiB; alignment *= 2) {
    for (const std::size_t bytes : {0u, 1u, 3u, 7u, 8u, 12u, 17u, 24u, 33u, 100u, 5000u, 40000u}) {
      void* p = memory.allocate(bytes, alignment);
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(address(p) % alignment, 0u) << bytes << " bytes at " << alignment;
      if (bytes != 0) {
        EXPECT_GE(h.usable_size(p), bytes);
      }
      memory.deallocate(p, bytes, alignment);
    }
  }
  EXPECT_EQ(live(), 0u);
  EXPECT_TRUE(h.errors().empty());
}

TEST_F(allocators_test, resource_throws_what_the_standard_says) {
  memory_resource memory(h);
  EXPECT_THROW((void)memory.allocate(1_GiB, 8), std::bad_alloc);
  volatile std::size_t most = SIZE_MAX;  // compilers warn of sizes that they know
  EXPECT_THROW((void)memory.allocate(most, 1), std::bad_alloc);
  EXPECT_THROW((void)memory.allocate(most - 3, 16), std::bad_alloc);
  EXPECT_THROW((void)memory.allocate(most, 4096), std::bad_alloc);
  // An alignment that is no power of two breaks the standard's contract; it is refused all the
  // same.
  std::pmr::memory_resource& base = memory;
  volatile std::size_t three = 3;
  EXPECT_THROW((void)base.allocate(100, three), std::bad_alloc);
}

TEST_F(allocators_test, resource_reports_wrong_pointers) {
  heap_options quiet = host_only(64_MiB);
  int lines = 0;
  quiet.on_report = [&](const std::string&) { ++lines; };
  heap other(quiet);
  memory_resource memory(other);
  void* p = memory.allocate(40, 8);
  memory.deallocate(p, 40, 8);
  memory.deallocate(p, 40, 8);
  int local = 0;
  memory.deallocate(&local, 4, 4);
  const auto errors = other.errors();
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_EQ(errors[0].kind, error_kind::double_free);
  EXPECT_EQ(errors[1].kind, error_kind::foreign_pointer);
  EXPECT_EQ(lines, 2);
}

TEST_F(allocators_test, resources_of_one_heap_are_equal) {
  heap other(host_only(64_MiB));
  const memory_resource a(h), b(h), c(other);
  EXPECT_TRUE(a == b);
  EXPECT_FALSE(a == c);
  EXPECT_FALSE(a.is_equal(*std::pmr::new_delete_resource()));
  EXPECT_EQ(&a.upstream(), &h);
}

TEST_F(allocators_test, polymorphic_containers) {
  memory_resource memory(h);
  {
    std::pmr::map<std::pmr::string, std::pmr::vector<int>> rows(&memory);
    for (int i = 0; i < 1000; ++i) {
      auto& row = rows[std::pmr::string("a name that needs memory of its own: ", &memory)
                       + std::pmr::string(std::to_string(i), &memory)];
      for (int k = 0; k < i % 50; ++k) row.push_back(i * k);
    }
    EXPECT_EQ(rows.size(), 1000u);
    EXPECT_GT(live(), 2500u);
    std::pmr::monotonic_buffer_resource buffer(&memory);
    std::pmr::list<int> list(&buffer);
    for (int i = 0; i < 10000; ++i) list.push_back(i);
    EXPECT_EQ(std::accumulate(list.begin(), list.end(), 0), 49995000);
  }
  EXPECT_EQ(live(), 0u);
}

TEST_F(allocators_test, allocator_in_containers) {
  {
    std::vector<int, allocator<int>> v{allocator<int>(h)};
    v.resize(100000, 7);
    EXPECT_EQ(live(), 1u);
    using pair = std::pair<const int, double>;
    std::unordered_map<int, double, std::hash<int>, std::equal_to<>, allocator<pair>> m(
        0, std::hash<int>(), std::equal_to<>(), allocator<pair>(h));
    for (int i = 0; i < 1000; ++i) m[i] = i;
    EXPECT_GT(live(), 1000u);
    const std::uint64_t with_map = live();
    const auto shared = std::allocate_shared<std::array<char, 50>>(allocator<char>(h));
    EXPECT_EQ(live(), with_map + 1);
  }
  EXPECT_EQ(live(), 0u);
}

TEST_F(allocators_test, allocator_follows_the_contents) {
  heap other(host_only(64_MiB));
  std::vector<int, allocator<int>> a(10, 1, allocator<int>(h)), b(20, 2, allocator<int>(other));
  swap(a, b);
  EXPECT_TRUE(a.get_allocator() == allocator<long>(other));
  a = std::move(b);
  EXPECT_TRUE(a.get_allocator() == allocator<int>(h));
  EXPECT_FALSE(a.get_allocator() == allocator<int>(other));
  EXPECT_EQ(a.size(), 10u);
  std::vector<int, allocator<int>> c(5, 3, allocator<int>(other));
  c = a;
  EXPECT_TRUE(c.get_allocator() == a.get_allocator());
}

TEST_F(allocators_test, allocator_throws_on_sizes_that_cannot_be) {
  allocator<std::array<char, 48>> a(h);
  EXPECT_THROW((void)a.allocate(SIZE_MAX / 48 + 1), std::bad_array_new_length);
  EXPECT_THROW((void)a.allocate(SIZE_MAX / 48), std::bad_alloc);
  auto* none = a.allocate(0);
  EXPECT_NE(none, nullptr);
  a.deallocate(none, 0);
  EXPECT_EQ(live(), 0u);
}

TEST_F(allocators_test, over_aligned_types) {
  struct alignas(256) wide {
    char bytes[256];
  };
  std::vector<wide, allocator<wide>> v(37, wide{}, allocator<wide>(h));
  EXPECT_EQ(address(v.data()) % 256, 0u);
}

TEST_F(allocators_test, threads_share_a_resource) {
  memory_resource memory(h);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&memory, t] {
      for (int round = 0; round < 50; ++round) {
        std::pmr::vector<std::pmr::string> words(&memory);
        for (int i = 0; i < 100; ++i) words.emplace_back(std::size_t(20 + i), char('a' + t));
        for (const auto& word : words) ASSERT_EQ(word.back(), char('a' + t));
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(live(), 0u);
}

}  // namespace
