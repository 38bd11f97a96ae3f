// Kernels that are observed: what they count, time and log, against what the heap holds.
#define WARPHEAP_OBSERVE 1
#include <unistd.h>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "device_fixture.cuh"
#include "device_unobserved.hpp"

namespace warpheap {
namespace {

class Observe : public DeviceTest {};

std::uint64_t sum_of(const heap_stats& s, std::uint64_t class_stats::*figure) {
  std::uint64_t sum = 0;
  for (const class_stats& k : s.device_classes) sum += k.*figure;
  return sum;
}

/// What holds at rest when every kernel that used the heap was observed.
void expect_identities(const heap_stats& s) {
  for (unsigned cls = 1; cls < counted_classes; ++cls) {
    const class_stats& k = s.device_classes[cls];
    EXPECT_EQ(k.mallocs - k.frees, k.live_objects) << "class " << cls;
    if (cls < span_classes) {
      EXPECT_EQ(k.grows - k.retires, k.spans) << "class " << cls;
    }
  }
}

std::string temporary(const char* name) {
  return (std::filesystem::temp_directory_path()
          / (std::string("warpheap_observe_") + name + "_" + std::to_string(::getpid())))
      .string();
}

constexpr std::uint32_t places = 12;  // for each thread

/// All calls there are, on objects of all kinds; what is left at the end lies in `kept`.
__global__ void churn(device_heap heap, void** kept, std::uint32_t rounds, std::uint32_t seed) {
  random_numbers random(seed + thread_number());
  void** mine = kept + std::size_t{thread_number()} * places;
  for (std::uint32_t i = 0; i < rounds; ++i) {
    void*& p = mine[random.below(places - 4)];
    if (p != nullptr && random.below(4) != 0) {
      heap.free(p);
      p = nullptr;
      continue;
    }
    const std::uint32_t n = random.below(100) < 3  ? 30000 + random.below(100000)
                            : random.below(2) == 0 ? 1 + random.below(15)
                                                   : 16 + random.below(2000);
    switch (p != nullptr ? 9 : random.below(6)) {
      case 0: p = heap.malloc<24>(); break;
      case 1: p = heap.calloc(3, n / 3 + 1); break;
      case 2: p = heap.aligned_alloc(64, n); break;
      case 3: {
        const unsigned got = heap.malloc_n(n, 4, mine + places - 4);
        for (unsigned k = 0; k < got; ++k) {
          heap.free(mine[places - 4 + k]);
          mine[places - 4 + k] = nullptr;
        }
        break;
      }
      case 9:
        if (void* q = heap.realloc(p, n); q != nullptr) p = q;
        break;
      default: p = heap.malloc(n);
    }
  }
}

TEST_F(Observe, MallocsLessFreesAreTheLiveObjectsOfEachClass) {
  heap h(options(256_MiB));
  constexpr std::uint32_t threads = 512;
  shared_array<void*> kept(threads * places);
  std::uint64_t mallocs = 0;
  for (std::uint32_t run = 0; run < 3; ++run) {
    launch(threads / 64, 64, churn, device_heap(h.device()), kept.data(),
           static_cast<std::uint32_t>(warpheap::testing::scaled(200)), run);
    synchronize();
    const heap_stats s = h.stats();
    expect_identities(s);
    expect_sound(s);
    EXPECT_GT(s.device.live_objects, 0u);
    EXPECT_GT(sum_of(s, &class_stats::mallocs), mallocs);
    mallocs = sum_of(s, &class_stats::mallocs);
    EXPECT_EQ(s.device_malloc_latency.calls(), mallocs);
    EXPECT_EQ(s.device_free_latency.calls(), sum_of(s, &class_stats::frees));
    EXPECT_EQ(s.device_failure_latency.calls(), sum_of(s, &class_stats::failures));
    for (const unsigned cls : {tiny_blocks, large_class, unsigned(size_to_class(24))})
      EXPECT_GT(s.device_classes[cls].mallocs, 0u) << cls;
  }
  // The host's frees of kernels' objects count as well.
  for (std::size_t i = 0; i < kept.size() / 2; ++i) h.free(kept[i]);
  heap_stats s = h.stats();
  expect_identities(s);
  EXPECT_EQ(s.device_free_latency.calls(), sum_of(s, &class_stats::frees));
  EXPECT_GT(s.device.live_objects, 0u);
  h.reset();
  s = h.stats();
  EXPECT_EQ(s.device.live_objects, 0u);
  EXPECT_EQ(sum_of(s, &class_stats::mallocs), sum_of(s, &class_stats::frees));
  for (unsigned cls = 1; cls < counted_classes; ++cls)
    EXPECT_EQ(s.device_classes[cls].mallocs, s.device_classes[cls].frees) << cls;
}

TEST_F(Observe, SlowPathsOfAllKernelsAreCounted) {
  heap h(quiet_options(16_MiB));
  constexpr std::uint32_t n = 4000;
  shared_array<void*> pointers(n);
  unobserved_kernels::launch_malloc(h.device(), pointers.data(), n, 1024);
  const unsigned cls = size_to_class(1024);
  heap_stats s = h.stats();
  EXPECT_EQ(s.device_classes[cls].live_objects, n);
  EXPECT_EQ(s.device_classes[cls].grows, s.device_classes[cls].spans);
  EXPECT_EQ(s.device_classes[cls].failures, 0u);
  // Each word is read by a search at least once before objects come from it.
  EXPECT_GE(s.device_classes[cls].words_scanned, n / 64);
  EXPECT_EQ(s.device_classes[cls].mallocs, 0u) << "no kernel was observed";
  EXPECT_EQ(s.device_malloc_latency.calls(), 0u);

  unobserved_kernels::launch_free(h.device(), pointers.data(), n);
  synchronize();
  (void)h.trim();
  s = h.stats();
  EXPECT_EQ(s.device_classes[cls].spans, 0u);
  EXPECT_EQ(s.device_classes[cls].retires, s.device_classes[cls].grows);
  EXPECT_EQ(s.device_grows, sum_of(s, &class_stats::grows));
  EXPECT_EQ(s.device_retires, sum_of(s, &class_stats::retires));

  // More than there is: who gets nothing is counted, in his class.
  constexpr std::uint32_t many = 20000;
  shared_array<void*> all(many);
  unobserved_kernels::launch_malloc(h.device(), all.data(), many, 1024);
  s = h.stats();
  const auto failed = static_cast<std::uint64_t>(std::count(all.begin(), all.end(), nullptr));
  EXPECT_GT(failed, 0u);
  EXPECT_EQ(s.device_classes[cls].failures, failed);
  EXPECT_EQ(errors(s, error_kind::out_of_memory), failed);
  unobserved_kernels::launch_malloc(h.device(), pointers.data(), 1, 40_MiB);
  shared_array<void*> tiny(400000);
  unobserved_kernels::launch_malloc(h.device(), tiny.data(), 400000, 8);
  unobserved_kernels::launch_malloc(h.device(), tiny.data(), 400000, 1);
  s = h.stats();
  EXPECT_EQ(s.device_classes[large_class].failures, 1u);
  EXPECT_EQ(sum_of(s, &class_stats::failures), errors(s, error_kind::out_of_memory));
  h.reset();
}

TEST_F(Observe, FailuresAreTimedAndCounted) {
  heap h(quiet_options(16_MiB));
  constexpr std::uint32_t n = 20000;
  shared_array<void*> pointers(n);
  launch(blocks_for(n, 128), 128, malloc_all, device_heap(h.device()), pointers.data(), n,
         std::size_t{1024});
  const heap_stats s = h.stats();
  const auto failed =
      static_cast<std::uint64_t>(std::count(pointers.begin(), pointers.end(), nullptr));
  EXPECT_GT(failed, 0u);
  EXPECT_EQ(s.device_failure_latency.calls(), failed);
  EXPECT_EQ(s.device_malloc_latency.calls(), n - failed);
  EXPECT_GE(s.device_malloc_latency.quantile(1), s.device_malloc_latency.quantile(0.5));
  expect_identities(s);
  h.reset();
}

__global__ void free_same(device_heap heap, void* p) { heap.free(p); }

TEST_F(Observe, WrongFreesAreNoFrees) {
  heap h(quiet_options(64_MiB));
  shared_array<void*> pointers(3);
  for (const std::size_t size : {std::size_t{8}, std::size_t{100}, std::size_t{100000}}) {
    launch(1, 1, malloc_all, device_heap(h.device()), pointers.data(), 1, size);
    synchronize();
    const heap_stats before = h.stats();
    launch(1, 32, free_same, device_heap(h.device()), pointers[0]);  // 31 times too often
    launch(1, 1, free_same, device_heap(h.device()), pointers[0]);
    launch(1, 1, free_same, device_heap(h.device()), static_cast<void*>(&h));
    launch(1, 32, free_same, device_heap(h.device()), nullptr);
    const heap_stats s = h.stats();
    expect_identities(s);
    EXPECT_EQ(sum_of(s, &class_stats::frees), sum_of(before, &class_stats::frees) + 1) << size;
    EXPECT_EQ(s.device_free_latency.calls(), before.device_free_latency.calls() + 1);
  }
  // An object of the host is none of the device's classes.
  void* p = h.malloc(100);
  launch(1, 1, free_same, device_heap(h.device()), p);
  const heap_stats s = h.stats();
  EXPECT_EQ(s.device_classes[no_class].frees, 1u);
  EXPECT_EQ(s.host.live_objects, 0u);
}

__global__ void realloc_one(device_heap heap, void** p, std::size_t size) {
  *p = heap.realloc(*p, size);
}

TEST_F(Observe, EventsSayWhatHappened) {
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

TEST_F(Observe, FullRingLosesLaterEventsAndCountsThem) {
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

TEST_F(Observe, TraceReplaysToTheLiveSetOfBothSides) {
  const std::string file = temporary("trace");
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

TEST_F(Observe, FreesComeBeforeTheNextMallocInTheirPlace) {
  const std::string file = temporary("reuse");
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

TEST_F(Observe, ProfileHasWhatKernelsMade) {
  heap_options o = options(64_MiB);
  o.profile_rate = 1;
  heap h(o);
  constexpr std::uint32_t n = 1000;
  shared_array<void*> pointers(n);
  launch(blocks_for(n, 128), 128, malloc_all, device_heap(h.device()), pointers.data(), n,
         std::size_t{100});
  launch(blocks_for(n, 128), 128, free_all, device_heap(h.device()), pointers.data(), 400u);
  h.synchronize();
  const heap_profile p = h.profile();
  std::uint64_t allocs = 0, frees = 0;
  for (const heap_profile::bucket& b : p.buckets) {
    if (!b.stack.empty()) continue;
    EXPECT_EQ(b.object_bytes, 100u);
    allocs += b.allocs;
    frees += b.frees;
  }
  EXPECT_EQ(allocs, n);
  EXPECT_EQ(frees, 400u);
  EXPECT_NE(p.folded().find("kernels 60000\n"), std::string::npos) << p.folded();
  EXPECT_NE(p.pprof().find("kernels"), std::string::npos);
  h.reset();
  std::uint64_t ended = 0;
  for (const heap_profile::bucket& b : h.profile().buckets) ended += b.stack.empty() ? b.frees : 0;
  EXPECT_EQ(ended, n);
}

TEST_F(Observe, ObservedAndOtherKernelsShareAHeap) {
  heap h(options(64_MiB));
  constexpr std::uint32_t n = 1000;
  shared_array<void*> observed(n), others(n);
  launch(blocks_for(n, 128), 128, malloc_all, device_heap(h.device()), observed.data(), n,
         std::size_t{100});
  unobserved_kernels::launch_malloc(h.device(), others.data(), n, 100);
  const unsigned cls = size_to_class(100);
  heap_stats s = h.stats();
  EXPECT_EQ(s.device_classes[cls].live_objects, 2u * n);
  EXPECT_EQ(s.device_classes[cls].mallocs, n);
  unobserved_kernels::launch_free(h.device(), observed.data(), n);
  unobserved_kernels::launch_free(h.device(), others.data(), n);
  s = h.stats();
  EXPECT_EQ(s.device.live_objects, 0u);
  EXPECT_EQ(s.device_classes[cls].frees, 0u);
}

__global__ void use_bound(void** out) {
  out[threadIdx.x] = device_malloc(40);
  device_free(out[threadIdx.x]);
  out[threadIdx.x] = device_malloc<40>();
}

TEST_F(Observe, BoundHeapIsObserved) {
  heap h(options(64_MiB));
  shared_array<void*> out(32);
  bind(h.device());
  launch(1, 32, use_bound, out.data());
  synchronize();
  bind({});
  const heap_stats s = h.stats();
  EXPECT_EQ(s.device_classes[size_to_class(40)].mallocs, 64u);
  EXPECT_EQ(s.device_classes[size_to_class(40)].frees, 32u);
  h.reset();
}

TEST_F(Observe, StateIsTextForPeople) {
  const std::string file = temporary("state");
  {
    heap_options o = options(64_MiB);
    o.print_state_file = file;
    heap h(o);
    EXPECT_NE(h.state_text().find("no kernel was observed"), std::string::npos);
    shared_array<void*> pointers(1000);
    launch(8, 128, malloc_all, device_heap(h.device()), pointers.data(), 1000u, std::size_t{96});
    launch(1, 1, malloc_all, device_heap(h.device()), pointers.data(), 1u, std::size_t{500000});
    const std::string text = h.state_text();
    for (const char* part :
         {"live objects", "kernels, by class\n", "96", "pages", "stock: ", "service runs",
          "63 free", "latencies of observed kernels", "malloc           1001 calls", "up to "})
      EXPECT_NE(text.find(part), std::string::npos) << part << " is missing in\n" << text;
    h.stop_refill_service();
    EXPECT_NE(h.state_text().find("service does not run"), std::string::npos);
    h.reset();
  }
  std::ifstream in(file);
  std::stringstream all;
  all << in.rdbuf();
  EXPECT_NE(all.str().find("kernels, by class"), std::string::npos) << "written at the end";
  std::filesystem::remove(file);
}

TEST_F(Observe, JsonHasWhatStatsHave) {
  heap h(options(64_MiB));
  shared_array<void*> pointers(1000);
  launch(8, 128, malloc_all, device_heap(h.device()), pointers.data(), 1000u, std::size_t{96});
  const heap_stats s = h.stats();
  const nlohmann::json j = nlohmann::json::parse(to_json(s));
  EXPECT_EQ(j["schema"], heap_stats_schema);
  EXPECT_EQ(j["live_objects"], 1000);
  EXPECT_EQ(j["grows"], s.device_grows);
  ASSERT_EQ(j["classes"].size(), 1u) << "others have nothing to say";
  const nlohmann::json& k = j["classes"][0];
  EXPECT_EQ(k["class"], size_to_class(96));
  EXPECT_EQ(k["slot_bytes"], 96);
  EXPECT_EQ(k["mallocs"], 1000);
  EXPECT_EQ(k["frees"], 0);
  EXPECT_EQ(k["live_objects"], 1000);
  EXPECT_EQ(k["words_scanned"], s.device_classes[size_to_class(96)].words_scanned);
  std::uint64_t calls = 0;
  for (const auto& bucket : j["latency"]["malloc"]) calls += bucket.get<std::uint64_t>();
  EXPECT_EQ(calls, 1000u);
  EXPECT_TRUE(j["latency"]["free"].empty());
  EXPECT_EQ(j["errors"]["double free"], 0);
  h.reset();
}

TEST_F(Observe, QuantilesAreEndsOfBuckets) {
  latency_histogram h;
  EXPECT_EQ(h.calls(), 0u);
  h.buckets[0] = 1;   // 0
  h.buckets[4] = 98;  // 8..15
  h.buckets[10] = 1;  // 512..1023
  EXPECT_EQ(h.calls(), 100u);
  EXPECT_EQ(h.quantile(0), 0u);
  EXPECT_EQ(h.quantile(0.01), 0u);
  EXPECT_EQ(h.quantile(0.5), 15u);
  EXPECT_EQ(h.quantile(0.99), 15u);
  EXPECT_EQ(h.quantile(1), 1023u);
}

}  // namespace
}  // namespace warpheap
