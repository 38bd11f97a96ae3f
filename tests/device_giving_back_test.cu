// Pages on their way: requests of many warps at once, spans that change their class, empty spans
// and surplus pages that go back while kernels run.
#include <algorithm>
#include <numeric>
#include <random>

#include "device_fixture.cuh"

namespace warpheap {
namespace {

class DevicePages : public DeviceTest {};

constexpr unsigned wide_block = 256;

void malloc_many(heap& h, shared_array<void*>& pointers, std::size_t size) {
  const auto n = static_cast<std::uint32_t>(pointers.size());
  launch(blocks_for(n, wide_block), wide_block, malloc_all, device_heap(h.device()),
         pointers.data(), n, size);
  synchronize();
}
void free_many(heap& h, shared_array<void*>& pointers) {
  const auto n = static_cast<std::uint32_t>(pointers.size());
  launch(blocks_for(n, wide_block), wide_block, free_all, device_heap(h.device()), pointers.data(),
         n);
  synchronize();
}
std::uint64_t device_bytes(const heap_stats& s) { return s.device.span_bytes + s.stock_bytes; }

TEST_F(DevicePages, AStormOfWarpsMakesOneRequest) {
  heap_options o = options(256_MiB);
  o.initial_stock_bytes = 0;
  heap h(o);
  shared_array<void*> pointers(4096);
  malloc_many(h, pointers, 256);  // 1 MiB: a quarter of the first request
  for (void* p : pointers) ASSERT_NE(p, nullptr);
  EXPECT_EQ(h.stats().host_requests, 1u);
  free_many(h, pointers);
  expect_empty(h);
}

__global__ void count_gives(device_heap heap, std::uint64_t* gives) {
  *gives = atomic::load<order::relaxed>(&heap.view.state->gives.value);
}

// On a GPU it takes a lane milliseconds to mark the pages of a gigabyte, and a malloc waits for
// one.
TEST_F(DevicePages, ALargeGrantCanBeTakenFromChunkByChunk) {
  heap_options o = options(256_MiB);
  o.initial_stock_bytes = 30_MiB;
  heap h(o);
  shared_array<std::uint64_t> gives(1);
  launch(1, 1, count_gives, device_heap(h.device()), gives.data());
  synchronize();
  EXPECT_EQ(gives[0], 8u);  // the last one is half a chunk
  EXPECT_EQ(h.stats().stock_bytes, 30_MiB);
}

__global__ void look_at_ages(device_heap heap, std::uint32_t* dead) {
  const std::uint64_t limit = core::aborted_after * heap.view.refill_timeout_ns;
  const std::uint64_t began[] = {core::now_ns() + 200'000, core::now_ns(),
                                 core::now_ns() - limit / 2, core::now_ns() - 2 * limit};
  for (unsigned i = 0; i < 4; ++i) {
    const std::uint64_t busy = core::request_state(stock_phase::busy, 7);
    dead[i] = core::aborted(heap.view, busy | began[i] >> 10 << core::busy_time_shift);
  }
}

// Clocks of two multiprocessors need not agree to the microsecond.
TEST_F(DevicePages, AHolderWhoseClockIsAheadIsNotDead) {
  heap_options o = options(16_MiB);
  o.refill_timeout_ns = 100'000'000;
  heap h(o);
  shared_array<std::uint32_t> dead(4);
  launch(1, 1, look_at_ages, device_heap(h.device()), dead.data());
  synchronize();
  EXPECT_EQ(dead[0], 0u);
  EXPECT_EQ(dead[1], 0u);
  EXPECT_EQ(dead[2], 0u);
  EXPECT_EQ(dead[3], 1u);
}

TEST_F(DevicePages, RequestsGrowWithDemand) {
  heap_options o = options(512_MiB);
  o.initial_stock_bytes = 0;
  heap h(o);
  shared_array<void*> pointers(testing::sanitized ? 50'000 : 200'000);
  malloc_many(h, pointers, 1024);
  for (void* p : pointers) ASSERT_NE(p, nullptr);
  // 200 MiB in requests of 4 MiB, later of half of what there is: 1.5^n times 4 MiB after n more.
  EXPECT_LE(h.stats().host_requests, 16u);
  free_many(h, pointers);
  expect_empty(h);
}

TEST_F(DevicePages, SpansChangeTheirClass) {
  constexpr unsigned part = testing::sanitized ? 2 : 1;
  heap h(options(96_MiB / part));  // the classes had 200 MiB if each kept what it once had
  shared_array<void*> pointers(40'000 / part);
  for (const std::size_t size : {std::size_t{1024}, std::size_t{896}, std::size_t{1280},
                                 std::size_t{1024}, std::size_t{768}, std::size_t{1152}}) {
    malloc_many(h, pointers, size);
    for (void* p : pointers) ASSERT_NE(p, nullptr);
    free_many(h, pointers);
  }
  EXPECT_GT(h.stats().device_retires, 0u);
  expect_empty(h);
}

TEST_F(DevicePages, OneTrimGivesAllBack) {
  heap_options o = options(256_MiB);
  o.scavenge = false;
  heap h(o);
  shared_array<void*> pointers(testing::scaled(500'000, 50'000));
  malloc_many(h, pointers, 64);
  free_many(h, pointers);  // the class keeps half of its empty spans
  EXPECT_GT(h.trim(), 0u);
  EXPECT_EQ(h.trim(), 0u);
}

TEST_F(DevicePages, SurplusPagesGoHomeWhileKernelsRun) {
  constexpr std::size_t reserve = testing::sanitized ? 192_MiB : 512_MiB;
  heap h(options(reserve));
  shared_array<void*> pointers(testing::sanitized ? 20'000 : 60'000);
  malloc_many(h, pointers, 4096);
  for (void* p : pointers) ASSERT_NE(p, nullptr);
  const heap_stats full = h.stats();
  EXPECT_EQ(full.device_pages_home, 0u) << "pages went home while all of them were in use";
  free_many(h, pointers);
  // Time for the service to take in the last message.
  const heap_stats freed = h.stats();
  EXPECT_GT(freed.device_pages_home, 0u);
  EXPECT_LT(device_bytes(freed), device_bytes(full) * 19 / 20);
  // They are the host's now.
  const std::size_t room = reserve - device_bytes(freed);
  std::vector<void*> of_host;
  std::size_t got = 0;
  for (; got < room / 2; got += 1_MiB) {
    void* p = h.malloc(1_MiB);
    if (p == nullptr) break;
    of_host.push_back(p);
  }
  EXPECT_GE(got, room / 2);
  for (void* p : of_host) h.free(p);
  // And the device's again when it wants them.
  malloc_many(h, pointers, 4096);
  for (void* p : pointers) ASSERT_NE(p, nullptr);
  free_many(h, pointers);
  expect_empty(h);
}

__global__ void free_one_by_one(device_heap heap, void** pointers, std::uint32_t n) {
  for (std::uint32_t i = 0; i < n; ++i) heap.free(pointers[i]);
}

TEST_F(DevicePages, AClassGivesUpTheTopOfItsPages) {
  heap h(options(64_MiB));
  constexpr std::size_t size = 2048;
  constexpr unsigned slots = 64, spans = 32;
  shared_array<void*> pointers(slots * spans);
  const auto malloc_first = [&](std::uint32_t n) {  // by one warp, a lane each
    for (std::uint32_t i = 0; i < n; i += 32)
      launch(1, 32, malloc_all, device_heap(h.device()), pointers.data() + i, 32u, size);
    synchronize();
  };
  malloc_first(slots * spans);
  std::sort(pointers.begin(), pointers.end());
  void* const middle = pointers[pointers.size() / 2];
  ASSERT_NE(pointers[0], nullptr);
  ASSERT_EQ(h.stats().device.spans, spans);
  // Span by span, in an order that takes no notice of addresses.
  std::vector<unsigned> order(spans);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  shared_array<void*> freed(pointers.size());
  for (unsigned i = 0; i < spans; ++i)
    std::copy_n(pointers.begin() + slots * order[i], slots, freed.begin() + slots * i);
  launch(1, 1, free_one_by_one, device_heap(h.device()), freed.data(), slots * spans);
  synchronize();
  const heap_stats half = h.stats();
  EXPECT_EQ(half.device.spans, spans / 2);
  // The lower half is what the class has kept.
  malloc_first(slots * spans / 2);
  EXPECT_EQ(h.stats().device_grows, half.device_grows);
  for (std::uint32_t i = 0; i < slots * spans / 2; ++i) EXPECT_LT(pointers[i], middle);
  launch(1, 1, free_one_by_one, device_heap(h.device()), pointers.data(), slots * spans / 2);
  synchronize();
  expect_empty(h);
}

/// A lane's objects come and go, all of them each time.
__global__ void up_and_down(device_heap heap, unsigned cycles, std::size_t size) {
  constexpr unsigned each = 16;
  void* mine[each];
  for (unsigned c = 0; c < cycles; ++c) {
    for (void*& p : mine) p = heap.malloc(size);
    for (void* p : mine) heap.free(p);
  }
}

TEST_F(DevicePages, ALoadThatGoesUpAndDownKeepsItsPages) {
  heap h(options(256_MiB));
  for (const std::size_t size : {std::size_t{64}, std::size_t{2048}}) {
    const unsigned grid = size < 2048 ? 16 : 1;
    constexpr unsigned cycles = testing::sanitized ? 4 : 20;
    launch(grid, wide_block, up_and_down, device_heap(h.device()), 2u, size);
    synchronize();
    const heap_stats first = h.stats();
    launch(grid, wide_block, up_and_down, device_heap(h.device()), cycles, size);
    synchronize();
    const heap_stats later = h.stats();
    // If each span that becomes empty went back at once, each block would make its spans anew in
    // every cycle.
    const unsigned cls = size_to_class(size);
    const std::uint64_t spans_of_a_block = std::uint64_t{wide_block} * 16 / (64 * span_words(cls));
    EXPECT_LE(later.device_grows - first.device_grows, grid * cycles * spans_of_a_block / 4)
        << size;
    EXPECT_LE(later.host_requests - first.host_requests, 8u) << size;
  }
  expect_empty(h);
}

}  // namespace
}  // namespace warpheap
