// Events of observed kernels: one by one, in the trace, and where the ring is full.
#include <unistd.h>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "observed.cuh"

namespace warpheap {
namespace {

class DeviceEvents : public DeviceTest {};

__global__ void realloc_one(device_heap heap, void** p, std::size_t size) {
  *p = heap.realloc(*p, size);
}

TEST_F(DeviceEvents, EventsSayWhatHappened) {
  heap_options o = quiet_options(64_MiB);
  o.device_events = 1000;
  heap h(o);
  shared_array<void*> pointers(64);
  launch(2, 32, malloc_all, device_heap(h.device()), pointers.data(), 64, std::size_t{48});
  synchronize();
  launch(1, 1, free_same, device_heap(h.device()), pointers[7]);
  synchronize();
  device_events taken = h.take_device_events();
  ASSERT_EQ(taken.events.size(), 65u);
  EXPECT_EQ(taken.lost, 0u);
  std::set<std::uint64_t> addresses;
  std::set<std::uint32_t> warps;
  for (std::size_t i = 0; i < 64; ++i) {
    const device_event& e = taken.events[i];
    EXPECT_EQ(e.op, device_op::malloc);
    EXPECT_EQ(e.bytes, 48u);
    EXPECT_EQ(e.cls, size_to_class(48));
    EXPECT_NE(e.clock_ns, 0u);
    addresses.insert(e.address);
    warps.insert(e.warp);
  }
  for (void* p : pointers) EXPECT_EQ(addresses.count(reinterpret_cast<std::uint64_t>(p)), 1u);
  EXPECT_EQ(warps, (std::set<std::uint32_t>{0, 1}));
  EXPECT_EQ(taken.events[64].op, device_op::free);
  EXPECT_EQ(taken.events[64].address, reinterpret_cast<std::uint64_t>(pointers[7]));
  EXPECT_TRUE(h.take_device_events().events.empty());

  // In place, moved, and without memory for it.
  pointers[0] = nullptr;
  launch(1, 1, realloc_one, device_heap(h.device()), pointers.data(), std::size_t{100000});
  launch(1, 1, realloc_one, device_heap(h.device()), pointers.data(), std::size_t{50000});
  launch(1, 1, realloc_one, device_heap(h.device()), pointers.data(), std::size_t{100});
  launch(1, 1, realloc_one, device_heap(h.device()), pointers.data() + 1, std::size_t{1} << 40);
  synchronize();
  std::vector<device_op> ops;
  for (const device_event& e : h.take_device_events().events) ops.push_back(e.op);
  EXPECT_EQ(ops, (std::vector<device_op>{device_op::malloc, device_op::resize, device_op::malloc,
                                         device_op::free, device_op::failure}));
  h.reset();
}

__global__ void fail_in_every_way(device_heap heap, void** p) {
  void* out[1];
  (void)heap.malloc(7);
  (void)heap.malloc(100);
  (void)heap.malloc(32768);
  (void)heap.malloc(32769);
  (void)heap.malloc<48, 64>();
  (void)heap.malloc_n(200, 1, out);
  (void)heap.calloc(~std::size_t{0}, 2);
  (void)heap.aligned_alloc(512, 300);
  (void)heap.aligned_alloc(3, 300);
  (void)heap.realloc(p[0], 2000);
}

TEST_F(DeviceEvents, FailuresHaveTheSizeAndTheClassThatWereAskedFor) {
  heap_options o = quiet_options(8_MiB);
  o.device_events = 100;
  heap h(o);
  // All pages go to objects of 64 bytes, whose spans have one page.
  const std::uint32_t n = 8_MiB / 64;
  shared_array<void*> pointers(n);
  launch(blocks_for(n, 128), 128, malloc_all, device_heap(h.device()), pointers.data(), n,
         std::size_t{64});
  synchronize();
  ASSERT_NE(std::count(pointers.begin(), pointers.end(), nullptr), 0) << "the heap is not full";
  (void)h.take_device_events();
  const heap_stats before = h.stats();
  launch(1, 1, fail_in_every_way, device_heap(h.device()),
         std::find_if(pointers.begin(), pointers.end(), [](void* p) { return p != nullptr; }));
  synchronize();

  using asked = std::pair<std::uint64_t, unsigned>;
  const std::vector<asked> want = {{7, tiny_blocks},
                                   {100, size_to_class(100)},
                                   {32768, size_to_class(32768)},
                                   {32769, large_class},
                                   {48, size_to_class(64)},
                                   {200, size_to_class(200)},
                                   {~std::uint64_t{0}, large_class},
                                   {300, size_to_class(512)},
                                   {300, large_class},
                                   {2000, size_to_class(2000)}};
  std::vector<asked> got;
  std::map<unsigned, std::uint64_t> failures;
  for (const device_event& e : h.take_device_events().events) {
    if (e.op == device_op::malloc) ADD_FAILURE() << e.bytes << " bytes from a full heap";
    if (e.op != device_op::failure) continue;
    got.emplace_back(e.bytes, e.cls);
    ++failures[e.cls];
  }
  EXPECT_EQ(got, want);
  const heap_stats after = h.stats();
  for (unsigned cls = 0; cls < counted_classes; ++cls)
    EXPECT_EQ(after.device_classes[cls].failures - before.device_classes[cls].failures,
              failures[cls])
        << "class " << cls;
  h.reset();
}

TEST_F(DeviceEvents, FullRingLosesLaterEventsAndCountsThem) {
  heap_options o = options(64_MiB);
  o.device_events = 100;
  heap h(o);
  constexpr std::uint32_t n = 5000;
  shared_array<void*> pointers(n);
  for (int round = 0; round < 3; ++round) {
    launch(blocks_for(n, 128), 128, malloc_all, device_heap(h.device()), pointers.data(), n,
           std::size_t{64});
    launch(blocks_for(n, 128), 128, free_all, device_heap(h.device()), pointers.data(), n);
    synchronize();
    EXPECT_NE(h.state_text().find("100 of 100 wait for the host, 9900 lost"), std::string::npos);
    const device_events taken = h.take_device_events();
    ASSERT_EQ(taken.events.size(), 100u);
    EXPECT_EQ(taken.lost, 2 * n - 100u);
    for (const device_event& e : taken.events) {
      ASSERT_EQ(e.op, device_op::malloc);
      ASSERT_EQ(e.bytes, 64u);
    }
  }
  expect_empty(h);
  const heap_stats s = h.stats();
  EXPECT_EQ(sum_of(s, &class_stats::mallocs), 3u * n) << "counted all the same";
}

/// What a trace leaves alive, by side; fails when an address is handed out twice.
struct replay {
  std::map<std::uint64_t, std::uint64_t> kernels, host;
  std::uint64_t lost = 0;
  std::size_t lines = 0;

