// One heap for both sides: frees across sides, growth while kernels run, the service stopped,
// trim, reset, leaks, several heaps, bad options.
#include "device_fixture.cuh"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace warpheap {
namespace {

class Heap : public DeviceTest {};

TEST_F(Heap, HostFreesObjectsOfKernels) {
  heap h(options(64_MiB));
  constexpr std::uint32_t n = 3000;
  shared_array<void*> pointers(n);
  for (const std::size_t size : {std::size_t{3}, std::size_t{24}, std::size_t{5000}}) {
    launch(blocks_for(n, 128), 128, malloc_all, device_heap(h.device()), pointers.data(), n, size);
    synchronize();
    EXPECT_EQ(h.stats().device.live_objects, n);
    for (void* p : pointers) {
      ASSERT_NE(p, nullptr);
      std::memset(p, 1, size);
      h.free(p);
    }
    expect_empty(h);
  }
  EXPECT_TRUE(h.errors().empty());
}

TEST_F(Heap, KernelsFreeObjectsOfTheHost) {
  heap h(options(64_MiB));
  constexpr std::uint32_t n = 3000;
  shared_array<void*> pointers(n);
  for (const std::size_t size :
       {std::size_t{3}, std::size_t{24}, std::size_t{5000}, std::size_t{40000}}) {
    const std::uint32_t some = size > 32768 ? n / 10 : n;
    for (std::uint32_t i = 0; i < some; ++i) {
      pointers[i] = h.malloc(size);
      ASSERT_NE(pointers[i], nullptr);
    }
    EXPECT_EQ(h.stats().host.live_objects, some);
    launch(blocks_for(some, 128), 128, free_all, device_heap(h.device()), pointers.data(), some);
    synchronize();
    expect_empty(h);
  }
  EXPECT_TRUE(h.errors().empty());
}

TEST_F(Heap, WrongFreesAcrossSidesAreReported) {
  heap h(quiet_options(64_MiB));
  shared_array<void*> pointers(2);
  // A kernel frees an object of the host twice, and an address inside another.
  char* object = static_cast<char*>(h.malloc(100));
  char* other = static_cast<char*>(h.malloc(100));
  pointers[0] = object;
  pointers[1] = other + 4;
  launch(1, 2, free_all, device_heap(h.device()), pointers.data(), 2u);
  synchronize();
  launch(1, 1, free_all, device_heap(h.device()), pointers.data(), 1u);
  synchronize();
  heap_stats s = h.stats();
  EXPECT_EQ(errors(s, error_kind::double_free), 1u);
  EXPECT_EQ(errors(s, error_kind::interior_pointer), 1u);
  h.free(other);
  // The host frees an object of a kernel twice, and an address inside it.
  launch(1, 1, malloc_all, device_heap(h.device()), pointers.data(), 1u, std::size_t{100});
  synchronize();
  h.free(pointers[0]);
  h.free(static_cast<char*>(pointers[0]) + 1);
  h.free(pointers[0]);
  s = h.stats();
  EXPECT_EQ(errors(s, error_kind::double_free), 2u);
  EXPECT_EQ(errors(s, error_kind::interior_pointer), 2u);
  // Addresses that are nobody's.
  int local = 0;
  h.free(&local);
  h.free(nullptr);
  h.free(h.malloc(0));
  EXPECT_EQ(errors(h.stats(), error_kind::foreign_pointer), 1u);
  expect_empty(h);
}

/// Keeps allocating while the host frees what it gets.
__global__ void produce(device_heap heap, void** out, std::uint32_t per_lane, std::size_t size) {
  for (std::uint32_t i = 0; i < per_lane; ++i)
    out[thread_number() * per_lane + i] = heap.malloc(size);
}

TEST_F(Heap, HostUsesAndFreesWhileKernelsRun) {
  heap h(options(256_MiB));
  constexpr std::uint32_t lanes = 512, per_lane = 50;
  shared_array<void*> first(lanes * per_lane), second(lanes * per_lane);
  launch(blocks_for(lanes, 64), 64, produce, device_heap(h.device()), first.data(), per_lane,
         std::size_t{200});
  synchronize();
  launch(blocks_for(lanes, 64), 64, produce, device_heap(h.device()), second.data(), per_lane,
         std::size_t{200});
  for (void* p : first) {
    h.free(p);
    h.free(h.malloc(64));
  }
  synchronize();
  EXPECT_EQ(h.stats().device.live_objects, lanes * per_lane);
  for (void* p : second) {
    ASSERT_NE(p, nullptr);
    h.free(p);
  }
  expect_empty(h);
}

TEST_F(Heap, GrowsWhileAKernelRuns) {
  heap_options o = options(256_MiB);
  o.initial_stock_bytes = 1_MiB;
  heap h(o);
  constexpr std::uint32_t n = 100000;
  shared_array<void*> pointers(n);
  launch(blocks_for(n, 256), 256, malloc_all, device_heap(h.device()), pointers.data(), n,
         std::size_t{1024});
  synchronize();
  for (void* p : pointers) ASSERT_NE(p, nullptr);
  const heap_stats s = h.stats();
  EXPECT_EQ(s.device.live_objects, n);
  EXPECT_GE(s.device.span_bytes, n * 1024u);
  EXPECT_GT(s.host_requests, 0u);
  launch(blocks_for(n, 256), 256, free_all, device_heap(h.device()), pointers.data(), n);
  synchronize();
  expect_empty(h);
  h.trim();
  EXPECT_EQ(h.stats().stock_bytes, 0u);
  EXPECT_EQ(h.stats().page_bytes, 0u);
}

TEST_F(Heap, FewRequestsToTheHostForAMillionSmallObjects) {
  heap h(options(512_MiB));
  const auto n = static_cast<std::uint32_t>(testing::scaled(1000000));
  shared_array<void*> pointers(n);
  launch(blocks_for(n, 256), 256, malloc_all, device_heap(h.device()), pointers.data(), n,
         std::size_t{16});
  synchronize();
  const heap_stats s = h.stats();
  EXPECT_EQ(s.device.live_objects, n);
  EXPECT_LE(s.host_requests, 8u);
  std::uintptr_t low = UINTPTR_MAX, high = 0;
  for (void* p : pointers) {
    low = std::min(low, reinterpret_cast<std::uintptr_t>(p));
    high = std::max(high, reinterpret_cast<std::uintptr_t>(p) + 16);
  }
  if (n >= 1000000) {
    EXPECT_LE(static_cast<double>(high - low) / (16.0 * n), 1.2) << "address range over ideal";
  }
}

TEST_F(Heap, StoppedServiceMeansNullptrAtOnceAndNothingIsLost) {
  heap_options o = options(64_MiB);
  o.initial_stock_bytes = 2_MiB;
  o.refill_service = false;
  heap h(o);
  constexpr std::uint32_t n = 4000;
  shared_array<void*> pointers(n);
  const auto start = std::chrono::steady_clock::now();
  launch(blocks_for(n, 128), 128, malloc_all, device_heap(h.device()), pointers.data(), n,
         std::size_t{1024});
  synchronize();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  const auto got = static_cast<std::uint32_t>(
      std::count_if(pointers.begin(), pointers.end(), [](void* p) { return p != nullptr; }));
  // All of the stock, but for a run or two that warps which grew at once have left between them.
  EXPECT_LE(got, 2048u);
  EXPECT_GE(got, 1900u);
  EXPECT_EQ(errors(h.stats(), error_kind::out_of_memory), n - got);
  launch(blocks_for(n, 128), 128, free_all, device_heap(h.device()), pointers.data(), n);
  synchronize();
  expect_empty(h);

  h.start_refill_service();
  launch(blocks_for(n, 128), 128, malloc_all, device_heap(h.device()), pointers.data(), n,
         std::size_t{1024});
  synchronize();
  for (void* p : pointers) ASSERT_NE(p, nullptr);
  h.stop_refill_service();
  launch(blocks_for(n, 128), 128, free_all, device_heap(h.device()), pointers.data(), n);
  synchronize();
  expect_empty(h);
}

TEST_F(Heap, MemoryFreedByTheHostReachesKernelsAtOnce) {
  heap h(options(16_MiB));
  void* most = h.malloc(12_MiB - 8_KiB);
  ASSERT_NE(most, nullptr);
  shared_array<void*> pointer(1);
  launch(1, 1, malloc_all, device_heap(h.device()), pointer.data(), 1u, std::size_t{8_MiB});
  synchronize();
  EXPECT_EQ(pointer[0], nullptr);
  h.free(most);
  launch(1, 1, malloc_all, device_heap(h.device()), pointer.data(), 1u, std::size_t{8_MiB});
  synchronize();
  EXPECT_NE(pointer[0], nullptr);
  h.free(pointer[0]);
  expect_empty(h);
}

TEST_F(Heap, ResetFreesEverythingOfBothSides) {
  heap h(options(64_MiB));
  shared_array<void*> pointers(1000);
  for (int round = 0; round < 3; ++round) {
    for (const std::size_t size : {5, 100, 3000, 50000}) {
      launch(8, 125, malloc_all, device_heap(h.device()), pointers.data(),
             size > 32768 ? 100u : 1000u, size);
      synchronize();
      for (int i = 0; i < 100; ++i) ASSERT_NE(h.malloc(size), nullptr);
    }
    EXPECT_GT(h.stats().device.live_objects, 3000u);
    h.reset();
    expect_empty(h);
    EXPECT_EQ(h.stats().page_bytes, 0u);
  }
}

TEST_F(Heap, LeaksAreCountedWhenTheHeapGoes) {
  heap_options o = options(16_MiB);
  std::vector<std::string> lines;
  o.on_report = [&](const std::string& line) { lines.push_back(line); };
  {
    heap h(o);
    shared_array<void*> pointers(5);
    launch(1, 5, malloc_all, device_heap(h.device()), pointers.data(), 5u, std::size_t{100});
    synchronize();
    (void)h.malloc(10);
    (void)h.malloc(1000);
  }
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("7 live objects"), std::string::npos) << lines[0];
  EXPECT_NE(lines[0].find("5 of kernels, 2 of the host"), std::string::npos) << lines[0];
}

