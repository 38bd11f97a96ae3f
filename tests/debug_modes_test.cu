// Objects of the host in debug modes, used and freed by kernels.
#include "device_fixture.cuh"

#include <cstring>
#include <vector>

namespace warpheap {
namespace {

class DebugModes : public DeviceTest {};

std::vector<heap_options> all_modes(heap_options plain) {
  std::vector<heap_options> all(6, plain);
  all[0].red_zones = true;
  all[1].quarantine_bytes = 50000;
  all[2].clobber_free = all[2].annotate = true;
  all[3].sbrk = true;
  all[4].profile_rate = 1;
  all[5].red_zones = all[5].clobber_free = all[5].annotate = true;
  all[5].quarantine_bytes = 50000;
#ifndef __CUDACC__
  all.push_back(plain);
  all.back().efence = true;
#endif
  return all;
}

__global__ void add_one(unsigned char** objects, std::uint32_t n, std::uint32_t bytes) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  for (std::uint32_t k = 0; k < bytes; ++k) ++objects[i][k];
}

TEST_F(DebugModes, KernelsUseAndFreeObjectsOfTheHost) {
  constexpr std::uint32_t n = 300;
  shared_array<unsigned char*> objects(n);
  shared_array<void*> pointers(n);
  for (const heap_options& o : all_modes(options(testing::sanitized ? 24_MiB : 64_MiB))) {
    heap h(o);
    for (const std::uint32_t bytes : {3u, 24u, 100u, 5000u}) {
      for (std::uint32_t i = 0; i < n; ++i) {
        objects[i] = static_cast<unsigned char*>(h.malloc(bytes));
        ASSERT_NE(objects[i], nullptr);
        std::memset(objects[i], static_cast<int>(i), bytes);
        pointers[i] = objects[i];
      }
      launch(blocks_for(n, 128), 128, add_one, objects.data(), n, bytes);
      synchronize();
      for (std::uint32_t i = 0; i < n; ++i)
        ASSERT_EQ(objects[i][bytes - 1], static_cast<unsigned char>(i + 1));
      launch(blocks_for(n, 128), 128, free_all, device_heap(h.device()), pointers.data(), n);
      h.synchronize();
      if (!o.sbrk) {
        for (std::uint32_t i = 0; i < n; ++i) ASSERT_EQ(h.usable_size(objects[i]), 0u);
      }
    }
    EXPECT_TRUE(h.errors().empty());
  }
}

// What layers find when kernels' frees are collected is found under a lock, and said without it.
TEST_F(DebugModes, AReportOfAKernelsFreeMayUseTheHeap) {
  for (const bool quarantine : {false, true}) {
    heap* used = nullptr;
    std::vector<std::string> lines;
    heap_options o = options(64_MiB);
    o.refill_service = false;
    o.quarantine_bytes = quarantine ? 1000 : 0;
    o.red_zones = !quarantine;
    o.on_report = [&](const std::string& line) {
      lines.push_back(line);
      used->free(used->malloc(100));
      (void)used->stats();
      (void)used->trim();
    };
    heap h(o);
    used = &h;
    shared_array<void*> pointers(2);
    for (void*& p : pointers) p = h.malloc(600);
    auto* const damaged = static_cast<unsigned char*>(pointers[0]);
    if (quarantine) {
      h.free(damaged);
      pointers[0] = h.malloc(600);
    }
    damaged[quarantine ? 10 : 600] = 1;
    launch(1, 32, free_all, device_heap(h.device()), pointers.data(), 2);
    h.synchronize();
    ASSERT_EQ(lines.size(), 1u) << quarantine;
    EXPECT_NE(lines[0].find(quarantine ? "freed" : "outside"), std::string::npos) << lines[0];
    EXPECT_EQ(h.errors().size(), 1u);
  }
}

TEST_F(DebugModes, ObjectsOfKernelsPassThrough) {
  constexpr std::uint32_t n = 300;
  shared_array<void*> pointers(n);
  for (const heap_options& o : all_modes(options(64_MiB))) {
    heap h(o);
    launch(blocks_for(n, 128), 128, malloc_all, device_heap(h.device()), pointers.data(), n,
           std::size_t{100});
    synchronize();
    for (void* p : pointers) {
      ASSERT_NE(p, nullptr);
      std::memset(p, 1, 100);
      h.free(p);
    }
    EXPECT_EQ(h.stats().device.live_objects, 0u);
    EXPECT_TRUE(h.errors().empty());
  }
}

/// Writes to each page: all of it takes sanitizers seconds.
void touch(void* p, std::size_t n) {
  for (std::size_t i = 0; i < n; i += 4096) static_cast<char*>(p)[i] = 1;
  static_cast<char*>(p)[n - 1] = 1;
}

TEST_F(DebugModes, PagesGoBackAndForth) {
  constexpr std::uint32_t n = 200;
  shared_array<void*> pointers(n);
  for (const heap_options& o : all_modes(options(testing::sanitized ? 32_MiB : 64_MiB))) {
    if (o.sbrk) continue;
    heap h(o);
    for (int round = 0; round < (testing::sanitized ? 1 : 2); ++round) {
      // All that the host can have, then all that kernels can.
      std::vector<void*> objects;
      for (void* p = nullptr; objects.size() < 400 && (p = h.malloc(100000)) != nullptr;) {
        touch(p, 100000);
        objects.push_back(p);
      }
      ASSERT_GT(objects.size(), 100u);
      for (void* p : objects) h.free(p);
      h.reset();
      launch(blocks_for(n, 128), 128, malloc_all, device_heap(h.device()), pointers.data(), n,
             std::size_t{200000});
      synchronize();
      std::uint32_t made = 0;
      for (void* p : pointers) {
        if (p == nullptr) continue;
        touch(p, 200000);
        ++made;
        h.free(p);
      }
      EXPECT_GT(made, 20u);
      h.synchronize();
      (void)h.trim();
    }
  }
}

}  // namespace
}  // namespace warpheap
