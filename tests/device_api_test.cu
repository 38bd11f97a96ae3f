// What kernels have besides malloc and free: sizes known at compile time, many objects at once,
// calloc, realloc, aligned_alloc, usable_size, make and destroy.
#include "device_fixture.cuh"

#include <algorithm>
#include <set>

namespace warpheap {
namespace {

class DeviceApi : public DeviceTest {};

constexpr unsigned block_lanes = 128;
constexpr std::uint32_t threads = 512;

/// Adds 1 to *broken unless the condition holds.
__device__ inline void expect(bool holds, std::uint32_t* broken) {
  if (!holds) atomicAdd(broken, 1u);
}

/// n threads, in blocks of 128 where there are more.
template <class... Parameters, class... Arguments>
void run(std::uint32_t n, void (*kernel)(Parameters...), Arguments&&... arguments) {
  const unsigned in_block = std::min(n, block_lanes);
  launch(blocks_for(n, in_block), in_block, kernel, std::forward<Arguments>(arguments)...);
  synchronize();
}

/// Runs a kernel that has the heap as its first argument and what `expect` counts as its last;
/// returns the count.
template <class... Parameters, class... Arguments>
std::uint32_t broken_in(heap& h, std::uint32_t n, void (*kernel)(Parameters...),
                        Arguments&&... arguments) {
  shared_array<std::uint32_t> broken(1);
  run(n, kernel, device_heap(h.device()), std::forward<Arguments>(arguments)..., broken.data());
  return broken[0];
}

template <std::size_t Size>
__device__ void fixed_size(device_heap heap, std::uint32_t* broken) {
  void* p = heap.malloc<Size>();
  void* q = heap.malloc(Size);
  expect(p != nullptr && q != nullptr && p != q, broken);
  fill(p, Size, 1);
  fill(q, Size, 2);
  __syncwarp(__activemask());
  expect(intact(p, Size, 1) && intact(q, Size, 2), broken);
  heap.free(p);
  heap.free(q);
}

__global__ void fixed_sizes(device_heap heap, std::uint32_t* broken) {
  fixed_size<1>(heap, broken);
  fixed_size<7>(heap, broken);
  fixed_size<15>(heap, broken);
  fixed_size<16>(heap, broken);
  if (threadIdx.x % 3 == 0) fixed_size<24>(heap, broken);
  fixed_size<100>(heap, broken);
  fixed_size<1025>(heap, broken);
  if (threadIdx.x % 5 == 1) fixed_size<32768>(heap, broken);
  if (threadIdx.x % 31 == 7) fixed_size<32769>(heap, broken);
  expect(heap.malloc<0>() == heap.malloc(0), broken);
}

TEST_F(DeviceApi, SizesKnownAtCompileTime) {
  heap h(options(512_MiB));
  EXPECT_EQ(broken_in(h, threads, fixed_sizes), 0u);
  expect_empty(h);
}

constexpr unsigned most_at_once = 200;

/// Each lane takes up to `most` objects of a size of its own at once, several times.
__global__ void many_objects(device_heap heap, void** all, unsigned most, std::uint32_t* broken) {
  random_numbers random(thread_number());
  void** mine = all + std::size_t{thread_number()} * most_at_once;
  for (unsigned round = 0; round < 4; ++round) {
    std::size_t size = 16u << random.below(5);
    if (random.below(4) == 0) size = 1 + random.below(15);
    if (random.below(64) == 0) size = 33000;
    const unsigned n = size > 32768 ? 2 : random.below(most + 1);
    if (random.below(8) == 0) continue;
    const unsigned got = heap.malloc_n(size, n, mine);
    expect(got == n, broken);
    for (unsigned i = 0; i < got; ++i) fill(mine[i], size, i + round);
    for (unsigned i = 0; i < got; ++i) expect(intact(mine[i], size, i + round), broken);
    for (unsigned i = 0; i < got; ++i) heap.free(mine[(i + round) % got]);
  }
}

TEST_F(DeviceApi, ManyObjectsAtOnce) {
  heap h(quiet_options(512_MiB));
  shared_array<void*> pointers(std::size_t{threads} * most_at_once);
  for (const unsigned most : {1u, 3u, 64u, 65u, most_at_once})
    EXPECT_EQ(broken_in(h, threads, many_objects, pointers.data(), most), 0u);
  expect_empty(h);
}

/// Takes objects at once until there are no more; counts them.
__global__ void take_all(device_heap heap, std::size_t size, void** all, unsigned each,
                         std::uint32_t* got) {
  void** mine = all + std::size_t{thread_number()} * each;
  got[thread_number()] = heap.malloc_n(size, each, mine);
}
__global__ void free_taken(device_heap heap, void** all, unsigned each, const std::uint32_t* got) {
  void** mine = all + std::size_t{thread_number()} * each;
  for (unsigned i = 0; i < got[thread_number()]; ++i) heap.free(mine[i]);
}

TEST_F(DeviceApi, ManyObjectsAtOnceUntilMemoryIsOut) {
  heap h(quiet_options(16_MiB));
  constexpr unsigned each = 500;
  shared_array<void*> pointers(std::size_t{threads} * each);
  shared_array<std::uint32_t> got(threads);
  for (const std::size_t size : {std::size_t{8}, std::size_t{128}, std::size_t{8192},
                                 std::size_t{32768}, std::size_t{40000}}) {
    if (testing::sanitized && size == 8) continue;
    std::uint64_t first_total = 0;
    for (int round = 0; round < 2; ++round) {
      run(threads, take_all, device_heap(h.device()), size, pointers.data(), each, got.data());
      std::uint64_t total = 0;
      std::set<void*> distinct;
      for (std::uint32_t t = 0; t < threads; ++t)
        for (std::uint32_t i = 0; i < got[t]; ++i, ++total)
          distinct.insert(pointers[std::size_t{t} * each + i]);
      EXPECT_EQ(distinct.size(), total) << "an object was given out twice";
      // All that there is: what was not needed of a claim is never lost. Slots above 32 KiB are
      // whole pages.
      const std::size_t slot = size > max_small_size ? round_up_size(size) : size;
      const std::uint64_t possible =
          std::min<std::uint64_t>(std::uint64_t{threads} * each, (16_MiB - page_size) / slot);
      EXPECT_GE(total, possible * 98 / 100) << "size " << size;
      if (round == 0) first_total = total;
      EXPECT_GE(total * 100, first_total * 99) << "size " << size;
      run(threads, free_taken, device_heap(h.device()), pointers.data(), each, got.data());
      expect_empty(h);
    }
    h.trim();
  }
}

__global__ void calloc_after_dirt(device_heap heap, std::size_t size, std::uint32_t* broken) {
  void* dirt = heap.malloc(size);
  if (dirt != nullptr) fill(dirt, size, 3);
  heap.free(dirt);
  __syncwarp(__activemask());
  const std::size_t mine = size - (size > 64 ? threadIdx.x % 8 : 0);
  const auto* p = static_cast<const unsigned char*>(heap.calloc(mine, 1));
  expect(p != nullptr, broken);
  for (std::size_t i = 0; p != nullptr && i < mine; ++i) expect(p[i] == 0, broken);
  heap.free(const_cast<unsigned char*>(p));
}
__global__ void calloc_too_much(device_heap heap, std::uint32_t* broken) {
  expect(heap.calloc(SIZE_MAX / 2 + 1, 2) == nullptr, broken);
  expect(heap.calloc(SIZE_MAX, SIZE_MAX) == nullptr, broken);
  expect(heap.calloc(std::size_t{1} << 33, std::size_t{1} << 31) == nullptr, broken);
  expect(heap.calloc(0, 100) == heap.malloc(0) && heap.calloc(100, 0) == heap.malloc(0), broken);
}

TEST_F(DeviceApi, CallocGivesZeroes) {
  heap h(quiet_options(256_MiB));
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{7}, std::size_t{12}, std::size_t{24}, std::size_t{72},
        std::size_t{1000}, std::size_t{8192}, std::size_t{50000}})
    EXPECT_EQ(broken_in(h, threads, calloc_after_dirt, size), 0u);
  EXPECT_EQ(broken_in(h, 64, calloc_too_much), 0u);
  EXPECT_EQ(errors(h.stats(), error_kind::out_of_memory), 3u * 64u);
  expect_empty(h);
}