TEST_F(Heap, ManyHeapsComeAndGo) {
  for (int i = 0; i < static_cast<int>(testing::scaled(200)); ++i) {
    heap h(options(8_MiB));
    void* p = h.malloc(100);
    ASSERT_NE(p, nullptr);
    h.free(p);
  }
  heap a(options(16_MiB)), b(options(16_MiB));
  shared_array<void*> pa(100), pb(100);
  launch(1, 100, malloc_all, device_heap(a.device()), pa.data(), 100u, std::size_t{64});
  launch(1, 100, malloc_all, device_heap(b.device()), pb.data(), 100u, std::size_t{64});
  synchronize();
  EXPECT_EQ(a.stats().device.live_objects, 100u);
  launch(1, 100, free_all, device_heap(a.device()), pa.data(), 100u);
  launch(1, 100, free_all, device_heap(b.device()), pb.data(), 100u);
  synchronize();
  expect_empty(a);
  expect_empty(b);
}

TEST_F(Heap, AHeapOfEightGiBIsThereAtOnce) {
  heap_options o = options(8_GiB);
  std::vector<double> ms;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    std::unique_ptr<heap> h;
    try {
      h = std::make_unique<heap>(o);
    } catch (const heap_error& error) {
      GTEST_SKIP() << "no heap of 8 GiB here: " << error.what();
    }
    ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
                     .count());
    void* p = h->malloc(100);
    ASSERT_NE(p, nullptr);
    h->free(p);
  }
  std::sort(ms.begin(), ms.end());
  EXPECT_LE(ms[2], testing::sanitized ? 500.0 : 10.0) << "median of 5";
}

