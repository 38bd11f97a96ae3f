// A model of the heap beside the heap, on OS threads: objects whose contents follow from pointer
// and generation pass between warps, kernels of several streams and host threads, which free each
// other's, while the service refills. At rest every count is checked against the model and against
// a slow recount. WARPHEAP_TEST_SCALE scales the number of operations (1: six million).
//
// For the executor only: on CUDA, host code and kernels must not change one word at the same time.
#ifndef __CUDACC__

#include <algorithm>
#include <atomic>
#include <thread>

#include "device_fixture.cuh"

namespace warpheap {
namespace {

/// A place through which objects change hands: who takes a pointer out by exchange owns the object.
struct exchange_place {
  unsigned long long pointer;  ///< 0: empty
};

/// What an object is, in its first bytes; the rest follows from it.
struct object_header {
  std::uint32_t size;
  std::uint32_t generation;
};

inline constexpr std::uint32_t places = 512;

__device__ inline bool is_sound(const void* p, std::size_t most) {
  const auto* header = static_cast<const object_header*>(p);
  if (header->size < sizeof(object_header) || header->size > most) return false;
  return intact(header + 1, header->size - sizeof(object_header), header->generation);
}

__device__ inline void make_sound(void* p, std::uint32_t size, std::uint32_t generation) {
  auto* header = static_cast<object_header*>(p);
  header->size = size;
  header->generation = generation;
  fill(header + 1, size - sizeof(object_header), generation);
}

/// Mostly small, at times up to `most`.
__device__ inline std::uint32_t size_of_round(random_numbers& random, std::uint32_t most) {
  const std::uint32_t kind = random.below(32);
  const std::uint32_t limit = kind == 0 ? most : kind < 4 ? 2048 : 128;
  return static_cast<std::uint32_t>(sizeof(object_header)) + random.below(limit);
}

struct stress_counts {
  unsigned long long mallocs, frees, broken, out_of_memory;
};

/// Each lane: take, write, put into a place, and check and free what was there. Some are freed at
/// once, some by the lane that comes next, in whatever kernel, or by the host.
__global__ void pass_objects(device_heap heap, exchange_place* table, stress_counts* counts,
                             std::uint32_t rounds, std::uint32_t most, std::uint32_t seed) {
  random_numbers random(seed * 977 + thread_number());
  unsigned long long mallocs = 0, frees = 0, broken = 0, out_of_memory = 0;
  for (std::uint32_t r = 0; r < rounds; ++r) {
    const std::uint32_t size = size_of_round(random, most);
    void* p = heap.malloc(size);
    if (p != nullptr) {
      ++mallocs;
      make_sound(p, size, seed + r);
    } else {
      ++out_of_memory;
    }
    // Acquire and release: contents go with the pointer.
    void* other = reinterpret_cast<void*>(atomic::exchange<order::acq_rel, scope::system>(
        &table[random.below(places)].pointer, reinterpret_cast<unsigned long long>(p)));
    if (other == nullptr) continue;
    if (!is_sound(other, most + 128)) ++broken;
    heap.free(other);
    ++frees;
  }
  atomicAdd(&counts->mallocs, mallocs);
  atomicAdd(&counts->frees, frees);
  atomicAdd(&counts->broken, broken);
  atomicAdd(&counts->out_of_memory, out_of_memory);
}

class HeapStress : public DeviceTest {
 protected:
  /// The same on a host thread, with the host API. Frees objects of kernels, and kernels free its.
  static void pass_on_host(heap& h, exchange_place* table, std::uint64_t rounds, std::uint32_t most,
                           std::uint32_t seed, stress_counts& counts) {
    random_numbers random(seed);
    for (std::uint64_t r = 0; r < rounds; ++r) {
      const std::uint32_t size = size_of_round(random, most);
      void* p = h.malloc(size);
      if (p != nullptr) {
        ++counts.mallocs;
        make_sound(p, size, seed + static_cast<std::uint32_t>(r));
      } else {
        ++counts.out_of_memory;
      }
      auto& place = table[random.below(places)].pointer;
      void* other = reinterpret_cast<void*>(
          std::atomic_ref(place).exchange(reinterpret_cast<unsigned long long>(p)));
      if (other == nullptr) continue;
      if (!is_sound(other, most + 128)) ++counts.broken;
      h.free(other);
      ++counts.frees;
    }
  }

