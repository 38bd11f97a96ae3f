// Mark and sweep on request: what lives on, what is reported as leaked, what as dangling.
#include <gtest/gtest.h>
#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include <warpheap/error.hpp>
#include <warpheap/heap.hpp>

#include "host/sys_pool.hpp"
#include "tests/held_thread.hpp"
#include "tests/host_heap_fixture.hpp"
#include "tests/test_scale.hpp"

namespace {

using namespace warpheap;
using warpheap::test::expect_recount;

struct mark_sweep_test : test::host_heap_fixture {
  /// Objects of all kinds, one class and contents each, twice.
  std::vector<void*> one_of_each() {
    std::vector<void*> all;
    for (int i = 0; i < 2; ++i) {
      for (unsigned c = 1; c < num_classes; ++c) {
        all.push_back(heap.malloc(class_to_size(c), contents::pointers));
        all.push_back(heap.malloc(class_to_size(c)));
      }
      for (unsigned n = 1; n < tiny_size; ++n) all.push_back(heap.malloc(n));
      all.push_back(heap.malloc(40000));
      all.push_back(heap.malloc(40000, contents::pointers));
    }
    return all;
  }
};

TEST_F(mark_sweep_test, marked_objects_live_on_and_the_others_are_leaks) {
  const auto all = one_of_each();
  std::set<void*> kept, lost;
  std::uint64_t kept_bytes = 0, lost_bytes = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t bytes = heap.usable_size(all[i]);
    std::memset(all[i], static_cast<int>(i), bytes);
    if (i % 2 == 0) {
      EXPECT_EQ(heap.mark(all[i]), mark_status::marked);
      EXPECT_EQ(heap.mark(all[i]), mark_status::again);
      kept.insert(all[i]);
      kept_bytes += bytes;
    } else {
      lost.insert(all[i]);
      lost_bytes += bytes;
    }
  }
  const sweep_report report = heap.sweep();
  EXPECT_TRUE(report.complete);
  EXPECT_EQ(report.kept.objects, kept.size());
  EXPECT_EQ(report.kept.bytes, kept_bytes);
  EXPECT_EQ(report.leaked.objects, lost.size());
  EXPECT_EQ(report.leaked.bytes, lost_bytes);
  EXPECT_EQ(report.dangling, 0u);
  std::set<void*> listed;
  std::array<sweep_report::sum, num_classes + 1> by_class{};
  for (const sweep_report::object& o : report.leaks) {
    EXPECT_TRUE(listed.insert(o.address).second);
    ++by_class[o.size_class].objects;
    by_class[o.size_class].bytes += o.bytes;
  }
  EXPECT_EQ(listed, lost);
  for (unsigned c = 0; c <= num_classes; ++c) {
    EXPECT_EQ(by_class[c].objects, report.leaked_by_class[c].objects) << c;
    EXPECT_EQ(by_class[c].bytes, report.leaked_by_class[c].bytes) << c;
  }
  expect_recount(heap);
  EXPECT_EQ(heap.stats().live_objects, kept.size());
  EXPECT_EQ(heap.stats().unswept_spans, 0u);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i % 2 == 0) {
      EXPECT_EQ(static_cast<unsigned char*>(all[i])[0], static_cast<unsigned char>(i));
      EXPECT_EQ(heap.free(all[i]), free_status::ok);
    }
    EXPECT_EQ(heap.free(all[i]), free_status::double_free);
  }
  EXPECT_EQ(heap.stats().live_objects, 0u);
}

TEST_F(mark_sweep_test, nothing_marked_is_a_reset_that_tells) {
  const auto all = one_of_each();
  const sweep_report report = heap.sweep(10);
  EXPECT_EQ(report.leaked.objects, all.size());
  EXPECT_EQ(report.leaks.size(), 10u);
  EXPECT_EQ(report.kept.objects, 0u);
  EXPECT_EQ(heap.stats().live_objects, 0u);
  EXPECT_EQ(heap.stats().pages_in_use, 0u);
  EXPECT_EQ(heap.sweep().leaked.objects, 0u);
}

TEST_F(mark_sweep_test, marks_hold_for_one_sweep) {
  void* p = heap.malloc(100);
  void* q = heap.malloc(100);
  EXPECT_EQ(heap.mark(p), mark_status::marked);
  EXPECT_EQ(heap.sweep().kept.objects, 1u);
  EXPECT_EQ(heap.usable_size(q), 0u);
  EXPECT_NE(heap.usable_size(p), 0u);
  EXPECT_EQ(heap.sweep().leaked.objects, 1u);
  EXPECT_EQ(heap.usable_size(p), 0u);
}