TEST_F(Heap, HostCallsKeepTheirPromises) {
  heap h(options(64_MiB));
  EXPECT_EQ(h.malloc(SIZE_MAX), nullptr);
  EXPECT_EQ(h.calloc(SIZE_MAX / 2, 3), nullptr);
  EXPECT_EQ(h.aligned_alloc(3, 8), nullptr);
  EXPECT_EQ(h.aligned_alloc(0, 8), nullptr);
  auto* p = static_cast<unsigned char*>(h.calloc(10, 10));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(p[i], 0);
  std::memset(p, 7, 100);
  auto* q = static_cast<unsigned char*>(h.realloc(p, 5000));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(q[i], 7);
  EXPECT_GE(h.usable_size(q), 5000u);
  q = static_cast<unsigned char*>(h.realloc(q, 50));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(q[i], 7);
  EXPECT_EQ(h.realloc(q, 0), h.malloc(0));
  void* aligned = h.aligned_alloc(65536, 100);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(aligned) % 65536, 0u);
  h.free(aligned);
  void* fresh = h.realloc(nullptr, 20);
  ASSERT_NE(fresh, nullptr);
  h.free(fresh);
  expect_empty(h);
}

TEST_F(Heap, ReallocOfAKernelsObjectIsRefused) {
  heap h(quiet_options(16_MiB));
  shared_array<void*> pointer(1);
  launch(1, 1, malloc_all, device_heap(h.device()), pointer.data(), 1u, std::size_t{64});
  synchronize();
  EXPECT_EQ(h.realloc(pointer[0], 128), nullptr);
  EXPECT_EQ(h.stats().device.live_objects, 1u);
  h.free(pointer[0]);
  expect_empty(h);
}