  explicit replay(const std::string& file) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line); ++lines) {
      std::istringstream words(line);
      std::string what, first;
      std::uint64_t bytes = 0;
      words >> what >> first >> bytes;
      const int base = what == "X" || what == "L" ? 10 : 16;
      const std::uint64_t p = first.empty() ? 0 : std::stoull(first, nullptr, base);
      if (what == "M" || what == "m") {
        const bool fresh = (what == "M" ? kernels : host).emplace(p, bytes).second;
        EXPECT_TRUE(fresh) << "twice at once: " << line;
      } else if (what == "R") {
        EXPECT_EQ(kernels.count(p), 1u) << line;
        kernels[p] = bytes;
      } else if (what == "F") {
        EXPECT_EQ(kernels.erase(p), 1u) << "not live: " << line;
      } else if (what == "f") {
        host.erase(p);
      } else if (what == "r") {
        kernels.clear();
        host.clear();
      } else if (what == "L") {
        lost += p;
      } else {
        EXPECT_EQ(what, "X") << line;
      }
    }
  }
};

TEST_F(DeviceEvents, TraceReplaysToTheLiveSetOfBothSides) {
  const std::string file = testing::temporary_file("trace");
  constexpr std::uint32_t threads = 256;
  shared_array<void*> kept(threads * places);
  shared_array<void*> of_host(200);
  std::set<std::uint64_t> live, live_of_host;
  {
    heap_options o = options(128_MiB);
    o.trace_file = file;
    o.report_leaks = false;
    heap h(o);
    for (std::uint32_t run = 0; run < 4; ++run) {
      launch(threads / 64, 64, churn, device_heap(h.device()), kept.data(),
             static_cast<std::uint32_t>(warpheap::testing::scaled(150)), run);
      for (void*& p : of_host) p = h.malloc(1 + 7 * run);  // while kernels run
      synchronize();
      launch(blocks_for(100, 64), 64, free_all, device_heap(h.device()), of_host.data(), 100u);
      for (std::size_t i = run; i < kept.size(); i += 7) {
        h.free(kept[i]);
        kept[i] = nullptr;
      }
      h.synchronize();
      for (std::size_t i = 100; i < 200; ++i)
        live_of_host.insert(reinterpret_cast<std::uint64_t>(of_host[i]));
    }
    for (void* p : kept)
      if (p != nullptr) live.insert(reinterpret_cast<std::uint64_t>(p));
    EXPECT_EQ(h.stats().device.live_objects, live.size());
  }
  const replay r(file);
  EXPECT_EQ(r.lost, 0u);
  EXPECT_GT(r.lines, 1000u);
  std::set<std::uint64_t> replayed, replayed_of_host;
  for (const auto& [p, bytes] : r.kernels) replayed.insert(p);
  for (const auto& [p, bytes] : r.host) replayed_of_host.insert(p);
  EXPECT_EQ(replayed, live);
  EXPECT_EQ(replayed_of_host, live_of_host);
  std::filesystem::remove(file);
}

