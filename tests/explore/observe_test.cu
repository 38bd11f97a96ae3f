// Explorations of observed calls: the order of the events is one in which the calls could have come
// one by one, whatever the schedule was, and counts and ring agree.
#define WARPHEAP_SLOTS_PER_WORD 2

#include <map>
#include <numeric>
#include <set>
#include <warpheap/detail/observe.cuh>

#include "explore.cuh"

namespace warpheap {
namespace {

using calls = core::observed_calls;

__global__ void observed_churn(heap_view heap, ownership* owners, std::size_t size,
                               unsigned rounds) {
  for (unsigned r = 0; r < rounds; ++r) {
    void* p = calls::malloc(heap, size);
    if (p == nullptr) continue;
    owners->take(p, size);
    owners->give(p, size);
    calls::free(heap, p);
  }
}

/// Lanes free each other's objects.
__global__ void observed_exchange(heap_view heap, ownership* owners, unsigned long long* place,
                                  std::size_t size, unsigned rounds) {
  for (unsigned r = 0; r < rounds; ++r) {
    void* p = calls::malloc(heap, size);
    if (p != nullptr) owners->take(p, size);
    p = reinterpret_cast<void*>(
        atomic::exchange<order::acq_rel>(place, reinterpret_cast<unsigned long long>(p)));
    if (p == nullptr) continue;
    owners->give(p, size);
    calls::free(heap, p);
  }
}

/// A ring of so many events for a heap.
class event_ring {
 public:
  event_ring(const small_heap& h, std::size_t slots) : o_(h.view().state->observed), ring_(slots) {
    o_.events = ring_.data();
    o_.event_slots = slots;
  }

  /// Follows the events; throws when they do not fit together. Returns the live objects.
  std::set<std::uint64_t> replay() const {
    std::set<std::uint64_t> live;
    const std::uint64_t n = std::min<std::uint64_t>(o_.events_so_far.value, ring_.size());
    for (std::uint64_t i = 0; i < n; ++i) {
      const device_event& e = ring_[i];
      if (e.op == device_op::malloc && !live.insert(e.address).second)
        throw std::runtime_error("the events make an object twice");
      if (e.op == device_op::free && live.erase(e.address) == 0)
        throw std::runtime_error("the events free an object that they did not make");
    }
    return live;
  }
  /// Throws when two objects lie in the same bytes, in the order of the events.
  void require_disjoint() const {
    std::map<std::uint64_t, std::uint64_t> live;
    for (std::uint64_t i = 0; i < o_.events_so_far.value; ++i) {
      const device_event& e = ring_.at(i);
      if (e.op == device_op::free) live.erase(e.address);
      if (e.op != device_op::malloc && e.op != device_op::resize) continue;
      for (const auto& [at, bytes] : live)
        if (at != e.address && at < e.address + e.bytes && e.address < at + bytes)
          throw std::runtime_error("the events tell of two objects in the same bytes");
      live[e.address] = e.bytes;
    }
  }
  std::uint64_t made() const { return sum(o_.mallocs); }
  std::uint64_t freed() const { return sum(o_.frees); }
  std::uint64_t timed(latency_kind kind) const {
    const auto& buckets = o_.latency[static_cast<unsigned>(kind)];
    return std::accumulate(std::begin(buckets), std::end(buckets), std::uint64_t{0});
  }
  std::uint64_t so_far() const { return o_.events_so_far.value; }

 private:
  static std::uint64_t sum(const std::uint64_t (&counters)[counted_classes]) {
    return std::accumulate(std::begin(counters), std::end(counters), std::uint64_t{0});
  }

  device_observation& o_;
  std::vector<device_event> ring_;
};

TEST(Explore, ObservedEventsCouldHaveComeOneByOne) {
  explore_seeds(7'000, [](const simt::explore_options& o) {
    for (const std::size_t size : {std::size_t{4096}, std::size_t{4}, std::size_t{40000}}) {
      small_heap h(9);
      h.press();
      const event_ring ring(h, 200);
      unsigned long long place = 0;
      run_schedule(
          o, {simt::explored(1, 2, observed_churn, h.view(), h.owners(), size, 2u),
              simt::explored(1, 1, observed_exchange, h.view(), h.owners(), &place, size, 2u),
              simt::explored(1, 1, observed_exchange, h.view(), h.owners(), &place, size, 2u)});
      std::set<std::uint64_t> left;
      if (place != 0) left.insert(place);
      require(ring.replay() == left, "the events leave other objects than there are");
      require(ring.made() - ring.freed() == left.size(), "counters and objects differ");
      require(ring.timed(latency_kind::malloc) == ring.made(), "times and mallocs differ");
      require(ring.timed(latency_kind::free) == ring.freed(), "times and frees differ");
      require(ring.so_far() == ring.made() + ring.freed() + ring.timed(latency_kind::failure),
              "events are missing");
      if (place != 0) alone([&] { calls::free(h.view(), reinterpret_cast<void*>(place)); });
      h.close_tiny_blocks();
      h.check_at_rest();
    }
  });
}

__global__ void shrink(heap_view heap, void* p, std::size_t size) { calls::realloc(heap, p, size); }
__global__ void observed_take(heap_view heap, std::size_t size) { calls::malloc(heap, size); }

TEST(Bounded, EventsOfALargeObjectThatShrinksComeBeforeTheNextInItsPages) {
  explore_all(simt::bounded_by::preemptions, 1, [](const simt::explore_options& o) {
    small_heap h(12);
    const event_ring ring(h, 64);
    void* p = nullptr;
    alone([&] { p = calls::malloc(h.view(), 12 * page_size); });
    run_schedule(o, {simt::explored(1, 1, shrink, h.view(), p, 6 * page_size),
                     simt::explored(1, 1, observed_take, h.view(), 6 * page_size)});
    ring.require_disjoint();
  });
}

TEST(Explore, ObservedRingThatIsFullLosesAndCounts) {
  explore_seeds(5'000, [](const simt::explore_options& o) {
    small_heap h(4);
    const event_ring ring(h, 5);
    run_schedule(o, {simt::explored(1, 2, observed_churn, h.view(), h.owners(), 2048, 3u),
                     simt::explored(1, 3, observed_churn, h.view(), h.owners(), 2048, 2u)});
    require(ring.so_far() == ring.made() + ring.freed() + ring.timed(latency_kind::failure),
            "a lost event was not counted");
    require(ring.made() == ring.freed(), "an object is left");
    (void)ring.replay();
    h.check_at_rest();
  });
}

}  // namespace
}  // namespace warpheap
