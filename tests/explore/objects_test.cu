// Explorations of objects: freed by others, tiny, large, freed twice.
#define WARPHEAP_SLOTS_PER_WORD 2

#include <warpheap/backend.hpp>

#include "explore.cuh"

namespace warpheap {
namespace {

/// Lanes hand their objects to others through a few shared places.
struct exchange_table {
  unsigned long long places[4] = {};
};

__global__ void hand_over(device_heap heap, ownership* owners, exchange_table* table,
                          std::size_t size, unsigned rounds) {
  for (unsigned r = 0; r < rounds; ++r) {
    void* p = heap.malloc(size);
    if (p != nullptr) owners->take(p, size);
    // Acquire and release: who hands an object over has to synchronise, as with any memory.
    p = reinterpret_cast<void*>(atomic::exchange<order::acq_rel>(
        &table->places[(threadIdx.x + r) % 4], reinterpret_cast<unsigned long long>(p)));
    if (p == nullptr) continue;
    owners->give(p, size);
    heap.free(p);
  }
}

TEST(Explore, ObjectsAreFreedByOtherLanes) {
  explore_seeds(20'000, [](const simt::explore_options& o) {
    for (const std::size_t size : {std::size_t{128}, std::size_t{4}}) {
      small_heap h(3);
      h.press();
      exchange_table table;
      run_schedule(o, {simt::explored(1, 4, hand_over, h.device(), h.owners(), &table, size, 2u),
                       simt::explored(1, 2, hand_over, h.device(), h.owners(), &table, size, 3u)});
      for (unsigned long long& place : table.places) {
        if (place == 0) continue;
        void* p = reinterpret_cast<void*>(place);
        alone([&] { h.device().free(p); });
      }
      h.close_tiny_blocks();
      h.check_at_rest();
    }
  });
}

/// Tiny objects of the lane's own size; warps share the open block.
__global__ void take_tiny(device_heap heap, ownership* owners, unsigned rounds) {
  const unsigned sizes[] = {1, 8, 5, 3, 12, 4};
  void* mine[2] = {};
  for (unsigned r = 0; r < rounds; ++r) {
    const std::size_t size = sizes[(threadIdx.x + r + blockDim.x) % 6];
    for (void*& p : mine)
      if ((p = heap.malloc(size)) != nullptr) owners->take(p, size);
    for (void* p : mine) {
      if (p == nullptr) continue;
      owners->give(p, size);
      heap.free(p);
    }
  }
}

TEST(Explore, TinyObjectsOfWarpsThatShareABlock) {
  explore_seeds(27'000, [](const simt::explore_options& o) {
    small_heap h(2);
    const device_heap d = h.device_with_one_slot();
    run_schedule(o, {simt::explored(1, 2, take_tiny, d, h.owners(), 2u),
                     simt::explored(1, 3, take_tiny, d, h.owners(), 2u),
                     simt::explored(1, 1, take_tiny, d, h.owners(), 3u)});
    h.close_tiny_blocks();
    h.check_at_rest();
  });
}

/// Frees a place beside each object that was never handed out, or is free.
__global__ void take_tiny_and_free_others(device_heap heap, ownership* owners, std::size_t size,
                                          unsigned n) {
  char* mine[16] = {};
  for (unsigned i = 0; i < n; ++i) {
    mine[i] = static_cast<char*>(heap.malloc(size));
    if (mine[i] == nullptr) continue;
    owners->take(mine[i], size);
    if (size > 1) heap.free(mine[i] + 1);
  }
  for (unsigned i = 0; i < n; ++i) {
    if (mine[i] == nullptr) continue;
    owners->give(mine[i], size);
    heap.free(mine[i]);
  }
}

TEST(Explore, WrongFreesInOpenTinyBlocksAreTold) {
  explore_seeds(10'000, [](const simt::explore_options& o) {
    small_heap h(2);
    const device_heap d = h.device_with_one_slot();
    run_schedule(o, {simt::explored(1, 1, take_tiny_and_free_others, d, h.owners(), 5u, 3u),
                     simt::explored(1, 2, take_tiny_and_free_others, d, h.owners(), 8u, 2u),
                     simt::explored(1, 1, take_tiny_and_free_others, d, h.owners(), 1u, 2u)});
    std::uint64_t told = 0;
    for (unsigned kind = 0; kind < wrong_frees; ++kind)
      told += std::exchange(h.view().state->errors[kind], 0);
    if (told != 7) throw std::runtime_error(std::to_string(told) + " errors for 7 wrong frees");
    h.close_tiny_blocks();
    h.check_at_rest();
  });
}

/// Objects of one byte, up to the last place of a block, which a wrong free may name before.
__global__ void take_bytes(device_heap heap, ownership* owners, unsigned n) {
  void* mine[16] = {};
  for (unsigned i = 0; i < n; ++i)
    if ((mine[i] = heap.malloc(1)) != nullptr) owners->take(mine[i], 1);
  for (unsigned i = 0; i < n; ++i) {
    if (mine[i] == nullptr) continue;
    owners->give(mine[i], 1);
    heap.free(mine[i]);
  }
}

TEST(Explore, TheLastByteOfATinyBlockIsAnObjectOrNot) {
  explore_seeds(10'000, [](const simt::explore_options& o) {
    small_heap h(2);
    const device_heap d = h.device_with_one_slot();
    void* first = nullptr;
    alone([&] {
      first = d.malloc(11);
      d.free(static_cast<char*>(first) + 15);
    });
    if (std::exchange(h.view().state->errors[static_cast<unsigned>(error_kind::double_free)], 0)
        != 1)
      throw std::runtime_error("a free of the last byte of an open block was not told");
    run_schedule(o, {simt::explored(1, 1, take_bytes, d, h.owners(), 3u),
                     simt::explored(1, 3, take_bytes, d, h.owners(), 1u), freeing(h, first)});
    h.close_tiny_blocks();
    h.check_at_rest();
  });
}

