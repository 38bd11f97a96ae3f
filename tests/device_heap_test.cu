// malloc and free in kernels: every size and call pattern, contents, errors.
#include "device_fixture.cuh"

#include <algorithm>
#include <set>

namespace warpheap {
namespace {

class DeviceHeap : public DeviceTest {};

constexpr unsigned block = 128;

__global__ void fill_all(void** pointers, const std::uint32_t* sizes, std::uint32_t n) {
  const std::uint32_t i = thread_number();
  if (i < n && pointers[i] != nullptr) fill(pointers[i], sizes[i], i);
}

__global__ void check_all(void** pointers, const std::uint32_t* sizes, std::uint32_t n,
                          std::uint32_t* broken) {
  const std::uint32_t i = thread_number();
  if (i < n && pointers[i] != nullptr && !intact(pointers[i], sizes[i], i)) atomicAdd(broken, 1u);
}

__global__ void malloc_sizes(device_heap heap, void** pointers, const std::uint32_t* sizes,
                             std::uint32_t n) {
  const std::uint32_t i = thread_number();
  if (i < n) pointers[i] = heap.malloc(sizes[i]);
}

/// Allocates objects of the given sizes, checks alignment, overlap and contents, frees them.
void round_trip(heap& h, const std::vector<std::uint32_t>& wanted) {
  const auto n = static_cast<std::uint32_t>(wanted.size());
  shared_array<void*> pointers(n);
  shared_array<std::uint32_t> sizes(n), broken(1);
  std::copy(wanted.begin(), wanted.end(), sizes.begin());
  const unsigned grid = blocks_for(n, block);
  launch(grid, block, malloc_sizes, device_heap(h.device()), pointers.data(), sizes.data(), n);
  launch(grid, block, fill_all, pointers.data(), sizes.data(), n);
  launch(grid, block, check_all, pointers.data(), sizes.data(), n, broken.data());
  synchronize();
  EXPECT_EQ(broken[0], 0u) << "objects overlap";
  for (std::uint32_t i = 0; i < n; ++i) {
    ASSERT_NE(pointers[i], nullptr) << "size " << sizes[i];
    const auto address = reinterpret_cast<std::uintptr_t>(pointers[i]);
    std::uint32_t alignment = sizes[i] & (0u - sizes[i]);
    alignment = std::min(alignment, sizes[i] > 32768 ? 8192u : sizes[i] < 16 ? 8u : 16u);
    if (alignment != 0) {
      EXPECT_EQ(address % alignment, 0u) << "size " << sizes[i];
    }
  }
  launch(grid, block, free_all, device_heap(h.device()), pointers.data(), n);
  synchronize();
}

TEST_F(DeviceHeap, EverySizeUpToSixtyFourKiB) {
  heap h(options(256_MiB));
  std::vector<std::uint32_t> sizes;
  for (std::uint32_t s = 1; s <= 1100; ++s) sizes.push_back(s);
  for (unsigned c = 1; c < num_classes; ++c)
    for (int d = -1; d <= 1; ++d) sizes.push_back(static_cast<std::uint32_t>(class_to_size(c) + d));
  for (std::uint32_t s = 32769; s <= 65537; s += 4096) sizes.push_back(s);
  round_trip(h, sizes);
  expect_empty(h);
  // Once more on used memory, in another order, so that sizes meet in other warps.
  std::reverse(sizes.begin(), sizes.end());
  round_trip(h, sizes);
  expect_empty(h);
}

TEST_F(DeviceHeap, OneSizeForWholeWarps) {
  heap h(options(256_MiB));
  for (const std::uint32_t size : {1u, 4u, 8u, 15u, 16u, 48u, 64u, 256u, 1024u, 8192u, 32768u})
    round_trip(h, std::vector<std::uint32_t>(1000, size));
  expect_empty(h);
}

TEST_F(DeviceHeap, ZeroBytesIsOneAddressThatFreeIgnores) {
  heap h(options(16_MiB));
  shared_array<void*> pointers(64);
  launch(1, 64, malloc_all, device_heap(h.device()), pointers.data(), 64u, std::size_t{0});
  synchronize();
  for (void* p : pointers) EXPECT_EQ(p, h.malloc(0));
  launch(1, 64, free_all, device_heap(h.device()), pointers.data(), 64u);
  synchronize();
  expect_empty(h);
  EXPECT_TRUE(h.errors().empty());
}

TEST_F(DeviceHeap, SizesNobodyHasAreNullptr) {
  heap h(options(16_MiB));
  shared_array<void*> pointers(32);
  for (const std::size_t size : {SIZE_MAX, SIZE_MAX - 8191, SIZE_MAX / 2, std::size_t{1} << 40,
                                 std::size_t{16} << 20, (std::size_t{16} << 20) + 1}) {
    for (void*& p : pointers) p = &h;
    launch(1, 32, malloc_all, device_heap(h.device()), pointers.data(), 32u, size);
    synchronize();
    for (void* p : pointers) EXPECT_EQ(p, nullptr) << size;
  }
  EXPECT_EQ(errors(h.stats(), error_kind::out_of_memory), 6u * 32u);
  round_trip(h, std::vector<std::uint32_t>(100, 64));
  expect_empty(h);
}

__global__ void divergent(device_heap heap, std::uint32_t rounds, std::uint32_t* broken) {
  random_numbers random(thread_number());
  void* mine[4] = {};
  std::uint32_t sizes[4] = {};
  if (threadIdx.x % 7 == 3) return;  // early exit
  for (std::uint32_t r = 0; r < rounds + threadIdx.x % 5; ++r) {
    const unsigned k = random.below(4);
    if (mine[k] != nullptr) {
      if (!intact(mine[k], sizes[k], thread_number())) atomicAdd(broken, 1u);
      heap.free(mine[k]);
      mine[k] = nullptr;
      if (random.below(8) == 0) break;
    }
    switch (random.below(3)) {
      case 0: sizes[k] = 1 + random.below(15); break;
      case 1: sizes[k] = 16 + random.below(200); break;
      default: sizes[k] = 256 + random.below(3000); break;
    }
    if (random.below(2) == 0)
      mine[k] = heap.malloc(sizes[k]);
    else if (sizes[k] > 64)
      mine[k] = heap.malloc(sizes[k] /= 2);
    if (mine[k] == nullptr) continue;
    fill(mine[k], sizes[k], thread_number());
  }
  for (unsigned k = 0; k < 4; ++k) {
    if (mine[k] == nullptr) continue;
    if (!intact(mine[k], sizes[k], thread_number())) atomicAdd(broken, 1u);
    heap.free(mine[k]);
  }
}

TEST_F(DeviceHeap, DivergentCallersAndLoops) {
  heap h(options(128_MiB));
  shared_array<std::uint32_t> broken(1);
  launch(8, 192, divergent, device_heap(h.device()),
         static_cast<std::uint32_t>(testing::scaled(200)), broken.data());
  synchronize();
  EXPECT_EQ(broken[0], 0u);
  expect_empty(h);
}

TEST_F(DeviceHeap, SeveralKernelsAtOnce) {
  heap h(options(256_MiB));
  shared_array<std::uint32_t> broken(1);
  std::vector<stream> streams(3);
  for (int round = 0; round < 4; ++round)
    for (stream& s : streams)
      launch(s, 4, 64, divergent, device_heap(h.device()),
             static_cast<std::uint32_t>(testing::scaled(100)), broken.data());
  for (stream& s : streams) s.synchronize();
  EXPECT_EQ(broken[0], 0u);
  expect_empty(h);
}

TEST_F(DeviceHeap, TinyObjectsShareBlocks) {
  heap h(options(16_MiB));
  shared_array<void*> pointers(32);
  launch(1, 32, malloc_all, device_heap(h.device()), pointers.data(), 32u, std::size_t{1});
  synchronize();
  std::set<std::uintptr_t> blocks, addresses;
  for (void* p : pointers) {
    blocks.insert(reinterpret_cast<std::uintptr_t>(p) / 16);
    addresses.insert(reinterpret_cast<std::uintptr_t>(p));
  }
  EXPECT_EQ(blocks.size(), 2u);
  EXPECT_EQ(addresses.size(), 32u);
  EXPECT_EQ(h.stats().device_tiny_objects, 32u);
  launch(1, 32, free_all, device_heap(h.device()), pointers.data(), 32u);
  synchronize();
  expect_empty(h);
  EXPECT_EQ(h.stats().device.live_bytes, 0u);
}

/// Frees n tiny objects in the order of a permutation, one at a time.
__global__ void free_in_order(device_heap heap, void** pointers, const std::uint32_t* sequence,
                              std::uint32_t n) {
  for (std::uint32_t i = 0; i < n; ++i) heap.free(pointers[sequence[i]]);
}

TEST_F(DeviceHeap, TinyObjectsFreedInEveryOrder) {
  heap h(options(16_MiB));
  shared_array<void*> pointers(4);
  shared_array<std::uint32_t> sequence(4);
  std::vector<std::uint32_t> order = {0, 1, 2, 3};
  do {
    std::copy(order.begin(), order.end(), sequence.begin());
    launch(1, 4, malloc_all, device_heap(h.device()), pointers.data(), 4u, std::size_t{4});
    launch(1, 1, free_in_order, device_heap(h.device()), pointers.data(), sequence.data(), 4u);
    synchronize();
    expect_empty(h);
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_TRUE(h.errors().empty());
}

TEST_F(DeviceHeap, LargeObjectsUpToTheWholeHeap) {
  heap h(options(64_MiB));
  shared_array<void*> pointer(1);
  for (const std::size_t size : {40000_KiB, 1_MiB, 5_MiB, 20_MiB, 62_MiB}) {
    launch(1, 1, malloc_all, device_heap(h.device()), pointer.data(), 1u, size);
    synchronize();
    ASSERT_NE(pointer[0], nullptr) << size;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pointer[0]) % 8192, 0u);
    // The host reads and writes the same memory through the same pointer.
    static_cast<char*>(pointer[0])[0] = 1;
    static_cast<char*>(pointer[0])[size - 1] = 2;
    EXPECT_EQ(h.stats().device_large_objects, 1u);
    launch(1, 1, free_all, device_heap(h.device()), pointer.data(), 1u);
    synchronize();
    expect_empty(h);
    h.trim();
  }
}

__global__ void bad_frees(device_heap heap, void* foreign, void** object) {
  heap.free(nullptr);
  heap.free(foreign);
  char* p = static_cast<char*>(heap.malloc(64));
  *object = p;
  heap.free(p + 8);  // interior
  heap.free(p + 1);
  heap.free(p);
  heap.free(p);  // double
  char* big = static_cast<char*>(heap.malloc(100000));
  heap.free(big + 8192);
  heap.free(big + 1);
  heap.free(big);
  heap.free(big);
  char* tiny = static_cast<char*>(heap.malloc(3));
  char* other = static_cast<char*>(heap.malloc(3));
  heap.free(tiny);
  heap.free(tiny);  // double, while the block lives
  heap.free(other);
}

TEST_F(DeviceHeap, WrongFreesAreCountedReportedAndHarmless) {
  heap_options o = options(16_MiB);
  std::vector<std::string> lines;
  o.on_report = [&](const std::string& line) { lines.push_back(line); };
  heap h(o);
  int local = 0;
  shared_array<void*> object(1);
  launch(1, 1, bad_frees, device_heap(h.device()), static_cast<void*>(&local), object.data());
  synchronize();
  const heap_stats s = h.stats();
  EXPECT_EQ(errors(s, error_kind::foreign_pointer), 1u);
  EXPECT_EQ(errors(s, error_kind::interior_pointer), 3u);
  EXPECT_EQ(errors(s, error_kind::double_free), 2u);
  // Inside a large object, and a second free of one: pages without an object.
  EXPECT_EQ(errors(s, error_kind::not_allocated), 2u);
  expect_empty(h);
  const std::vector<error_record> records = h.errors();
  ASSERT_EQ(records.size(), 8u);
  EXPECT_EQ(records[0].kind, error_kind::foreign_pointer);
  EXPECT_EQ(records[0].address, reinterpret_cast<std::uint64_t>(&local));
  EXPECT_EQ(records[1].address, reinterpret_cast<std::uint64_t>(object[0]) + 8);
  EXPECT_EQ(records[3].kind, error_kind::double_free);
  EXPECT_EQ(records[3].address, reinterpret_cast<std::uint64_t>(object[0]));
  ASSERT_EQ(lines.size(), 8u);
  char address[32];
  std::snprintf(address, sizeof address, "%p", object[0]);
  EXPECT_NE(lines[3].find(address), std::string::npos) << lines[3];
  round_trip(h, std::vector<std::uint32_t>(500, 64));
  expect_empty(h);
}

/// Frees of everything in the blocks of tiny objects that is no object; `wrong` counts them.
/// `broken` goes up when an object is taken for none, or none for one.
__global__ void bad_tiny_frees(device_heap heap, unsigned size, unsigned n, bool close,
                               std::uint64_t* wrong, std::uint32_t* broken) {
  char* object[16];
  for (unsigned i = 0; i < n; ++i) object[i] = static_cast<char*>(heap.malloc(size));
  char* other = nullptr;
  if (close) other = static_cast<char*>(heap.malloc(16 - size));
  const auto is_object = [&](const char* p) {
    for (unsigned i = 0; i < n; ++i)
      if (object[i] == p) return true;
    return other == p;
  };
  char* const block = object[0] - reinterpret_cast<std::uintptr_t>(object[0]) % 16;
  const auto free_all_others = [&] {
    for (char* p = block; p < block + 16; ++p) {
      if ((heap.usable_size(p) != 0) != is_object(p)) ++*broken;
      if (is_object(p)) continue;
      heap.free(p);
      if (heap.realloc(p, 4) != nullptr) ++*broken;
      *wrong += 2;
    }
  };
  free_all_others();
  for (unsigned i = 0; i < n; ++i) {
    // In another order than they were made.
    const unsigned k = (i * 7 + 3) % n;
    char* gone = object[k];
    object[k] = nullptr;
    if (gone - block >= 16 || gone < block) {
      heap.free(gone);
      continue;
    }
    // The last one of a block lets it go, and what is said of it then is another's business.
    bool more = other != nullptr && other >= block && other < block + 16;
    for (unsigned j = 0; j < n; ++j) more |= object[j] >= block && object[j] < block + 16;
    heap.free(gone);
    if (more) free_all_others();
  }
  heap.free(other);
}

TEST_F(DeviceHeap, WrongFreesOfTinyObjectsAreToldInOpenAndClosedBlocks) {
  for (unsigned size = 1; size < 16; ++size)
    for (unsigned n : {1u, 2u, 3u, 5u, 11u})
      for (const bool close : {false, true}) {
        heap h(quiet_options(16_MiB));
        shared_array<std::uint64_t> wrong(1);
        shared_array<std::uint32_t> broken(1);
        launch(1, 1, bad_tiny_frees, device_heap(h.device()), size, n, close, wrong.data(),
               broken.data());
        synchronize();
        const heap_stats s = h.stats();
        EXPECT_EQ(broken[0], 0u) << size << " bytes, " << n << " objects";
        EXPECT_EQ(errors(s, error_kind::double_free) + errors(s, error_kind::not_allocated),
                  wrong[0])
            << size << " bytes, " << n << " objects";
        expect_empty(h);
      }
}

/// The block must not be freed while it has an object, nor one place be given to two.
__global__ void free_what_was_never_handed_out(device_heap heap, void** out) {
  char* first = static_cast<char*>(heap.malloc(8));
  heap.free(first + 8);
  out[0] = heap.malloc(8);
  heap.free(first);
  out[1] = heap.malloc(8);
  out[2] = heap.malloc(8);
}

TEST_F(DeviceHeap, AFreeBehindTheLastTinyObjectDoesNotGiveAPlaceToTwo) {
  heap h(quiet_options(16_MiB));
  shared_array<void*> out(3);
  launch(1, 1, free_what_was_never_handed_out, device_heap(h.device()), out.data());
  synchronize();
  EXPECT_EQ(errors(h.stats(), error_kind::double_free), 1u);
  EXPECT_EQ((std::set<void*>(out.begin(), out.end()).size()), 3u);
  launch(1, 32, free_all, device_heap(h.device()), out.data(), 3u);
  synchronize();
  expect_empty(h);
}

__global__ void free_one_pointer_in_all_lanes(device_heap heap, void* p) { heap.free(p); }

TEST_F(DeviceHeap, OneObjectFreedByAWholeWarp) {
  heap h(quiet_options(16_MiB));
  shared_array<void*> pointer(1);
  launch(1, 1, malloc_all, device_heap(h.device()), pointer.data(), 1u, std::size_t{64});
  synchronize();
  launch(1, 32, free_one_pointer_in_all_lanes, device_heap(h.device()), pointer[0]);
  synchronize();
  EXPECT_EQ(errors(h.stats(), error_kind::double_free), 31u);
  expect_empty(h);
}

__global__ void use_default_heap(void** out) {
  out[threadIdx.x] = device_malloc(24);
  if (threadIdx.x % 2 == 0) device_free(out[threadIdx.x]);
}

TEST_F(DeviceHeap, DefaultHeapIsBoundByTheHost) {
  shared_array<void*> out(32);
  bind({});
  launch(1, 32, use_default_heap, out.data());
  synchronize();
  for (void* p : out) EXPECT_EQ(p, nullptr);

  heap h(options(16_MiB));
  bind(h.device());
  launch(1, 32, use_default_heap, out.data());
  synchronize();
  EXPECT_EQ(h.stats().device.live_objects, 16u);
  bind({});
  for (unsigned i = 1; i < 32; i += 2) h.free(out[i]);
  expect_empty(h);
}

struct node {
  int value;
  node* next;
  __device__ node(int v, node* n) : value(v), next(n) {}
  __device__ ~node() { value = -1; }
};

__global__ void make_list(device_heap heap, node** head) {
  node* list = nullptr;
  for (int i = 0; i < 10; ++i) list = heap.make<node>(i, list);
  *head = list;
}
__global__ void destroy_list(device_heap heap, node* list) {
  while (list != nullptr) {
    node* next = list->next;
    heap.destroy(list);
    list = next;
  }
}

TEST_F(DeviceHeap, TypedObjectsAreReadOnTheHostThroughTheSamePointers) {
  heap h(options(16_MiB));
  shared_array<node*> head(1);
  launch(1, 1, make_list, device_heap(h.device()), head.data());
  synchronize();
  int expected = 9;
  for (node* n = head[0]; n != nullptr; n = n->next) EXPECT_EQ(n->value, expected--);
  EXPECT_EQ(expected, -1);
  launch(1, 1, destroy_list, device_heap(h.device()), head[0]);
  synchronize();
  expect_empty(h);
}

}  // namespace
}  // namespace warpheap