__device__ bool holds(const void* p, std::size_t n, std::uint32_t seed) {
  for (std::size_t i = 0; i < n; ++i)
    if (static_cast<const std::uint8_t*>(p)[i] != static_cast<std::uint8_t>(seed + i * 5))
      return false;
  return true;
}
__device__ void write(void* p, std::size_t n, std::uint32_t seed) {
  for (std::size_t i = 0; i < n; ++i)
    static_cast<std::uint8_t*>(p)[i] = static_cast<std::uint8_t>(seed + i * 5);
}

/// Objects that change their size at random, lanes of a warp in different ways and rounds.
__global__ void realloc_chain(device_heap heap, unsigned rounds, std::uint32_t* broken) {
  random_numbers random(thread_number());
  const std::uint32_t seed = thread_number() * 17;
  void* p = nullptr;
  std::size_t size = 0;
  for (unsigned r = 0; r < rounds + threadIdx.x % 3; ++r) {
    std::size_t wanted = 1 + random.below(15);
    if (const unsigned kind = random.below(8); kind >= 2)
      wanted = kind == 7 && threadIdx.x % 32 == 5 ? 20000 + random.below(60000)
                                                  : 16 + random.below(kind == 6 ? 6000 : 500);
    void* moved = heap.realloc(p, wanted);
    expect(moved != nullptr, broken);
    if (moved == nullptr) break;
    expect(holds(moved, size < wanted ? size : wanted, seed), broken);
    expect(wanted < 16 || heap.usable_size(moved) >= wanted, broken);
    write(moved, wanted, seed);
    p = moved;
    size = wanted;
  }
  expect(heap.realloc(p, 0) == heap.malloc(0), broken);
}

