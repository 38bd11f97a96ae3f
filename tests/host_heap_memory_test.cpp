#include "host/host_heap.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <barrier>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/host_heap_fixture.hpp"

namespace {

using namespace warpheap;
using warpheap::test::expect_recount;

struct host_heap_memory_test : warpheap::test::host_heap_fixture {};

/// Three spans of a class, with one object of each freed, so that they are this thread's; the other
/// objects are added to `rest`.
void fill_three_spans(host_heap& heap, unsigned size_class, std::vector<void*>& rest) {
  const unsigned slots = host_span_objects(size_class);
  std::vector<void*> all(3 * slots);
  for (void*& p : all) p = heap.malloc(class_to_size(size_class));
  for (unsigned i = 0; i < all.size(); ++i) {
    if (i % slots == 0)
      EXPECT_EQ(heap.free(all[i]), free_status::ok);
    else
      rest.push_back(all[i]);
  }
}

TEST_F(host_heap_memory_test, out_of_memory_then_all_of_it_again) {
  for (const std::size_t n : {std::size_t{16}, std::size_t{1024}, std::size_t{10880},
                              std::size_t{32768}, std::size_t{100000}, std::size_t{5}}) {
    std::vector<std::size_t> counts;
    test::host_region small(std::size_t{5} << 20);  // the last chunk is not whole
    host_heap heap_of_5(small.base(), small.bytes(), small.source());
    for (int again = 0; again < 3; ++again) {
      std::vector<void*> all;
      while (void* p = heap_of_5.malloc(n)) all.push_back(p);
      counts.push_back(all.size());
      EXPECT_GE(heap_of_5.stats().out_of_memory, 1u);
      if (again > 0) std::reverse(all.begin(), all.end());
      unsigned wrong = 0;
      for (void* p : all) wrong += heap_of_5.free(p) != free_status::ok;
      EXPECT_EQ(wrong, 0u);
      expect_recount(heap_of_5);
    }
    // A gap at the border of two arenas may go when these have all been free.
    for (std::size_t count : counts) EXPECT_GE(count, counts[0]) << n;
    EXPECT_EQ(counts[1], counts[2]) << n;
    if (n == 16) {
      EXPECT_EQ(counts[0], ((std::size_t{5} << 20) - page_size) / 16);
    }
  }
}

TEST_F(host_heap_memory_test, classes_give_their_pages_to_each_other) {
  test::host_region small(std::size_t{8} << 20);
  host_heap h(small.base(), small.bytes(), small.source());
  for (int round = 0; round < 2; ++round) {
    for (std::size_t n : {64u, 24576u, 15u, 48u, 4000000u, 27000u, 512u}) {
      std::vector<void*> all;
      std::size_t bytes = 0;
      while (void* p = h.malloc(n)) {
        all.push_back(p);
        bytes += n;
      }
      EXPECT_GE(static_cast<double>(bytes), 0.85 * (std::size_t{8} << 20) * (n == 4000000 ? .5 : 1))
          << n;
      unsigned wrong = 0;
      for (void* p : all) wrong += h.free(p) != free_status::ok;
      EXPECT_EQ(wrong, 0u);
    }
  }
}

// Every second page is free, and no run of two.
TEST_F(host_heap_memory_test, a_heap_in_pieces_has_room_for_what_fits_a_page) {
  for (unsigned c = 2; c < num_classes; ++c) {
    if (class_to_pages(c) != 1) continue;
    const std::size_t n = class_to_size(c);
    test::host_region small(std::size_t{8} << 20);
    host_heap h(small.base(), small.bytes(), small.source());
    std::vector<void*> all;
    // Spans of one page, so that every second page is one that is free.
    static_assert(host_span_pages(size_to_class(16)) == 1);
    while (void* p = h.malloc(16)) all.push_back(p);
    std::size_t freed = 0;
    for (void* p : all) {
      if (static_cast<std::size_t>(static_cast<std::byte*>(p) - h.base()) / page_size % 2 == 0)
        continue;
      ASSERT_EQ(h.free(p), free_status::ok);
      freed += 16;
    }
    std::vector<void*> got;
    while (void* p = h.malloc(n)) got.push_back(p);
    EXPECT_GE(static_cast<double>(got.size() * n), 0.86 * static_cast<double>(freed)) << n;
    expect_recount(h);
    unsigned wrong = 0;
    for (void* p : got) wrong += h.free(p) != free_status::ok;
    for (void* p : got) wrong += h.free(p) != free_status::double_free;
    EXPECT_EQ(wrong, 0u) << n;
    expect_recount(h);
  }
}

TEST_F(host_heap_memory_test, lends_pages_to_the_device) {
  void* p = heap.malloc(100);
  const page_run a = heap.take_device_pages(1, 500);
  EXPECT_EQ(a.count, 500u);
  for (std::uint32_t i = a.first; i < a.first + a.count; ++i) EXPECT_TRUE(heap.is_device_page(i));
  EXPECT_FALSE(heap.is_device_page(0));
  EXPECT_FALSE(heap.is_device_page(a.first + a.count));
  EXPECT_FALSE(heap.is_device_page(~0u));
  EXPECT_EQ(heap.free(region.base() + std::size_t{a.first} * page_size), free_status::device_page);
  EXPECT_EQ(heap.usable_size(region.base() + std::size_t{a.first} * page_size), 0u);
  EXPECT_EQ(heap.stats().device_pages, 500u);
  // As much as there is, when not all that is wanted.
  const std::uint32_t all = static_cast<std::uint32_t>(region.bytes() / page_size);
  const page_run b = heap.take_device_pages(1000, all);
  EXPECT_GE(b.count, all / 2);
  EXPECT_LT(b.count, all);
  EXPECT_EQ(heap.take_device_pages(all, all).count, 0u);
  heap.give_back_device_pages({b.first, b.count / 2});
  heap.give_back_device_pages({b.first + b.count / 2, b.count - b.count / 2});
  heap.give_back_device_pages(a);
  heap.give_back_device_pages({});
  EXPECT_EQ(heap.stats().device_pages, 0u);
  EXPECT_EQ(heap.free(region.base() + std::size_t{a.first} * page_size),
            free_status::not_allocated);
  heap.free(p);
  heap.trim();
  EXPECT_EQ(heap.take_device_pages(all - 1, all - 1).count, all - 1);  // page 0 is the heap's
  heap.give_back_device_pages({1, all - 1});
}

TEST_F(host_heap_memory_test, device_takes_pages_of_spans_without_objects) {
  test::host_region small(std::size_t{8} << 20);
  host_heap h(small.base(), small.bytes(), small.source());
  std::vector<void*> all;
  while (void* p = h.malloc(8192)) all.push_back(p);
  for (void* p : all) h.free(p);
  EXPECT_GE(h.take_device_pages(1000, 1000).count, 1000u);
}

TEST_F(host_heap_memory_test, giving_back_what_was_not_lent_aborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(heap.give_back_device_pages({5, 2}), "not lent to the device");
}

TEST_F(host_heap_memory_test, reset_frees_everything_but_lent_pages) {
  for (int round = 0; round < 3; ++round) {
    std::vector<void*> all;
    for (int i = 0; i < 3000; ++i) all.push_back(heap.malloc(static_cast<std::size_t>(i)));
    all.push_back(heap.malloc(1000000));
    const page_run lent = heap.take_device_pages(10, 10);
    expect_recount(heap);
    heap.reset();
    const host_heap_stats st = heap.stats();
    test::expect_nothing_lives(st);
    EXPECT_EQ(st.device_pages, 10u);
    EXPECT_EQ(heap.free(all.back()), free_status::double_free);
    heap.give_back_device_pages(lent);
  }
  EXPECT_NE(heap.malloc(10), nullptr);
}

TEST_F(host_heap_memory_test, trim_gives_memory_back_and_calloc_sees_zero) {
  std::vector<void*> all;
  for (int i = 0; i < 100; ++i) {
    all.push_back(heap.malloc(100000));
    std::memset(all.back(), 0xff, 100000);
  }
  for (void* p : all) heap.free(p);
  EXPECT_GE(heap.trim(), 100 * 100000u);
  EXPECT_GE(region.decommitted, 100 * 100000u);
  EXPECT_EQ(heap.stats().released_bytes, heap.stats().free_pages * page_size);
  EXPECT_EQ(heap.trim(), 0u);
  auto* p = static_cast<unsigned char*>(heap.calloc(1, 5000000));
  for (std::size_t i = 0; i < 5000000; i += 4096) ASSERT_EQ(p[i], 0);
  heap.free(p);
}

TEST_F(host_heap_memory_test, refused_memory_is_out_of_memory) {
  region.refuse = true;
  EXPECT_EQ(heap.malloc(100), nullptr);
  EXPECT_EQ(heap.malloc(5), nullptr);
  EXPECT_EQ(heap.malloc(100000), nullptr);
  EXPECT_EQ(heap.aligned_alloc(65536, 100000), nullptr);
  EXPECT_EQ(heap.stats().out_of_memory, 4u);
  region.refuse = false;
  EXPECT_NE(heap.malloc(100), nullptr);
}

// What a thread keeps of one length of span is not there beside what it takes for another.
TEST_F(host_heap_memory_test, kept_pages_go_before_the_heap_grows_by_others) {
  const auto pages_of = [&](std::size_t bytes, std::size_t objects) {
    const unsigned c = size_to_class(bytes);
    return (objects + host_span_objects(c) - 1) / host_span_objects(c) * host_span_pages(c);
  };
  // A cache of this heap keeps 256 pages at most.
  constexpr std::size_t kept = 16, total = std::size_t{2} << 20;
  std::size_t most_spans = 0;
  for (const std::size_t bytes : {std::size_t{4096}, std::size_t{3000}, std::size_t{20000},
                                  std::size_t{500}, std::size_t{100000}}) {
    std::vector<void*> all(total / bytes);
    for (void*& p : all) p = heap.malloc(bytes);
    const std::size_t needed = bytes > max_small_size
                                   ? all.size() * ((bytes + page_size - 1) / page_size)
                                   : pages_of(bytes, all.size());
    // And the spans that it took from last, one of each size.
    EXPECT_LE(heap.stats().pages_in_use, needed + kept + most_spans) << bytes;
    most_spans += bytes > max_small_size ? 0 : host_span_pages(size_to_class(bytes));
    for (void* p : all) EXPECT_EQ(heap.free(p), free_status::ok);
  }
}

TEST_F(host_heap_memory_test, kept_large_objects_go_before_the_heap_grows) {
  std::vector<void*> large(20);
  for (void*& p : large) p = heap.malloc(100'000);
  for (void* p : large) EXPECT_EQ(heap.free(p), free_status::ok);
  EXPECT_GE(heap.stats().pages_in_use, 200u);
  constexpr std::size_t bytes = 8192, spans = 20;
  const unsigned c = size_to_class(bytes);
  std::vector<void*> all(spans * host_span_objects(c));
  for (void*& p : all) p = heap.malloc(bytes);
  EXPECT_EQ(heap.stats().pages_in_use, spans * host_span_pages(c));
}

TEST_F(host_heap_memory_test, current_spans_without_objects_go_before_the_heap_grows) {
  // All live at once: none of the spans goes while the next ones are made.
  std::vector<void*> of_each;
  for (unsigned c = 1; c < num_classes; ++c) {
    for (const contents kind : {contents::no_pointers, contents::pointers})
      of_each.push_back(heap.malloc(class_to_size(c), kind));
  }
  for (void* p : of_each) EXPECT_EQ(heap.free(p), free_status::ok);
  const std::size_t idle = heap.stats().pages_in_use;
  constexpr std::size_t bytes = 8192, spans = 12;
  const unsigned c = size_to_class(bytes);
  std::vector<void*> all(spans * host_span_objects(c));
  for (void*& p : all) p = heap.malloc(bytes);
  const std::size_t needed = spans * host_span_pages(c);
  EXPECT_GT(idle, 200u);
  EXPECT_LE(heap.stats().pages_in_use, needed + 16);
  for (void* p : all) EXPECT_EQ(heap.free(p), free_status::ok);
  // They are there again when they are wanted.
  for (unsigned k = 1; k < num_classes; ++k)
    EXPECT_EQ(heap.free(heap.malloc(class_to_size(k))), free_status::ok);
}

TEST_F(host_heap_memory_test, spans_in_use_stay_though_they_are_empty_between_two_uses) {
  const auto each_class_once = [&] {
    for (unsigned c = 2; c < num_classes; ++c)
      EXPECT_EQ(heap.free(heap.malloc(class_to_size(c))), free_status::ok);
  };
  for (unsigned i = 0; i < 10; ++i) each_class_once();
  const std::uint64_t refills = heap.stats().cache_refills;
  for (unsigned i = 0; i < 100; ++i) each_class_once();
  EXPECT_LE(heap.stats().cache_refills - refills, num_classes);
}

TEST_F(host_heap_memory_test, spans_that_others_have_emptied_go_before_the_heap_grows) {
  // Another thread frees what is left in them. This one allocates nothing of these classes any
  // more.
  std::vector<void*> rest;
  for (unsigned c = 20; c < 50; ++c) fill_three_spans(heap, c, rest);
  std::thread([&] {
    for (void* p : rest) EXPECT_EQ(heap.free(p), free_status::ok);
  }).join();
  const std::size_t idle = heap.stats().pages_in_use;
  constexpr std::size_t bytes = 8192, spans = 40;
  const unsigned c = size_to_class(bytes);
  std::vector<void*> all(spans * host_span_objects(c));
  for (void*& p : all) p = heap.malloc(bytes);
  EXPECT_GT(idle, 150u);
  EXPECT_LE(heap.stats().pages_in_use, spans * host_span_pages(c) + 16);
  for (void* p : all) EXPECT_EQ(heap.free(p), free_status::ok);
}

TEST_F(host_heap_memory_test, spans_that_others_have_emptied_go_while_others_let_the_heap_grow) {
  // As above, but it is the other thread that takes pages then; the owner of the emptied spans has
  // free slots of the size that it goes on with.
  std::barrier turn(2);
  constexpr unsigned rounds = 10;
  constexpr unsigned c = size_to_class(1024);
  std::vector<void*> rest;
  std::size_t idle = 0, current = 0;  // that it takes slots from: they stay
  std::thread owner([&] {
    std::vector<void*> in_turn(2 * rounds * host_span_objects(c));
    for (void*& p : in_turn) p = heap.malloc(1024);
    for (unsigned i = 0; i < in_turn.size(); i += 2)
      EXPECT_EQ(heap.free(in_turn[i]), free_status::ok);
    for (unsigned k = 20; k < 50; ++k) {
      if (k == c) continue;
      current += host_span_pages(k);
      fill_three_spans(heap, k, rest);
    }
    turn.arrive_and_wait();
    turn.arrive_and_wait();  // the rest has been freed
    for (unsigned i = 0; i < rounds; ++i) {
      turn.arrive_and_wait();  // the heap has grown
      for (unsigned k = 0; k < host_span_objects(c); ++k) EXPECT_NE(heap.malloc(1024), nullptr);
      turn.arrive_and_wait();
    }
  });
  turn.arrive_and_wait();
  for (void* p : rest) EXPECT_EQ(heap.free(p), free_status::ok);
  idle = heap.stats().pages_in_use - 2 * rounds * host_span_pages(c);
  turn.arrive_and_wait();
  constexpr std::size_t pages = 40;
  for (unsigned i = 0; i < rounds; ++i) {
    EXPECT_NE(heap.malloc(pages * page_size), nullptr);
    turn.arrive_and_wait();
    turn.arrive_and_wait();
  }
  const std::size_t used = rounds * pages + 2 * rounds * host_span_pages(c) + current;
  EXPECT_EQ(idle, 3 * current);
  EXPECT_LE(heap.stats().pages_in_use, used + 16);
  owner.join();
}

TEST_F(host_heap_memory_test, metadata_lies_outside_the_pages) {
  // All pages handed out and overwritten: the heap still works.
  std::vector<void*> all;
  while (void* p = heap.malloc(std::size_t{1} << 20)) {
    std::memset(p, 0xff, std::size_t{1} << 20);
    all.push_back(p);
  }
  for (void* p : all) ASSERT_EQ(heap.free(p), free_status::ok);
}

}  // namespace
