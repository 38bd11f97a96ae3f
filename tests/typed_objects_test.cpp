// Objects with a type on the host's side: how they are made, and what they are known to hold.
#include <gtest/gtest.h>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <warpheap/heap.hpp>

namespace {

struct vec3 {
  float x, y, z;
};
struct list_node {
  int value;
  list_node* next;
};

}  // namespace

template <>
inline constexpr warpheap::contents warpheap::contents_of<vec3> = warpheap::contents::no_pointers;

namespace {

using namespace warpheap;

static_assert(contents_of<int> == contents::no_pointers);
static_assert(contents_of<double[3][4]> == contents::no_pointers);
static_assert(contents_of<backend_kind> == contents::no_pointers);
static_assert(contents_of<list_node> == contents::pointers);
static_assert(contents_of<int*> == contents::pointers);

struct typed_objects : ::testing::Test {
  heap h{{.reserve_bytes = 64_MiB,
          .backend = backend_kind::simt,
          .refill_service = false,
          .report_leaks = false}};
};

TEST_F(typed_objects, are_made_and_destroyed) {
  int* const number = h.make<int>(7);
  EXPECT_EQ(*number, 7);
  std::string* const text = h.make<std::string>(100, 'x');
  EXPECT_EQ(*text, std::string(100, 'x'));
  list_node* const n = h.make<list_node>(3, nullptr);
  EXPECT_EQ(n->value, 3);
  h.destroy(number);
  h.destroy(text);
  h.destroy(n);
  h.destroy<list_node>(nullptr);
  EXPECT_EQ(h.memory().live_objects, 0u);
  EXPECT_TRUE(h.errors().empty());
}

TEST_F(typed_objects, without_arguments_are_zeroed_in_used_memory_too) {
  struct big {
    std::uint64_t words[50];
  };
  for (int i = 0; i < 200; ++i) {
    big* const b = h.make<big>();
    for (std::uint64_t& w : b->words) {
      ASSERT_EQ(w, 0u);
      w = ~std::uint64_t{0};
    }
    if (i % 3 != 0) h.destroy(b);
  }
}

TEST_F(typed_objects, have_their_alignment) {
  struct alignas(16) sixteen {
    char c[48];
  };
  struct alignas(64) line {
    char c[64];
  };
  struct alignas(16384) page {
    char c[16384];
  };
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(h.make<sixteen>()) % 16, 0u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(h.make<line>()) % 64, 0u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(h.make<page>()) % 16384, 0u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(h.make<double>()) % alignof(double), 0u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(h.make<short>()) % alignof(short), 0u);
  }
}

TEST_F(typed_objects, whose_constructor_throws_are_freed) {
  struct thrower {
    thrower() { throw std::runtime_error("no"); }
    char c[100];
  };
  EXPECT_THROW(h.make<thrower>(), std::runtime_error);
  EXPECT_EQ(h.memory().live_objects, 0u);
  EXPECT_EQ(h.memory().mallocs, 1u);
}

TEST_F(typed_objects, without_memory_are_null) {
  struct huge {
    char c[65 << 20];
  };
  EXPECT_EQ(h.make<huge>(), nullptr);
  EXPECT_EQ(h.memory().out_of_memory, 1u);
}

// A class without pointers has spans of its own: what its words look like keeps nothing alive.
TEST_F(typed_objects, are_followed_where_they_may_hold_pointers) {
  list_node* list = nullptr;
  for (int i = 0; i < 1000; ++i) list = h.make<list_node>(i, list);
  list_node* const lost = h.make<list_node>(0, nullptr);
  vec3* const numbers = h.make<vec3>();
  auto* const words = static_cast<list_node**>(h.malloc(sizeof(list_node*) * 4));
  words[0] = lost;
  auto* const root = static_cast<void**>(h.malloc(4 * sizeof(void*), contents::pointers));
  root[0] = list;
  root[1] = reinterpret_cast<char*>(words) + 5;  // into the middle
  root[2] = numbers;
  root[3] = nullptr;
  EXPECT_EQ(h.mark_reachable(root), mark_status::marked);
  EXPECT_EQ(h.mark_reachable(nullptr), mark_status::again);
  const sweep_report found = h.sweep();
  EXPECT_EQ(found.kept.objects, 1003u);
  EXPECT_EQ(found.leaked.objects, 1u);
  ASSERT_EQ(found.leaks.size(), 1u);
  EXPECT_EQ(found.leaks[0].address, lost);
}

TEST_F(typed_objects, keep_their_kind_when_they_grow) {
  for (const contents kind : {contents::pointers, contents::no_pointers}) {
    for (const std::size_t bytes : {std::size_t{40}, std::size_t{5000}, std::size_t{100'000}}) {
      auto* p = static_cast<void**>(h.malloc(16, kind));
      p[0] = h.malloc(64);
      p[1] = nullptr;
      p = static_cast<void**>(h.realloc(p, bytes));
      for (std::size_t i = 1; i < bytes / sizeof *p; ++i) p[i] = nullptr;
      EXPECT_EQ(h.mark_reachable(p), mark_status::marked);
      EXPECT_EQ(h.sweep().kept.objects, kind == contents::pointers ? 2u : 1u) << bytes;
      h.reset();
    }
  }
}

TEST(typed_objects_in_debug_modes, are_made_and_grow_with_their_kind) {
  heap h({.reserve_bytes = 64_MiB,
          .backend = backend_kind::simt,
          .refill_service = false,
          .report_leaks = false,
          .red_zones = true});
  list_node* n = h.make<list_node>(1, nullptr);
  n = static_cast<list_node*>(h.realloc(n, 1000));
  EXPECT_EQ(n->value, 1);
  h.destroy(n);
  EXPECT_THROW(h.mark_reachable(n), heap_error);
  EXPECT_TRUE(h.errors().empty());
}

}  // namespace