TEST_F(Heap, ImpossibleOptionsSayWhatIsPossible) {
  const auto message = [&](std::size_t reserve) {
    try {
      heap h(options(reserve));
    } catch (const heap_error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(message(0).find("0 B was asked for; the least is 8 MiB"), std::string::npos);
  EXPECT_NE(message(SIZE_MAX).find("the most is 1 TiB"), std::string::npos);
  EXPECT_NE(message(1_GiB * 1023).find("has room for"), std::string::npos) << message(1_GiB * 1023);
}

TEST_F(Heap, ABackendThatIsNotThereSaysWhy) {
  if (why_no_cuda().empty()) GTEST_SKIP() << "needs a machine without a CUDA device";
  heap_options o;
  o.reserve_bytes = 16_MiB;
  o.backend = backend_kind::cuda;
  try {
    heap h(o);
    ADD_FAILURE() << "no error";
  } catch (const heap_error& error) {
    EXPECT_NE(std::string(error.what()).find(why_no_cuda()), std::string::npos) << error.what();
  }
  o.backend = backend_kind::automatic;
  heap h(o);
  EXPECT_EQ(h.backend_name(), "simt");
  EXPECT_EQ(h.backend_reason(), why_no_cuda());
}

/// A heap whose first malloc in a kernel makes the stock ask ahead, and whose service has answered
/// without anybody having looked at the reply.
std::unique_ptr<heap> heap_with_a_granted_reply(heap_options o) {
  o.initial_stock_bytes = 100 * 8_KiB;
  auto h = std::make_unique<heap>(o);
  shared_array<void*> p(1);
  launch(1, 1, malloc_all, device_heap(h->device()), p.data(), 1u, 8_KiB);
  synchronize();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  h->free(p[0]);
  return h;
}

TEST_F(Heap, PagesOnTheirWayAtAResetHaveOneOwner) {
  const auto h = heap_with_a_granted_reply(options(64_MiB));
  h->reset();
  std::vector<void*> host;
  while (void* p = h->malloc(40_KiB)) host.push_back(p);
  constexpr std::uint32_t n = 2000;
  shared_array<void*> device(n);
  launch(blocks_for(n, 128), 128, malloc_all, device_heap(h->device()), device.data(), n, 8_KiB);
  synchronize();
  std::sort(host.begin(), host.end());
  for (void* p : device) {
    if (p == nullptr) continue;
    const auto above = std::upper_bound(host.begin(), host.end(), p);
    EXPECT_TRUE(above == host.begin()
                || static_cast<char*>(p) >= static_cast<char*>(above[-1]) + 40_KiB)
        << "in use on both sides";
  }
  h->reset();
  h->trim();
  expect_empty(*h);
}

TEST_F(Heap, TrimTakesBackWhatWasGrantedAndNotLookedAt) {
  const auto h = heap_with_a_granted_reply(options(8_MiB));
  h->trim();
  void* most = h->malloc(1000 * 8_KiB);
  EXPECT_NE(most, nullptr) << "1000 of 1023 free pages cannot be had";
  h->free(most);
  expect_empty(*h);
}

TEST_F(Heap, AReportMayUseTheHeapAndThrow) {
  heap_options o = options(16_MiB);
  heap* used = nullptr;
  int calls = 0, local = 0;
  o.on_report = [&](const std::string&) {
    if (++calls == 1) used->free(&calls);  // another wrong free, from within the report
    throw std::runtime_error("from a report");
  };
  heap h(o);
  used = &h;
  ::testing::internal::CaptureStderr();
  h.free(&local);
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("on_report threw"), std::string::npos);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(errors(h.stats(), error_kind::foreign_pointer), 2u);
}

__global__ void free_one_then_take_all(device_heap heap, void* p, void** out, std::uint32_t n,
                                       std::size_t size) {
  heap.free(p);
  for (std::uint32_t i = 0; i < n; ++i) out[i] = heap.malloc(size);
}

/// All wrong frees. Of which kind one is depends on who looked first, and whose the page was then.
std::uint64_t wrong_frees(const heap_stats& s) {
  std::uint64_t sum = 0;
  for (unsigned kind = 0; kind < error_kinds; ++kind)
    if (static_cast<error_kind>(kind) != error_kind::out_of_memory) sum += s.errors[kind];
  return sum;
}

TEST_F(Heap, AFreeOfADeadHostObjectDoesNotHarmTheNextOneThere) {
  heap_options o = quiet_options(8_MiB);
  o.initial_stock_bytes = 0;
  heap h(o);
  // Objects of seven pages, laid from page 1 on, begin at page 512 as well, the host's first.
  constexpr std::uint32_t n = 146;
  constexpr std::size_t size = 56_KiB;
  shared_array<void*> p(n);
  void* dead = h.malloc(size);
  h.free(dead);
  // A kernel frees it once more, and takes its pages for itself.
  launch(1, 1, free_one_then_take_all, device_heap(h.device()), dead, p.data(), n, size);
  launch(1, 256, free_all, device_heap(h.device()), p.data(), n);
  synchronize();
  h.trim();
  const heap_stats s = h.stats();
  EXPECT_EQ(wrong_frees(s), 1u);
  // Every object that the host can have there is freed by a kernel without complaint.
  std::uint32_t live = 0;
  while (live < n && (p[live] = h.malloc(size)) != nullptr) ++live;
  EXPECT_TRUE(std::find(p.begin(), p.begin() + live, dead) != p.begin() + live);
  launch(1, 256, free_all, device_heap(h.device()), p.data(), live);
  synchronize();
  const heap_stats after = h.stats();
  EXPECT_EQ(wrong_frees(after), 1u);
  expect_empty(h);
}

TEST_F(Heap, TrimReturnsPagesOfArenasOfBothSides) {
  heap_options o = quiet_options(8_MiB);
  o.initial_stock_bytes = 0;
  heap h(o);
  // The host has something in its arena, hence kernels that take all there is are guests in it, and
  // what they give back runs across the border.
  void* pin = h.malloc(32_KiB);
  constexpr std::uint32_t n = 128;
  shared_array<void*> p(n);
  launch(1, 1, free_one_then_take_all, device_heap(h.device()), nullptr, p.data(), n,
         std::size_t{64_KiB});
  synchronize();
  EXPECT_GE(std::count_if(p.data(), p.data() + n, [](void* q) { return q != nullptr; }), 118);
  launch(1, 128, free_all, device_heap(h.device()), p.data(), n);
  synchronize();
  h.trim();
  EXPECT_EQ(h.stats().stock_bytes, 0u);
  void* most = h.malloc(3 * 1024_KiB);
  EXPECT_NE(most, nullptr);
  h.free(most);
  h.free(pin);
  expect_empty(h);
}

}  // namespace
}  // namespace warpheap