/// The one page of a heap, as if it lay in a reply that no kernel has read yet; kernels freed what
/// was in it when it was the host's.
page_index page_in_a_reply(small_heap& h, std::initializer_list<unsigned> freed) {
  page_index p = 0;
  alone([&] {
    p = core::take_pages(h.view(), 1);
    core::keep_in_hand(h.view());
  });
  h.view().entry[p] = 0;
  for (const unsigned at : freed)
    alone([&] { core::free_host_object(h.view(), std::uint64_t{p} * page_size + at); });
  return p;
}

TEST(Explore, AMarkThatComesLateDoesNotTakeTinyObjects) {
  explore_seeds(7'000, [](const simt::explore_options& o) {
    small_heap h(1);
    const heap_view& v = h.view();
    const page_index p = page_in_a_reply(h, {});
    core::has_free_of(v, no_class).set(p);
    const auto operations = make_simt_operations(v);
    bool looked = false;
    std::vector<void*> taken;
    void* object = nullptr;
    const simt::actor collector = {
        [&] {
          if (std::exchange(looked, true)) return false;
          taken = operations->take_host_frees(
              [&](page_index page) { return h.host().is_device_page(page); }, false);
          return true;
        },
        true};
    run_schedule(o,
                 {{{1, 1, 0},
                   [&] {
                     core::give_pages(v, {p, 1});
                     object = h.device().malloc(8);
                   },
                   "accept the page, use it"}},
                 {collector});
    if (!taken.empty()) throw std::runtime_error("a live object was taken for a freed one");
    alone([&] { h.device().free(object); });
    h.close_tiny_blocks();
    h.check_at_rest();
  });
}

TEST(Explore, FreesOfHostObjectsAreCollectedAPassAtATime) {
  small_heap h(1);
  const heap_view& v = h.view();
  constexpr unsigned pages = 65, per_page = page_size / 8;  // more than a pass takes
  alone([&] {
    for (unsigned p = 1; p <= pages; ++p)
      for (unsigned i = 0; i < per_page; ++i)
        core::free_host_object(v, std::uint64_t{v.pages - p} * page_size + i * 8);
  });
  const auto operations = make_simt_operations(v);
  const auto is_lent = [&](page_index page) { return h.host().is_device_page(page); };
  const std::vector<void*> first = operations->take_host_frees(is_lent, false);
  EXPECT_GT(first.size(), 0u);
  EXPECT_LT(first.size(), pages * per_page);
  EXPECT_EQ(v.queue->host_frees_pending, 1u);
  const std::vector<void*> rest = operations->take_host_frees(is_lent, true);
  EXPECT_EQ(first.size() + rest.size(), pages * per_page);
  EXPECT_EQ(v.queue->host_frees_pending, 0u);
  h.check_at_rest();
}

TEST(Bounded, AStaleMarkAndAnotherFreeDoNotTakeATinyBlock) {
  explore_all(simt::bounded_by::preemptions, 2, [](const simt::explore_options& o) {
    small_heap h(1);
    const heap_view& v = h.view();
    const page_index p = page_in_a_reply(h, {4});
    alone([&] { core::give_pages(v, {p, 1}); });
    void* objects[3] = {};
    run_schedule(o, {simt::explored(1, 1, malloc_one, h.device(), std::size_t{8}, &objects[0]),
                     freeing(h, v.base + std::uint64_t{p} * page_size + 4)});
    alone([&] {
      objects[1] = h.device().malloc(8);
      objects[2] = h.device().malloc(8);
      for (void* object : objects) h.device().free(object);
    });
    if (objects[0] == objects[1] || objects[0] == objects[2] || objects[1] == objects[2])
      throw std::runtime_error("one place was given to two");
    std::uint64_t told = 0;
    for (unsigned kind = 0; kind < wrong_frees; ++kind)
      told += std::exchange(v.state->errors[kind], 0);
    if (told != 2) throw std::runtime_error(std::to_string(told) + " errors for 2 wrong frees");
    h.close_tiny_blocks();
    h.check_at_rest();
  });
}

TEST(Explore, RunsOfPagesAreTakenWholeOrNotAtAll) {
  explore_seeds(10'000, [](const simt::explore_options& o) {
    small_heap h(70);  // more than a word of the stock's bitmap
    run_schedule(o, {churning(h, 2, 200'000, 2, 1), churning(h, 2, 50'000, 2, 2),
                     churning(h, 1, 300'000, 2, 1)});
    exhaust(h, 70 * page_size, 1);
  });
}

TEST(Explore, OfTwoFreesOneIsReported) {
  explore_seeds(10'000, [](const simt::explore_options& o) {
    for (const std::size_t size : {std::size_t{3}, std::size_t{128}, std::size_t{40000}}) {
      small_heap h(6);
      void* p = nullptr;
      alone([&] { p = h.device().malloc(size); });
      run_schedule(o, {freeing(h, p), freeing(h, p, 2)});
      std::uint64_t reported = 0;
      for (unsigned kind = 0; kind < wrong_frees; ++kind)
        reported += std::exchange(h.view().state->errors[kind], 0);
      if (reported != 2)
        throw std::runtime_error(std::to_string(reported) + " errors for two frees too many");
      h.close_tiny_blocks();
      h.check_at_rest();
    }
  });
}

}  // namespace
}  // namespace warpheap