TEST_F(mark_sweep_test, reset_takes_marks_off) {
  void* p = heap.malloc(100);
  EXPECT_EQ(heap.mark(p), mark_status::marked);
  EXPECT_EQ(heap.mark(static_cast<char*>(p) + 1), mark_status::dangling);
  heap.reset();
  EXPECT_EQ(heap.mark(p), mark_status::dangling);
  void* q = heap.malloc(100);
  sweep_report report = heap.sweep();
  EXPECT_EQ(report.kept.objects, 1u);  // as it is new
  EXPECT_EQ(report.leaked.objects, 0u);
  EXPECT_EQ(report.dangling, 1u);
  EXPECT_EQ(report.dangling_pointers, std::vector<void*>{p});
  report = heap.sweep();
  EXPECT_EQ(report.kept.objects, 0u);
  EXPECT_EQ(report.leaked.objects, 1u);
  EXPECT_EQ(heap.usable_size(q), 0u);
}

TEST_F(mark_sweep_test, marks_of_a_span_that_went_do_not_pass_to_its_record) {
  // Objects that are marked and freed, until their spans' records are used for other classes.
  for (int round = 0; round < 3; ++round) {
    std::vector<void*> all;
    for (int i = 0; i < 4000; ++i) all.push_back(heap.malloc(16 + static_cast<unsigned>(i) % 500));
    for (void* p : all) EXPECT_EQ(heap.mark(p), mark_status::marked);
    for (void* p : all) EXPECT_EQ(heap.free(p), free_status::ok);
    heap.trim();
  }
  std::vector<void*> made;
  for (int i = 0; i < 4000; ++i) made.push_back(heap.malloc(600 + static_cast<unsigned>(i) % 500));
  for (std::size_t i = 0; i < made.size(); i += 2)
    EXPECT_EQ(heap.mark(made[i]), mark_status::marked);
  EXPECT_EQ(heap.sweep().kept.objects, 4000u);  // new ones
  EXPECT_EQ(heap.sweep().leaked.objects, 4000u);
}

TEST_F(mark_sweep_test, wrong_pointers_are_told_and_change_nothing) {
  char local = 0;
  auto* p = static_cast<char*>(heap.malloc(100));
  auto* tiny = static_cast<char*>(heap.malloc(4));
  auto* large = static_cast<char*>(heap.malloc(50000));
  auto* freed = static_cast<char*>(heap.malloc(100));
  EXPECT_EQ(heap.free(freed), free_status::ok);
  const page_run lent = heap.take_device_pages(1, 1);
  EXPECT_EQ(heap.mark(nullptr), mark_status::again);
  EXPECT_EQ(heap.mark(heap.malloc(0)), mark_status::again);
  EXPECT_EQ(heap.mark(&local), mark_status::foreign);
  EXPECT_EQ(heap.mark(region.base() + region.bytes()), mark_status::foreign);
  EXPECT_EQ(heap.mark(region.base() + lent.first * page_size), mark_status::device);
  std::vector<void*> wrong = {p + 1, tiny + 1, large + page_size, freed};
  for (void* w : wrong) EXPECT_EQ(heap.mark(w), mark_status::dangling);
  const sweep_report report = heap.sweep();
  EXPECT_EQ(report.leaked.objects, 3u);
  EXPECT_EQ(report.dangling, 4u);
  EXPECT_EQ(report.dangling_pointers, wrong);
  heap.give_back_device_pages(lent);
}

TEST_F(mark_sweep_test, object_freed_after_its_mark_is_dangling) {
  std::vector<void*> all;
  for (int i = 0; i < 100; ++i) all.push_back(heap.malloc(64));
  for (int i = 0; i < 100; ++i) all.push_back(heap.malloc(4));
  for (void* p : all) EXPECT_EQ(heap.mark(p), mark_status::marked);
  EXPECT_EQ(heap.free(all[3]), free_status::ok);
  std::thread([&] {
    EXPECT_EQ(heap.free(all[7]), free_status::ok);
    EXPECT_EQ(heap.free(all[110]), free_status::ok);
  }).join();
  const sweep_report report = heap.sweep();
  EXPECT_EQ(report.kept.objects, 197u);
  EXPECT_EQ(report.leaked.objects, 0u);
  const std::set<void*> told(report.dangling_pointers.begin(), report.dangling_pointers.end());
  EXPECT_EQ(told, (std::set<void*>{all[3], all[7], all[110]}));
  for (const int i : {3, 7, 110})
    EXPECT_EQ(heap.free(all[static_cast<std::size_t>(i)]), free_status::double_free);
}