/// Few slots for many warps: they are freed and taken over and over.
__global__ void reuse(device_heap heap, std::uint32_t rounds) {
  random_numbers random(thread_number());
  for (std::uint32_t i = 0; i < rounds; ++i) {
    const std::size_t size = random.below(3) == 0 ? 5 : 1024;
    void* p = heap.malloc(size);
    void* q = random.below(2) == 0 ? heap.malloc(40000) : nullptr;
    heap.free(p);
    heap.free(q);
  }
}

TEST_F(DeviceEvents, FreesComeBeforeTheNextMallocInTheirPlace) {
  const std::string file = testing::temporary_file("reuse");
  {
    heap_options o = options(64_MiB);
    o.trace_file = file;
    heap h(o);
    for (int run = 0; run < 3; ++run)
      launch(16, 64, reuse, device_heap(h.device()),
             static_cast<std::uint32_t>(warpheap::testing::scaled(100)));
    h.synchronize();
    expect_identities(h.stats());
  }
  const replay r(file);
  EXPECT_EQ(r.lost, 0u);
  EXPECT_TRUE(r.kernels.empty());
  std::filesystem::remove(file);
}

TEST_F(DeviceEvents, TwoThreadsThatSynchronizeWriteEachEventOnce) {
  const std::string file = testing::temporary_file("two_threads");
  constexpr std::uint32_t n = 128;
  shared_array<void*> p(n);
  {
    heap_options o = options(64_MiB);
    o.trace_file = file;
    heap h(o);
    for (long round = 0; round < testing::scaled(50); ++round) {
      launch(2, 64, malloc_all, device_heap(h.device()), p.data(), n, std::size_t{64});
      launch(2, 64, free_all, device_heap(h.device()), p.data(), n);
      synchronize();
      std::thread other([&] { h.synchronize(); });
      h.synchronize();
      other.join();
    }
  }
  const replay r(file);
  EXPECT_EQ(r.lost, 0u);
  EXPECT_EQ(r.lines, 2 * n * static_cast<std::size_t>(testing::scaled(50)));
  EXPECT_TRUE(r.kernels.empty());
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace warpheap