  static void add(stress_counts& to, const stress_counts& from) {
    to.mallocs += from.mallocs;
    to.frees += from.frees;
    to.broken += from.broken;
    to.out_of_memory += from.out_of_memory;
  }

  /// Runs about `operations` mallocs and frees in phases, with everything checked between them.
  static void run(heap_options o, std::uint64_t operations, std::uint32_t most) {
    constexpr unsigned streams = 3, blocks = 2, block = 64, threads = 2;
    constexpr std::uint32_t rounds = 40;
    constexpr std::uint64_t per_phase = 2ull * rounds * (streams * blocks * block + threads * 512);
    heap h(o);
    shared_array<exchange_place> table(places);
    shared_array<stress_counts> counts(1);
    std::uint64_t done = 0;
    stress_counts host_total{};
    for (std::uint32_t phase = 0; done < operations; ++phase) {
      stream s[streams];
      for (unsigned i = 0; i < streams; ++i)
        launch(s[i], blocks, block, pass_objects, device_heap(h.device()), table.data(),
               counts.data(), rounds, most, phase * streams + i + 1);
      stress_counts mine[threads] = {};
      std::thread helpers[threads];
      for (unsigned i = 0; i < threads; ++i)
        helpers[i] = std::thread([&, i] {
          pass_on_host(h, table.data(), rounds * 512, most, 1'000'000 + phase * threads + i,
                       mine[i]);
        });
      for (std::thread& helper : helpers) helper.join();
      h.synchronize();
      for (const stress_counts& c : mine) add(host_total, c);
      done += per_phase;

      // At rest: the model's figures are those of the recount, and every free slot is findable.
      ASSERT_EQ(counts[0].broken + host_total.broken, 0u) << "contents changed, phase " << phase;
      const std::uint64_t live =
          counts[0].mallocs + host_total.mallocs - counts[0].frees - host_total.frees;
      const heap_stats s_now = h.stats();
      expect_sound(s_now);
      ASSERT_EQ(s_now.device.live_objects + s_now.host.live_objects, live) << "phase " << phase;
      const auto in_table = static_cast<std::uint64_t>(std::count_if(
          table.begin(), table.end(), [](const exchange_place& p) { return p.pointer != 0; }));
      ASSERT_EQ(live, in_table) << "objects were lost, phase " << phase;
      for (unsigned kind = 0; kind < static_cast<unsigned>(error_kind::out_of_memory); ++kind)
        ASSERT_EQ(s_now.errors[kind], 0u) << to_string(static_cast<error_kind>(kind));
      if (phase % 16 == 15) h.trim();
    }
    for (exchange_place& place : table) h.free(reinterpret_cast<void*>(place.pointer));
    h.synchronize();
    expect_empty(h);
    const unsigned long long failed = counts[0].out_of_memory + host_total.out_of_memory;
    std::printf("%llu operations, %llu of %llu mallocs answered nullptr, %llu host requests\n",
                static_cast<unsigned long long>(counts[0].mallocs + host_total.mallocs
                                                + counts[0].frees + host_total.frees),
                failed, failed + counts[0].mallocs + host_total.mallocs,
                static_cast<unsigned long long>(h.stats().host_requests));
  }
};

TEST_F(HeapStress, ObjectsPassBetweenWarpsStreamsAndTheHost) {
  heap_options o = options(256_MiB);
  o.initial_stock_bytes = 0;  // all that kernels have comes by refills
  run(o, testing::scaled<std::uint64_t>(4'000'000), 20'000);
}

TEST_F(HeapStress, TheSameInAHeapThatIsTooSmall) {
  heap_options o = quiet_options(16_MiB);
  o.initial_stock_bytes = 0;
  o.refill_timeout_ns = 20'000'000;
  run(o, testing::scaled<std::uint64_t>(2'000'000), 60'000);
}

}  // namespace
}  // namespace warpheap

#endif