struct node {
  node* left;
  node* right;
};

TEST_F(mark_sweep_test, what_can_be_reached_is_marked) {
  std::mt19937 random(5);
  const auto fresh = [&](std::size_t n, contents kind) {
    auto* p = static_cast<node*>(heap.calloc(1, n, kind));
    return p;
  };
  // A graph with cycles, over objects of all sizes; some pointers into objects; names as leaves.
  std::vector<node*> nodes;
  std::vector<char*> leaves;
  for (int i = 0; i < 3000; ++i) {
    nodes.push_back(
        fresh(sizeof(node) + random() % (i % 100 == 0 ? 100000 : 500), contents::pointers));
  }
  for (int i = 0; i < 1000; ++i) {
    leaves.push_back(static_cast<char*>(heap.malloc(1 + random() % 100)));
  }
  std::map<void*, std::vector<void*>> edges;
  for (node* n : nodes) {
    if (random() % 10 < 3) {
      node* to = nodes[random() % nodes.size()];
      n->left = random() % 2 == 0 ? to : reinterpret_cast<node*>(&to->right);
      edges[n].push_back(to);
    }
    if (random() % 3 == 0) {
      char* leaf = leaves[random() % leaves.size()];
      n->right = reinterpret_cast<node*>(leaf);
      edges[n].push_back(leaf);
    }
  }
  // What an object without pointers holds leads nowhere.
  auto* opaque = static_cast<node**>(heap.malloc(sizeof(node*) * 2));
  opaque[0] = nodes[17];
  opaque[1] = nullptr;
  std::set<void*> reached;
  std::vector<void*> todo;
  for (int root = 0; root < 300; ++root) {
    EXPECT_NE(heap.mark_reachable(nodes[static_cast<std::size_t>(root) * 7]),
              mark_status::dangling);
    todo.push_back(nodes[static_cast<std::size_t>(root) * 7]);
  }
  EXPECT_EQ(heap.mark_reachable(opaque), mark_status::marked);
  todo.push_back(opaque);
  while (!todo.empty()) {
    void* p = todo.back();
    todo.pop_back();
    if (!reached.insert(p).second) continue;
    for (void* to : edges[p]) todo.push_back(to);
  }
  EXPECT_GT(reached.size(), 350u);
  const std::size_t all = nodes.size() + leaves.size() + 1;
  const sweep_report report = heap.sweep(all);
  EXPECT_EQ(report.kept.objects, reached.size());
  EXPECT_EQ(report.leaked.objects, all - reached.size());
  for (const auto& leak : report.leaks) EXPECT_EQ(reached.count(leak.address), 0u);
  for (void* p : reached) EXPECT_NE(heap.usable_size(p), 0u);
}

TEST_F(mark_sweep_test, long_list_needs_no_stack) {
  node* first = nullptr;
  const int length = warpheap::testing::scaled(200000);
  for (int i = 0; i < length; ++i) {
    auto* n = static_cast<node*>(heap.malloc(sizeof(node), contents::pointers));
    *n = {first, nullptr};
    first = n;
  }
  EXPECT_EQ(heap.mark_reachable(first), mark_status::marked);
  EXPECT_EQ(heap.sweep().kept.objects, static_cast<std::uint64_t>(length));
}

TEST_F(mark_sweep_test, three_outcomes_for_three_kinds_of_span) {
  // Spans of one class: one that stays full, one with some, one with none.
  const unsigned slots = host_span_objects(6);
  std::vector<void*> all;
  for (unsigned i = 0; i < 3 * slots; ++i) all.push_back(heap.malloc(64));
  for (unsigned i = 0; i < slots; ++i) EXPECT_EQ(heap.mark(all[i]), mark_status::marked);
  for (unsigned i = slots; i < slots + 5; ++i) EXPECT_EQ(heap.mark(all[i]), mark_status::marked);
  const sweep_counts before = heap.swept();
  EXPECT_EQ(heap.sweep().kept.objects, slots + 5);
  EXPECT_EQ(heap.swept().freed - before.freed, 1u);
  EXPECT_EQ(heap.swept().kept - before.kept, 2u);
  EXPECT_EQ(heap.stats().spans, 2u);
  // The partial one is what the next allocation takes from.
  std::set<void*> had(all.begin(), all.end());
  for (unsigned i = 0; i < slots - 5; ++i) EXPECT_EQ(had.count(heap.malloc(64)), 1u);
  EXPECT_EQ(heap.stats().spans, 2u);
  for (unsigned i = 0; i < slots; ++i) EXPECT_EQ(heap.free(all[i]), free_status::ok);
}

