// Explorations with faults: the n-th time that pages are asked for, the system has none; or from
// the n-th time on; or the service dies at its n-th look. Mallocs answer nullptr and nothing else
// happens, nothing is lost, and when the fault is over the heap can be used to its last page.
#define WARPHEAP_SLOTS_PER_WORD 2

#include <atomic>
#include <warpheap/backend.hpp>

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
void use_under_fault(
    const simt::explore_options& o, small_heap& h, const std::function<bool()>& service,
    const std::function<void()>& end_of_fault = [] {}) {
  run_schedule(o,
               {explored(1, 2, take_and_free, h.device(), h.owners(), std::size_t{128}, 2u, 2u),
                explored(1, 1, take_and_free, h.device(), h.owners(), std::size_t{5} << 20, 2u, 1u),
                explored(1, 4, take_and_free, h.device(), h.owners(), std::size_t{500'000}, 2u, 2u),
                explored(1, 1, take_and_free, h.device(), h.owners(), std::size_t{8}, 2u, 2u)},
               {{service, o.seed % 3 == 0}});
  end_of_fault();
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

/// Small and large objects in turn, after a rest: longer than the pause after an answer that did
/// not come.
__global__ void take_some(device_heap heap, unsigned* taken, unsigned n, unsigned rest_ns) {
  for (unsigned slept = 0; slept < rest_ns; slept += 100'000) __nanosleep(100'000);
  for (unsigned i = 0; i < n; ++i) *taken += heap.malloc(i % 2 == 0 ? 128 : 40'000) != nullptr;
}

/// Kernels that do all there is to do, cut off somewhere. True when they were.
bool abort_somewhere(const simt::explore_options& o, small_heap& h, bool breaks_steps) {
  simt::explore_options cut = o;
  cut.max_steps = 1 + o.seed * 7919 % 1500;
  cut.breaks_steps = breaks_steps;
  try {
    run_schedule(
        cut,
        {churning(h, 2, 50'000, 2, 1), churning(h, 1, 40'000, 3, 2), churning(h, 2, 128, 2, 2),
         churning(h, 1, 4, 2, 4), churning(h, 1, std::size_t{5} << 20, 2, 1)},
        {{[&] { return h.service().poll_once(); }}});
  } catch (const std::exception&) {
    return true;
  }
  return false;
}

/// Whether a warp is in the middle of a request or of a message home.
bool is_busy(const padded_counter& phase) {
  return (phase.value >> 32 & 3) == static_cast<std::uint32_t>(stock_phase::busy);
}

/// Throws when a lane that is gone holds something for which others would wait or which they could
/// not use: anything but objects, of which nobody knows any more.
void check_nothing_in_hand(const small_heap& h) {
  const device_state& s = *h.view().state;
  require(!core::any_hand(s.in_hand.value), "something is in hand");
  require(s.reclaiming.value == 0, "somebody reclaims");
  require(s.waiting.value == 0, "somebody waits");
  require(!is_busy(s.stock_request) && !is_busy(s.home_request), "a mailbox is being written");
  require(s.free_mailboxes.value == ~std::uint64_t{1}, "a mailbox is lost");
  for (const std::uint32_t growers : s.growers) require(growers == 0, "somebody makes a span");
  for (unsigned i = 0; i < h.view().warp_slots; ++i)
    require(!core::tiny_word{h.view().tiny[i]}.is_busy(), "a tiny block is busy");
  std::uint64_t in_stock = 0, used = 0;
  for (page_index p = 0; p < s.high_page.value; ++p) {
    const page_entry e{h.view().entry[p]};
    const span_record r{h.view().rec[p]};
    require(!r.is_retiring(), "a span was left retiring");
    in_stock += h.view().stock[p / 64] >> (p % 64) & 1;
    if (e.cls() == large_class) used += e.value();
    if (e.cls() != no_class && e.cls() < span_classes) ++used;
  }
  require(in_stock == s.stock_pages.value, "the count of the stock is wrong");
  require(in_stock + used == s.device_pages.value, "pages are lost");
}

TEST(Faults, AnAbortedKernelLeavesNothingInHand) {
  unsigned aborted = 0;
  explore_seeds(2'000, [&](const simt::explore_options& o) {
    small_heap h(24, 3'000);
    h.serve();
    h.keep_in_stock(1 + static_cast<std::uint32_t>(o.seed % 5));
    aborted += abort_somewhere(o, h, false);
    check_nothing_in_hand(h);
  });
  if (testing::test_scale() >= 1) {
    EXPECT_GT(aborted, 200u) << "the kernels were seldom aborted";
  }
}

TEST(Faults, TheMachineIsGoneAtItsNthStep) {
  // Wherever lanes are: as the holder of a mailbox, while pages go home or come, in a retirement.
  constexpr std::uint64_t limit_ns = 3'000;
  std::unique_ptr<device_operations> operations;
  unsigned aborted = 0;
  explore_seeds(800, [&](const simt::explore_options& o) {
    small_heap h(24, limit_ns);
    if (operations == nullptr) operations = make_simt_operations(h.view());
    h.serve();
    h.keep_in_stock(1 + static_cast<std::uint32_t>(o.seed % 5));
    const std::vector<simt::actor> service = {{[&] { return h.service().poll_once(); }}};
    aborted += abort_somewhere(o, h, true);
    // The next kernel's mallocs end, with or without an object.
    unsigned taken = 0;
    const simt::exploration after =
        simt::explore({}, {explored(1, 1, take_some, h.device(), &taken, 4u, 0u)}, service);
    tally::get().add(after);
    if (after.virtual_ns > 4 * 100 * limit_ns)
      throw std::runtime_error("four mallocs take " + std::to_string(after.virtual_ns) + " ns");
    // As trim() does at rest. Then there is memory again: most of the heap is the host's.
    auto held = h.service().hold();
    operations->repair_refill();
    require(h.view().state->waiting.value == 0, "waits of the machine that is gone are counted");
    h.service().settle(held);
    held.unlock();
    h.service().pages_came_free();
    taken = 0;
    simt::explore({}, {explored(1, 1, take_some, h.device(), &taken, 4u, 3'000'000u)}, service);
    if (taken != 4) throw std::runtime_error("no memory after the repair");
  });
  if (testing::test_scale() >= 1) {
    EXPECT_GT(aborted, 100u) << "the kernels were seldom aborted";
  }
}

/// All pages that the host has, for as long as this lives.
class nothing_to_grant {
 public:
  explicit nothing_to_grant(host_heap& pages) : pages_(pages) {
    for (std::uint32_t n = 1024; n > 0; n /= 2)
      for (page_run run; (run = pages_.take_device_pages(n, n)).count != 0;) taken_.push_back(run);
  }
  ~nothing_to_grant() {
    for (const page_run run : taken_) pages_.give_back_device_pages(run);
  }
  nothing_to_grant(const nothing_to_grant&) = delete;
  nothing_to_grant& operator=(const nothing_to_grant&) = delete;

 private:
  host_heap& pages_;
  std::vector<page_run> taken_;
};

/// A word that kernels use meanwhile, in one step of the schedule.
template <class T>
std::atomic_ref<T> shared(T& word) {
  return std::atomic_ref<T>(word);
}

/// A request that the host has not answered yet.
bool is_asked(refill_queue& q) {
  for (unsigned box = 0; box < mailboxes; ++box)
    if (shared(q.request[box].seq).load() != shared(q.reply[box].seq).load()) return true;
  return false;
}

TEST(Faults, TheNthGrantIsDenied) {
  unsigned most_asked = 0;
  for (unsigned n = 0; n <= most_asked; ++n)
    explore_seeds(60, [&](const simt::explore_options& o) {
      small_heap h(0, 3'000);
      h.serve();
      unsigned asked = 0;
      use_under_fault(o, h, [&] {
        if (!is_asked(*h.view().queue) || asked++ != n) return h.service().poll_once();
        const nothing_to_grant denied(h.host());
        return h.service().poll_once();
      });
      most_asked = std::max(most_asked, asked);
      if (o.seed % 100 == 1) use_all_of_it(h);
    });
  EXPECT_GT(most_asked, 4u) << "the faults were not reached";
}

TEST(Faults, TheNthPushFails) {
  // After n requests nobody finds a mailbox for a while: those for large runs are all taken, that
  // of the stock is somebody's who does not go on.
  constexpr std::uint64_t none = 0;
  unsigned most_pushed = 0;
  for (unsigned n = 0; n <= most_pushed; ++n)
    explore_seeds(60, [&](const simt::explore_options& o) {
      small_heap h(0, 3'000);
      h.serve();
      device_state& s = *h.view().state;
      std::uint64_t taken = none;
      bool stock_is_taken = false;
      unsigned looks = 0;
      const auto take = [&] {
        taken = shared(s.free_mailboxes.value).exchange(none);
        const std::uint64_t state = shared(s.stock_request.value).load();
        const auto seq = static_cast<std::uint32_t>(state);
        stock_is_taken = state == core::request_state(stock_phase::idle, seq);
        if (stock_is_taken) shared(s.stock_request.value).store(core::busy_now(seq));
      };
      const auto give_back = [&] {
        shared(s.free_mailboxes.value).fetch_or(std::exchange(taken, none));
        const auto seq = static_cast<std::uint32_t>(shared(s.stock_request.value).load());
        if (std::exchange(stock_is_taken, false))
          shared(s.stock_request.value).store(core::request_state(stock_phase::idle, seq));
      };
      const auto service = [&] {
        const bool begins = shared(s.host_requests.value).load() >= n;
        if (looks == 0 && begins) take();
        looks += begins;
        if (looks == 20 + o.seed % 32) give_back();
        return h.service().poll_once();
      };
      use_under_fault(o, h, service, give_back);
      most_pushed = std::max(most_pushed, static_cast<unsigned>(s.host_requests.value));
      if (o.seed % 100 == 1) use_all_of_it(h);
    });
  EXPECT_GT(most_pushed, 4u) << "the faults were not reached";
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