TEST_F(DeviceApi, ReallocKeepsTheContents) {
  heap h(options(512_MiB));
  EXPECT_EQ(broken_in(h, threads, realloc_chain, 40u), 0u);
  expect_empty(h);
  EXPECT_TRUE(h.errors().empty());
}

__global__ void realloc_in_place(device_heap heap, std::uint32_t* broken) {
  // Within a class, and down to half of it.
  void* p = heap.malloc(1000);
  expect(heap.realloc(p, 1024) == p && heap.realloc(p, 600) == p, broken);
  void* q = heap.realloc(p, 500);
  expect(q != p && q != nullptr, broken);
  expect(heap.realloc(heap.malloc(0), 500) != nullptr, broken);
  // Whole pages: the pages behind are the stock's.
  void* large = heap.malloc(40 * page_size);
  expect(heap.realloc(large, 10 * page_size) == large, broken);
  expect(heap.usable_size(large) == 10 * page_size, broken);
  expect(heap.realloc(large, 30 * page_size) == large, broken);
  expect(heap.usable_size(large) == 30 * page_size, broken);
  write(large, 30 * page_size, 9);
  // Something lies behind: it has to move.
  void* behind = heap.malloc(10 * page_size);
  void* moved = heap.realloc(large, 45 * page_size);
  expect(moved != nullptr && holds(moved, 30 * page_size, 9), broken);
  // No memory: the object stays as it is.
  expect(heap.realloc(moved, std::size_t{1} << 40) == nullptr, broken);
  expect(heap.realloc(moved, SIZE_MAX) == nullptr, broken);
  expect(holds(moved, 30 * page_size, 9), broken);
  heap.free(behind);
  heap.free(moved);
  heap.free(q);
}

TEST_F(DeviceApi, ReallocInPlace) {
  heap h(quiet_options(64_MiB));
  EXPECT_EQ(broken_in(h, 1, realloc_in_place), 0u);
  const heap_stats s = h.stats();
  EXPECT_EQ(s.device.live_objects, 1u);  // realloc of the 0-byte object
  EXPECT_EQ(s.device_large_objects, 0u);
  expect_sound(s);
}

