// Explorations with faults: the n-th time that pages are asked for, the system has none; or from
// the n-th time on; or the service dies at its n-th look. Mallocs answer nullptr and nothing else
// happens, nothing is lost, and when the fault is over the heap can be used to its last page.
#define WARPHEAP_SLOTS_PER_WORD 2

#include "explore.cuh"

namespace warpheap {
namespace {

using simt::explored;

/// Takes all the memory there is in objects of 128 bytes, with the service at work, and frees it.
void use_all_of_it(small_heap& h) {
  h.serve();
  h.service().pages_came_free();  // as the service's thread says every millisecond
  std::vector<void*> all;
  const std::function<void()> body = [&] {
    for (int i = 0; i < 30; ++i)
      __nanosleep(100'000);  // past the pause after an unanswered request
    const device_heap heap = h.device();
    while (void* p = heap.malloc(128)) all.push_back(p);
    for (void* p : all) heap.free(p);
  };
  simt::explore_options o;
  o.max_steps = 40'000'000;
  simt::explore(o, {{{1, 1, 0}, body, "use all"}}, {{[&] { return h.service().poll_once(); }}});
  const std::size_t slots = 2 * (std::size_t{h.view().pages} - 1);  // page 0 is nobody's
  if (all.size() != slots)
    throw std::runtime_error("of " + std::to_string(slots) + " slots, " + std::to_string(all.size())
                             + " can be had after the fault");
  settle(h);
  h.check_at_rest();
}

/// Small objects and runs of 62 pages by way of the stock, large ones by mailboxes of their own.
/// Together they want more than the heap has, so the system is asked for the last pages too.
void use_under_fault(const simt::explore_options& o, small_heap& h,
                     const std::function<bool()>& service) {
  run_schedule(o,
               {explored(1, 2, take_and_free, h.device(), h.owners(), std::size_t{128}, 2u, 2u),
                explored(1, 1, take_and_free, h.device(), h.owners(), std::size_t{5} << 20, 2u, 1u),
                explored(1, 4, take_and_free, h.device(), h.owners(), std::size_t{500'000}, 2u, 2u),
                explored(1, 1, take_and_free, h.device(), h.owners(), std::size_t{8}, 2u, 2u)},
               {{service, o.seed % 3 == 0}});
  settle(h);
  h.close_tiny_blocks();
  h.check_at_rest();
}

TEST(Faults, TheNthTimeThereIsNoMemoryForPages) {
  unsigned most_asked = 0;
  for (unsigned n = 0; n < 6; ++n)
    explore_seeds(1'000, [&](const simt::explore_options& o) {
      small_heap h(0, 3'000);
      h.serve();
      unsigned asked = 0;
      const std::function<bool()> refuse = [&] { return asked++ == n; };
      h.refuse_memory_when(refuse);
      use_under_fault(o, h, [&] { return h.service().poll_once(); });
      most_asked = std::max(most_asked, asked);
      if (o.seed % 100 == 1) use_all_of_it(h);
    });
  if (testing::test_scale() >= 1) {
    EXPECT_GT(most_asked, 3u) << "the faults were not reached";
  }
}

TEST(Faults, MemoryIsLimitedFromTheNthTimeOn) {
  for (unsigned n = 0; n < 6; ++n)
    explore_seeds(1'000, [&](const simt::explore_options& o) {
      small_heap h(0, 3'000);
      h.serve();
      unsigned asked = 0;
      bool limited = true;
      const std::function<bool()> refuse = [&] { return limited && asked++ >= n; };
      h.refuse_memory_when(refuse);
      use_under_fault(o, h, [&] { return h.service().poll_once(); });
      limited = false;
      if (o.seed % 100 == 1) use_all_of_it(h);
    });
}

TEST(Faults, TheServiceDiesAtItsNthLookAndComesBack) {
  for (unsigned n = 0; n < 12; ++n)
    explore_seeds(500, [&](const simt::explore_options& o) {
      small_heap h(0, 3'000);
      h.serve();
      unsigned looks = n;
      use_under_fault(o, h, [&] { return looks > 0 && (--looks, h.service().poll_once()); });
      if (o.seed % 100 == 1) use_all_of_it(h);
    });
}

TEST(Faults, AllMailboxesAreTaken) {
  // Nothing can be pushed into the queue but requests for the stock.
  explore_seeds(1'000, [&](const simt::explore_options& o) {
    small_heap h(0, 3'000);
    h.serve();
    h.view().state->free_mailboxes.value = 0;
    run_schedule(
        o,
        {explored(1, 2, take_and_free, h.device(), h.owners(), std::size_t{128}, 2u, 2u),
         explored(1, 1, take_and_free, h.device(), h.owners(), std::size_t{5} << 20, 2u, 1u)},
        {{[&] { return h.service().poll_once(); }, false}});
    h.view().state->free_mailboxes.value = ~std::uint64_t{1};
    settle(h);
    h.check_at_rest();
    if (o.seed % 100 == 1) use_all_of_it(h);
  });
}

}  // namespace
}  // namespace warpheap
