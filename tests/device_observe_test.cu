// Kernels that are observed: what they count and time, against what the heap holds.
#include <unistd.h>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "device_unobserved.hpp"
#include "observed.cuh"

namespace warpheap {
namespace {

class Observe : public DeviceTest {};

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
  const auto more = testing::scaled<std::uint32_t>(400000);
  shared_array<void*> tiny(more);
  unobserved_kernels::launch_malloc(h.device(), tiny.data(), more, 8);
  unobserved_kernels::launch_malloc(h.device(), tiny.data(), more, 1);
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
  const std::string file = testing::temporary_file("state");
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