/// Pointers that are no live objects of a kernel.
__global__ void wrong_pointers(device_heap heap, void* of_host, void* outside,
                               std::uint32_t* broken) {
  char* small = static_cast<char*>(heap.malloc(100));
  char* large = static_cast<char*>(heap.malloc(100000));
  char* freed = static_cast<char*>(heap.malloc(5000));
  char* tiny = static_cast<char*>(heap.malloc(8));
  char* freed_tiny = static_cast<char*>(heap.malloc(8));
  heap.free(freed);
  heap.free(freed_tiny);
  void* const wrong[] = {small + 1,  small + 8,         small + 112 * 3 + 4,
                         large + 1,  large + page_size, freed,
                         freed_tiny, of_host,           outside};
  for (void* p : wrong) {
    expect(heap.usable_size(p) == 0, broken);
    expect(heap.realloc(p, 50) == nullptr, broken);
    expect(heap.realloc(p, 0) == nullptr, broken);
  }
  expect(heap.usable_size(nullptr) == 0 && heap.usable_size(heap.malloc(0)) == 0, broken);
  expect(heap.usable_size(small) == 112 && heap.usable_size(large) == 13 * page_size, broken);
  expect(heap.usable_size(tiny) >= 1 && heap.usable_size(tiny) <= 16, broken);
  heap.free(small);
  heap.free(large);
  heap.free(tiny);
}

TEST_F(DeviceApi, PointersThatAreNoObjectsAreReported) {
  heap h(quiet_options(64_MiB));
  void* of_host = h.malloc(100);
  shared_array<int> outside(1);
  EXPECT_EQ(broken_in(h, 1, wrong_pointers, of_host, static_cast<void*>(outside.data())), 0u);
  EXPECT_EQ(errors(h.stats(), error_kind::not_allocated), 2u * 9u);
  EXPECT_EQ(h.usable_size(of_host), 112u) << "the host's object was touched";
  h.free(of_host);
  expect_empty(h);
}

__global__ void aligned(device_heap heap, std::uint32_t* broken) {
  random_numbers random(thread_number());
  for (unsigned shift = 0; shift <= 13; ++shift) {
    const std::size_t align = std::size_t{1} << shift;
    const std::size_t size = random.below(threadIdx.x % 16 == 0 ? 40000 : 300);
    void* p = heap.aligned_alloc(align, size);
    expect(p != nullptr && reinterpret_cast<std::uint64_t>(p) % align == 0, broken);
    if (p == nullptr) continue;
    fill(p, size, shift);
    __syncwarp(__activemask());
    expect(intact(p, size, shift), broken);
    expect(size < 16 || heap.usable_size(p) >= size, broken);
    heap.free(p);
  }
}
__global__ void aligned_above_pages(device_heap heap, std::uint32_t* broken) {
  for (unsigned shift = 14; shift <= 22; ++shift) {
    const std::size_t align = std::size_t{1} << shift;
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{20000}, align + 1}) {
      void* p = heap.aligned_alloc(align, size);
      expect(p != nullptr && reinterpret_cast<std::uint64_t>(p) % align == 0, broken);
      expect(heap.usable_size(p) == round_up_size((size > 32768 ? size : 32769)) || size <= 32768,
             broken);
      if (p != nullptr) fill(p, size, shift);
      expect(intact(p, size, shift), broken);
      heap.free(p);
    }
  }
}
__global__ void not_alignments(device_heap heap, std::uint32_t* broken) {
  for (const std::size_t align : {std::size_t{0}, std::size_t{3}, std::size_t{24}, SIZE_MAX})
    expect(heap.aligned_alloc(align, 64) == nullptr, broken);
  expect(heap.aligned_alloc(std::size_t{1} << 63, 64) == nullptr, broken);
  expect(heap.aligned_alloc(64, SIZE_MAX) == nullptr, broken);
  expect(heap.aligned_alloc(std::size_t{1} << 20, SIZE_MAX - 5) == nullptr, broken);
}

TEST_F(DeviceApi, AlignedAlloc) {
  heap h(quiet_options(256_MiB));
  EXPECT_EQ(broken_in(h, threads, aligned), 0u);
  expect_empty(h);
  EXPECT_EQ(broken_in(h, 2, aligned_above_pages), 0u);
  expect_empty(h);
  EXPECT_EQ(broken_in(h, 32, not_alignments), 0u);
  expect_empty(h);
  // What the ends of the longer runs gave back is all there.
  h.trim();
  EXPECT_EQ(h.stats().stock_bytes, 0u);
}

struct alignas(256) aligned_thing {
  unsigned value;
  std::uint32_t* destroyed;
  __device__ aligned_thing(unsigned v, std::uint32_t* d) : value(v), destroyed(d) {}
  __device__ ~aligned_thing() { atomicAdd(destroyed, 1u); }
};
struct alignas(8) tiny_thing {
  std::uint64_t value;
};