TEST_F(mark_sweep_test, sweep_after_a_reset_that_is_not_swept_yet) {
  for (int i = 0; i < 5000; ++i) (void)heap.malloc(200);
  heap.reset();
  std::vector<void*> all;
  for (int i = 0; i < 300; ++i) all.push_back(heap.malloc(200));
  EXPECT_GT(heap.stats().unswept_spans, 0u);
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(heap.mark(all[static_cast<std::size_t>(i)]), mark_status::marked);
  const sweep_report report = heap.sweep();
  EXPECT_EQ(report.kept.objects, 100u);
  EXPECT_EQ(report.leaked.objects, 200u) << "not those of before the reset";
}

TEST_F(mark_sweep_test, threads_mark_at_the_same_time) {
  std::vector<void*> all;
  for (int i = 0; i < 20000; ++i) all.push_back(heap.malloc(1 + static_cast<unsigned>(i) % 300));
  std::atomic<std::uint64_t> marked{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      // Each object by two threads.
      for (std::size_t i = 0; i < all.size(); ++i) {
        if ((i + t) % 2 == 0) marked += heap.mark(all[i]) == mark_status::marked;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(marked, all.size());
  EXPECT_EQ(heap.sweep().kept.objects, all.size());
}

TEST_F(mark_sweep_test, does_what_a_set_of_objects_does) {
  std::mt19937 random(11);
  std::map<void*, std::size_t> live;
  for (int round = 0; round < warpheap::testing::scaled(40); ++round) {
    for (int i = 0; i < 1500; ++i) {
      const std::size_t kinds[] = {1 + random() % 15, 16 + random() % 300, 1 + random() % 40000};
      const std::size_t n = kinds[random() % 8 < 4 ? 0 : random() % 8 < 7 ? 1 : 2];
      void* p = heap.malloc(n, random() % 2 == 0 ? contents::pointers : contents::no_pointers);
      ASSERT_NE(p, nullptr);
      ASSERT_TRUE(live.emplace(p, n).second);
      if (random() % 3 == 0) {
        const auto at = std::next(live.begin(), static_cast<long>(random() % live.size() % 40));
        ASSERT_EQ(heap.free(at->first), free_status::ok);
        live.erase(at);
      }
    }
    std::map<void*, std::size_t> kept;
    const unsigned part = random() % 10;
    for (const auto& o : live) {
      if (random() % 10 >= part) continue;
      ASSERT_EQ(heap.mark(o.first), mark_status::marked);
      kept.insert(o);
    }
    const sweep_report report = heap.sweep(live.size());
    ASSERT_EQ(report.kept.objects, kept.size());
    ASSERT_EQ(report.leaks.size(), live.size() - kept.size());
    for (const auto& leak : report.leaks) {
      ASSERT_EQ(live.count(leak.address), 1u);
      ASSERT_EQ(kept.count(leak.address), 0u);
      ASSERT_GE(leak.bytes, live[leak.address]);
    }
    live = std::move(kept);
    expect_recount(heap);
    ASSERT_EQ(heap.stats().live_objects, live.size());
  }
}

TEST(mark_sweep, public_heap_keeps_what_is_marked_and_works_on) {
  heap_options o;
  o.reserve_bytes = std::size_t{64} << 20;
  o.backend = backend_kind::simt;
  warpheap::heap h(o);
  void* kept = h.malloc(100);
  void* lost = h.malloc(200);
  EXPECT_EQ(h.mark(kept), mark_status::marked);
  EXPECT_EQ(h.mark(&h), mark_status::foreign);
  const sweep_report report = h.sweep();
  ASSERT_EQ(report.leaks.size(), 1u);
  EXPECT_EQ(report.leaks[0].address, lost);
  EXPECT_EQ(report.kept.objects, 1u);
  EXPECT_EQ(h.stats().host.live_objects, 1u);
  h.free(lost);
  EXPECT_EQ(h.errors().size(), 1u);
  // Fast paths are those of the new cycle.
  for (int i = 0; i < 1000; ++i) h.free(h.malloc(100));
  h.free(kept);
  EXPECT_EQ(h.errors().size(), 0u);
  EXPECT_EQ(h.stats().host.live_objects, 0u);
}

TEST(mark_sweep, public_heap_refuses_it_where_objects_are_surrounded) {
  warpheap::heap h(
      {.reserve_bytes = std::size_t{64} << 20, .backend = backend_kind::simt, .red_zones = true});
  void* p = h.malloc(100);
  EXPECT_THROW((void)h.mark(p), heap_error);
  EXPECT_THROW((void)h.sweep(), heap_error);
  EXPECT_NE(h.usable_size(p), 0u);
  h.free(p);
}

TEST_F(mark_sweep_test, a_mark_comes_while_all_of_its_span_is_freed_and_cut_anew) {
  std::vector<void*> all;
  for (int i = 0; i < 200; ++i) all.push_back(heap.malloc(1024));
  // In the last span that is emptied, and so the first to be used again.
  void* const marked = all[170];
  ASSERT_EQ(heap.mark(marked), mark_status::marked);
  const mspan* const s =
      heap.pages()
          .owner(static_cast<std::size_t>(static_cast<std::byte*>(marked) - heap.base())
                 / page_size)
          .span();
  test::held_thread held;
  ASSERT_TRUE(held.watch(s->marks()));
  std::thread other([&] { (void)heap.mark(all[171]); });
  held.wait_until_held();
  for (void* p : all) EXPECT_EQ(heap.free(p), free_status::ok);
  std::size_t objects = 0;
  const unsigned before = s->span_class();
  for (std::size_t n = 16; n <= 8192 && s->span_class() == before; n += 16) {
    if (size_to_class(n) == size_to_class(1024)) continue;
    for (std::size_t i = 0; i < 65536 / n + 1; ++i) objects += heap.malloc(n) != nullptr;
  }
  EXPECT_NE(s->span_class(), before);
  // Whoever has the next records of the pool: the mark is in none of them.
  std::vector<std::pair<unsigned char*, std::size_t>> records;
  for (std::size_t bytes = 16; bytes <= 128; bytes *= 2) {
    for (int i = 0; i < 64; ++i) {
      records.emplace_back(static_cast<unsigned char*>(sys_pool::alloc(bytes)), bytes);
      std::memset(records.back().first, 0, bytes);
    }
  }
  held.let_go();
  other.join();
  for (const auto& [record, bytes] : records) {
    EXPECT_EQ(std::count(record, record + bytes, 0), static_cast<std::ptrdiff_t>(bytes));
    sys_pool::free(record, bytes);
  }
  EXPECT_EQ(heap.sweep().kept.objects, objects);  // new ones
  EXPECT_EQ(heap.sweep().leaked.objects, objects);
}

TEST_F(mark_sweep_test, marks_of_pointers_that_another_thread_frees_are_on_its_objects_or_none) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "what a span was cut into is not atomic: a stale pointer looks at it twice";
#endif
  std::atomic<std::byte*> some{nullptr};
  std::atomic<bool> stop{false};
  std::thread other([&] {
    std::vector<void*> mine;
    for (unsigned round = 0; !stop; ++round) {
      const std::size_t size = round % 2 != 0 ? 8 : 1024;
      for (std::size_t i = 0; i < 40 * 8192 / size; ++i) mine.push_back(heap.malloc(size));
      some = static_cast<std::byte*>(mine[0]);
      for (void* p : mine) EXPECT_EQ(heap.free(p), free_status::ok);
      mine.clear();
    }
  });
  while (some == nullptr) std::this_thread::yield();
  std::mt19937 rng(1);
  const int rounds = warpheap::testing::scaled(300'000);
  for (int i = 0; i < rounds; ++i) {
    const std::ptrdiff_t near = static_cast<std::ptrdiff_t>(rng() % (64 * 8192) / 8 * 8);
    std::byte* const p = some.load() + near - 32 * 8192;
    if (i % 16 == 0) {
      (void)heap.mark_reachable(p);
    } else {
      (void)heap.mark(p);
    }
  }
  stop = true;
  other.join();
  EXPECT_EQ(heap.stats().live_objects, 0u);
  const sweep_report report = heap.sweep();
  EXPECT_EQ(report.kept.objects, 0u);
  EXPECT_EQ(report.leaked.objects, 0u);
}

}  // namespace
