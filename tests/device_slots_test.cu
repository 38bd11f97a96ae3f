// Slots: how many words a warp's call touches, every class used again to its last slot, tiny blocks
// that stay open when a kernel ends.
#include <set>

#include "device_fixture.cuh"

namespace warpheap {
namespace {

class DeviceSlots : public DeviceTest {};

/// The word of free bits that an object of a kernel has its slot in.
__device__ core::word_index word_of(const heap_view& h, const void* p) {
  const auto offset = static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - h.base);
  const auto page = static_cast<page_index>(offset >> page_shift);
  const page_entry e{atomic::load<order::relaxed>(h.entry + page)};
  const auto in_page = static_cast<std::uint32_t>(offset & (page_size - 1));
  if (e.cls() == tiny_blocks) return core::index_of_word(page, in_page / tiny_block_bytes / 64);
  return core::place_of(page, e, in_page).at;
}

/// Calls of a whole warp, each behind one of `before` lanes, which leave the word in use at every
/// fill that such calls can. *most: words that one call of the whole warp had slots in.
__global__ void take_by_warps(device_heap heap, std::size_t size, unsigned before, void** out,
                              unsigned rounds, std::uint32_t* nulls, std::uint32_t* most) {
  for (unsigned r = 0; r < rounds; ++r) {
    void** const mine = out + r * 64 + threadIdx.x;
    mine[32] = threadIdx.x < before ? heap.malloc(size) : nullptr;
    __syncwarp();
    mine[0] = heap.malloc(size);
    __syncwarp();
    if (mine[0] == nullptr) atomicAdd(nulls, 1u);
    const unsigned same =
        __match_any_sync(~0u, mine[0] != nullptr ? word_of(heap.view, mine[0]) : 0);
    const unsigned words =
        static_cast<unsigned>(__popc(__ballot_sync(~0u, core::leader_of(same) == threadIdx.x)));
    if (threadIdx.x == 0 && words > *most) *most = words;
  }
}

TEST_F(DeviceSlots, AWholeWarpsRequestTouchesTwoWordsAtMost) {
  heap h(options(128_MiB));
  constexpr unsigned rounds = 5;
  shared_array<void*> out(rounds * 64);
  shared_array<std::uint32_t> nulls(1), most(1);
  for (unsigned cls = 1; cls < span_classes; cls += testing::sanitized ? 4 : 1)
    for (const unsigned before : {0u, 1u, 17u}) {
      // 15 bytes: a block of 16 for each lane.
      const std::size_t size = cls == tiny_blocks ? 15 : class_to_size(cls);
      most[0] = 0;
      launch(1, 32, take_by_warps, device_heap(h.device()), size, before, out.data(), rounds,
             nulls.data(), most.data());
      synchronize();
      ASSERT_EQ(nulls[0], 0u) << size;
      EXPECT_LE(most[0], 2u) << size << " bytes behind " << before;
      launch(1, rounds * 64, free_all, device_heap(h.device()), out.data(), rounds * 64);
      synchronize();
    }
  expect_empty(h);
}

struct kept_link {
  kept_link* next;
};

/// Takes objects until there are no more.
__global__ void take_all_there_is(device_heap heap, std::size_t size, kept_link** kept,
                                  unsigned long long* count) {
  while (auto* one = static_cast<kept_link*>(heap.malloc(size))) {
    one->next = kept[threadIdx.x];
    kept[threadIdx.x] = one;
    atomicAdd(count, 1ull);
  }
}
__global__ void free_all_kept(device_heap heap, kept_link** kept) {
  for (kept_link* one = kept[threadIdx.x]; one != nullptr;) {
    kept_link* const next = one->next;
    heap.free(one);
    one = next;
  }
  kept[threadIdx.x] = nullptr;
}

TEST_F(DeviceSlots, EveryClassIsUsedAgainToItsLastSlot) {
  heap h(quiet_options(8_MiB));
  constexpr unsigned lanes = 32;
  shared_array<kept_link*> kept(lanes);
  shared_array<unsigned long long> count(1);
  void* of_host = nullptr;
  constexpr unsigned step = testing::sanitized ? 4 : 1;
  for (unsigned cls = num_classes - 1; cls >= 1; cls = cls > step ? cls - step : 0) {
    const std::size_t size = class_to_size(cls);
    // A million objects of 8 bytes say no more than a hundred thousand.
    if (size <= 512 && of_host == nullptr) of_host = h.malloc(7_MiB);
    unsigned long long first = 0;
    for (int round = 0; round < 2; ++round) {
      count[0] = 0;
      launch(1, lanes, take_all_there_is, device_heap(h.device()), size, kept.data(), count.data());
      synchronize();
      if (round == 0) first = count[0];
      EXPECT_EQ(count[0], first) << size << " bytes, time " << round + 1;
      launch(1, lanes, free_all_kept, device_heap(h.device()), kept.data());
      synchronize();
    }
    EXPECT_GT(first, 0u) << size;
    h.trim();
  }
  h.free(of_host);
  expect_empty(h);
}

TEST_F(DeviceSlots, OpenTinyBlocksOutliveKernelsAndGoWithTrim) {
  heap h(options(16_MiB));
  constexpr unsigned n = 64;
  shared_array<void*> p(n);
  const auto take = [&](unsigned i) {
    launch(1, 1, malloc_all, device_heap(h.device()), p.data() + i, 1u, std::size_t{1});
    synchronize();
  };
  // A kernel for each: it goes on with the block that its warp's slot had open.
  for (unsigned i = 0; i < n; ++i) take(i);
  std::set<std::uintptr_t> blocks;
  for (void* one : p) {
    ASSERT_NE(one, nullptr);
    blocks.insert(reinterpret_cast<std::uintptr_t>(one) / tiny_block_bytes);
  }
  EXPECT_EQ((std::set<void*>(p.begin(), p.end()).size()), n);
  EXPECT_LT(blocks.size(), n);
  launch(1, n, free_all, device_heap(h.device()), p.data(), n);
  synchronize();
  // One more, so that a block is open in any case: no object lives, and it keeps its span.
  take(0);
  launch(1, 1, free_all, device_heap(h.device()), p.data(), 1u);
  synchronize();
  expect_empty(h);
  EXPECT_EQ(h.stats().device_classes[tiny_blocks].spans, 1u);
  h.trim();
  const heap_stats trimmed = h.stats();
  EXPECT_EQ(trimmed.device_classes[tiny_blocks].spans, 0u);
  EXPECT_EQ(trimmed.page_bytes, 0u);
  // Nobody goes on with a block that went.
  take(0);
  ASSERT_NE(p[0], nullptr);
  EXPECT_EQ(h.stats().device_tiny_objects, 1u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p[0]) % tiny_block_bytes, 0u);
  launch(1, 1, free_all, device_heap(h.device()), p.data(), 1u);
  synchronize();
  expect_empty(h);
  EXPECT_TRUE(h.errors().empty());
}

}  // namespace
}  // namespace warpheap