__global__ void things(device_heap heap, std::uint32_t* destroyed, std::uint32_t* broken) {
  aligned_thing* a = heap.make<aligned_thing>(thread_number(), destroyed);
  tiny_thing* t = heap.make<tiny_thing>(thread_number());
  expect(a != nullptr && reinterpret_cast<std::uint64_t>(a) % 256 == 0, broken);
  expect(t != nullptr && reinterpret_cast<std::uint64_t>(t) % 8 == 0, broken);
  __syncwarp(__activemask());
  expect(a->value == thread_number() && t->value == thread_number(), broken);
  heap.destroy(a);
  heap.destroy(t);
  heap.destroy(static_cast<aligned_thing*>(nullptr));
}

TEST_F(DeviceApi, MakeAlignsAsTheTypeWants) {
  heap h(options(64_MiB));
  shared_array<std::uint32_t> destroyed(1);
  EXPECT_EQ(broken_in(h, threads, things, destroyed.data()), 0u);
  EXPECT_EQ(destroyed[0], threads);
  expect_empty(h);
}

/// Every call there is, by whichever lanes happen to meet.
__global__ void all_calls_mixed(device_heap heap, unsigned rounds, std::uint32_t* broken) {
  random_numbers random(thread_number() + 77);
  constexpr unsigned slots = 4;
  void* p[slots] = {};
  std::size_t size[slots] = {};
  for (unsigned r = 0; r < rounds + threadIdx.x % 4; ++r) {
    const unsigned k = random.below(slots);
    if (p[k] != nullptr) {
      expect(holds(p[k], size[k], k), broken);
      if (random.below(2) == 0) {
        heap.free(p[k]);
        p[k] = nullptr;
        size[k] = 0;
        continue;
      }
    }
    const std::size_t wanted = 1 + random.below(random.below(3) == 0 ? 15 : 700);
    if (p[k] != nullptr || random.below(3) == 0) {
      p[k] = heap.realloc(p[k], wanted);
      size[k] = wanted < size[k] ? wanted : size[k];
      if (p[k] != nullptr) expect(holds(p[k], size[k], k), broken);
      size[k] = wanted;
    } else {
      switch (random.below(4)) {
        case 0: p[k] = heap.malloc<48>(), size[k] = 48; break;
        case 1: p[k] = heap.calloc(wanted, 1), size[k] = wanted; break;
        case 2: p[k] = heap.aligned_alloc(32, wanted), size[k] = wanted; break;
        default:
          size[k] = wanted;
          if (heap.malloc_n(wanted, 1, &p[k]) != 1) p[k] = nullptr;
      }
    }
    expect(p[k] != nullptr, broken);
    if (p[k] != nullptr) write(p[k], size[k], k);
  }
  for (unsigned k = 0; k < slots; ++k) heap.free(p[k]);
}

TEST_F(DeviceApi, AllCallsInDivergentLoops) {
  heap h(options(256_MiB));
  EXPECT_EQ(broken_in(h, 1024, all_calls_mixed, 100u), 0u);
  expect_empty(h);
  EXPECT_TRUE(h.errors().empty());
}

__global__ void bound_calls(std::uint32_t* broken, bool bound) {
  void* many[3] = {};
  void* p = device_malloc<40>();
  void* q = device_calloc(5, 8);
  p = device_realloc(p, 90);
  void* a = device_aligned_alloc(512, 20);
  const unsigned n = device_malloc_n(64, 3, many);
  expect((p != nullptr) == bound && (q != nullptr) == bound && (a != nullptr) == bound, broken);
  expect(n == (bound ? 3u : 0u) && device_usable_size(p) == (bound ? 96u : 0u), broken);
  for (void* m : many) device_free(m);
  device_free(p);
  device_free(q);
  device_free(a);
}

TEST_F(DeviceApi, TheBoundHeapHasTheSameCalls) {
  heap h(options(64_MiB));
  shared_array<std::uint32_t> broken(1);
  bind(h.device());
  run(threads, bound_calls, broken.data(), true);
  bind({});
  run(threads, bound_calls, broken.data(), false);
  EXPECT_EQ(broken[0], 0u);
  expect_empty(h);
}

}  // namespace
}  // namespace warpheap
