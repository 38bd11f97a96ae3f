// Marks on objects of kernels, by kernels and by the host, and the sweep of those without.
#include <algorithm>
#include <optional>
#include <random>
#include <set>

#include "device_fixture.cuh"

namespace warpheap {
namespace {

class DeviceMark : public DeviceTest {
 protected:
  /// Objects of sizes of all kinds, one for each lane.
  static constexpr std::uint32_t n = 640;

  void make_objects(heap& h);
  std::uint64_t mark_in_kernel(heap& h, std::uint32_t count, unsigned blocks);

  void SetUp() override {
    DeviceTest::SetUp();
    if (!IsSkipped()) objects_.emplace(n);
  }

  std::optional<shared_array<void*>> objects_;
};

__device__ std::size_t size_of_object(std::uint32_t i) {
  constexpr std::size_t sizes[] = {1, 3, 8, 15, 16, 24, 100, 1024, 5000, 40000};
  return sizes[i % 10];
}

__global__ void make_all_sizes(device_heap heap, void** objects, std::uint32_t n) {
  const std::uint32_t i = thread_number();
  if (i >= n) return;
  objects[i] = heap.malloc(size_of_object(i));
  if (objects[i] != nullptr) fill(objects[i], size_of_object(i), i);
}

/// Every second object, by as many lanes as come.
__global__ void mark_even(device_heap heap, void** objects, std::uint32_t n,
                          unsigned long long* first) {
  for (std::uint32_t i = 2 * threadIdx.x; i < n; i += 2 * blockDim.x)
    if (heap.mark(objects[i])) atomicAdd(first, 1ull);
}

__global__ void check_even(device_heap heap, void** objects, std::uint32_t n,
                           std::uint32_t* broken) {
  for (std::uint32_t i = 2 * threadIdx.x; i < n; i += 2 * blockDim.x)
    if (!intact(objects[i], size_of_object(i), i) || heap.usable_size(objects[i]) == 0)
      atomicAdd(broken, 1u);
}

void DeviceMark::make_objects(heap& h) {
  launch(blocks_for(n, 64), 64, make_all_sizes, device_heap(h.device()), objects_->data(), n);
  synchronize();
  for (void* p : *objects_) ASSERT_NE(p, nullptr);
}

std::uint64_t DeviceMark::mark_in_kernel(heap& h, std::uint32_t count, unsigned blocks) {
  shared_array<unsigned long long> first(1);
  launch(blocks, 64, mark_even, device_heap(h.device()), objects_->data(), count, first.data());
  synchronize();
  return first[0];
}

TEST_F(DeviceMark, MarkedObjectsLiveOnAndTheOthersAreLeaks) {
  heap h(quiet_options(64_MiB));
  make_objects(h);
  h.begin_device_marks();
  // Six blocks mark the same objects: each mark is one lane's.
  EXPECT_EQ(mark_in_kernel(h, n, 6), n / 2);
  EXPECT_EQ(mark_in_kernel(h, n, 1), 0u);
  const sweep_report report = h.sweep_device();
  EXPECT_TRUE(report.complete);
  EXPECT_EQ(report.kept.objects, n / 2);
  EXPECT_EQ(report.leaked.objects, n / 2);
  EXPECT_EQ(report.dangling, 0u);
  std::set<void*> odd, leaks;
  for (std::uint32_t i = 1; i < n; i += 2) odd.insert((*objects_)[i]);
  for (const sweep_report::object& leak : report.leaks) {
    leaks.insert(leak.address);
    EXPECT_GE(leak.bytes, 1u);
  }
  EXPECT_EQ(leaks, odd);
  // Sizes 3, 15, 24, 1024 and 40000, a tenth of the objects each.
  EXPECT_EQ(report.leaked_by_class[sweep_report::tiny_objects].objects, n / 5);
  EXPECT_EQ(report.leaked_by_class[size_to_class(24)].objects, n / 10);
  EXPECT_EQ(report.leaked_by_class[size_to_class(1024)].bytes, n / 10 * 1024);
  EXPECT_EQ(report.leaked_by_class[0].bytes, n / 10 * 5 * page_size);
  const heap_stats s = h.stats();
  EXPECT_EQ(s.device.live_objects, n / 2);
  expect_sound(s);
  // What lives has its contents, and can be freed; what went is free.
  shared_array<std::uint32_t> broken(1);
  launch(1, 64, check_even, device_heap(h.device()), objects_->data(), n, broken.data());
  synchronize();
  EXPECT_EQ(broken[0], 0u);
  launch(blocks_for(n, 64), 64, free_all, device_heap(h.device()), objects_->data(), n);
  synchronize();
  const heap_stats after = h.stats();
  EXPECT_EQ(errors(after, error_kind::double_free) + errors(after, error_kind::not_allocated),
            n / 2);
  expect_empty(h);
}

TEST_F(DeviceMark, MarksHoldForOneSweepAndNoneIsAReset) {
  heap h(quiet_options(64_MiB));
  make_objects(h);
  EXPECT_EQ(mark_in_kernel(h, n, 1), 0u) << "marks have not begun";
  h.begin_device_marks();
  EXPECT_EQ(mark_in_kernel(h, 10, 1), 5u);
  EXPECT_EQ(h.sweep_device(3).leaks.size(), 3u);
  EXPECT_EQ(h.stats().device.live_objects, 5u);
  const sweep_report last = h.sweep_device();
  EXPECT_EQ(last.kept.objects, 0u);
  EXPECT_EQ(last.leaked.objects, 5u);
  expect_empty(h);
  h.trim();
  EXPECT_EQ(h.stats().page_bytes, 0u);
  // A reset takes marks off, too: the same addresses are unmarked.
  make_objects(h);
  h.begin_device_marks();
  EXPECT_EQ(mark_in_kernel(h, n, 2), n / 2);
  EXPECT_EQ(h.mark((*objects_)[1]), mark_status::device);
  h.reset();
  make_objects(h);
  EXPECT_EQ(h.sweep_device().leaked.objects, n);
  expect_empty(h);
}

TEST_F(DeviceMark, MarksOfTheHostCountAndDanglingOnesAreTold) {
  heap h(quiet_options(64_MiB));
  make_objects(h);
  void* const of_host = h.malloc(100);
  for (std::uint32_t i = 0; i < n; i += 3) EXPECT_EQ(h.mark((*objects_)[i]), mark_status::device);
  h.begin_device_marks();
  // An address inside an object, a freed one, and one that is freed after its mark.
  char* const inside = static_cast<char*>((*objects_)[9]) + 8;
  EXPECT_EQ(h.mark(inside), mark_status::device);
  shared_array<void*> some(2);
  some[0] = (*objects_)[7];
  some[1] = (*objects_)[12];
  EXPECT_EQ(mark_in_kernel(h, n, 1), n / 2);
  launch(1, 2, free_all, device_heap(h.device()), some.data(), 2u);
  h.free(of_host);
  EXPECT_EQ(h.mark((*objects_)[7]), mark_status::device);
  const sweep_report report = h.sweep_device();
  // 12 is even and a multiple of 3: its mark by a kernel, and that of the host.
  const std::set<void*> dangling(report.dangling_pointers.begin(), report.dangling_pointers.end());
  EXPECT_EQ(dangling, (std::set<void*>{inside, (*objects_)[7], (*objects_)[12]}));
  EXPECT_EQ(report.dangling, 4u);
  std::uint64_t kept = 0;
  for (std::uint32_t i = 0; i < n; ++i) kept += (i % 2 == 0 || i % 3 == 0) && i != 12;
  EXPECT_EQ(report.kept.objects, kept);
  EXPECT_EQ(report.leaked.objects, n - 2 - kept);
  EXPECT_EQ(h.stats().device.live_objects, kept);
  EXPECT_EQ(h.stats().host.live_objects, 0u);
  h.reset();
}

struct graph_node {
  graph_node* next[2];
  std::uint32_t visits;
};

/// A graph with cycles: node i leads to 2i and 2i + 1 of the first half. The rest nobody leads to.
__global__ void make_graph(device_heap heap, graph_node** nodes, std::uint32_t count) {
  if (threadIdx.x != 0) return;
  for (std::uint32_t i = 0; i < count; ++i) nodes[i] = heap.make<graph_node>();
  for (std::uint32_t i = 0; i < count; ++i) {
    nodes[i]->visits = 0;
    for (std::uint32_t k = 0; k < 2; ++k) nodes[i]->next[k] = nodes[(2 * i + k) % (count / 2)];
  }
}

/// Each lane begins at a node of its own; whoever marks one first goes on from there.
__global__ void mark_graph(device_heap heap, graph_node** nodes, std::uint32_t roots) {
  graph_node* stack[128];
  unsigned depth = 0;
  stack[depth++] = nodes[thread_number() % roots];
  while (depth > 0) {
    graph_node* const one = stack[--depth];
    if (!heap.mark(one)) continue;
    atomicAdd(&one->visits, 1u);
    for (graph_node* next : one->next) stack[depth++] = next;
  }
}

TEST_F(DeviceMark, KernelsMarkWhatCanBeReached) {
  heap h(options(16_MiB));
  constexpr std::uint32_t count = 200;
  shared_array<graph_node*> nodes(count);
  launch(1, 1, make_graph, device_heap(h.device()), nodes.data(), count);
  synchronize();
  h.begin_device_marks();
  launch(2, 64, mark_graph, device_heap(h.device()), nodes.data(), 10u);
  synchronize();
  const sweep_report report = h.sweep_device();
  EXPECT_EQ(report.kept.objects, count / 2);
  EXPECT_EQ(report.leaked.objects, count / 2);
  EXPECT_EQ(h.stats().device.live_objects, count / 2);
  for (std::uint32_t i = 0; i < count / 2; ++i) EXPECT_EQ(nodes[i]->visits, 1u) << i;
  h.reset();
}

TEST_F(DeviceMark, DoesWhatASetOfObjectsDoes) {
  heap h(options(32_MiB));
  std::mt19937 random(7);
  std::set<void*> live;
  for (int round = 0; round < 6; ++round) {
    make_objects(h);
    live.insert(objects_->begin(), objects_->end());
    ASSERT_EQ(h.stats().device.live_objects, live.size());
    std::set<void*> marked;
    for (void* p : live)
      if (random() % 3 == 0) marked.insert(p);
    for (void* p : marked) ASSERT_EQ(h.mark(p), mark_status::device);
    const sweep_report report = h.sweep_device(100'000);
    ASSERT_EQ(report.kept.objects, marked.size());
    ASSERT_EQ(report.leaks.size(), live.size() - marked.size());
    for (const sweep_report::object& leak : report.leaks) {
      ASSERT_EQ(live.count(leak.address), 1u);
      ASSERT_EQ(marked.count(leak.address), 0u);
    }
    live = std::move(marked);
    const heap_stats s = h.stats();
    ASSERT_EQ(s.device.live_objects, live.size());
    expect_sound(s);
    EXPECT_TRUE(h.errors().empty());
  }
  h.reset();
}

TEST_F(DeviceMark, RefusedWhereObjectsAreSurrounded) {
  heap_options o = options(16_MiB);
  o.red_zones = true;
  heap h(o);
  EXPECT_THROW(h.begin_device_marks(), heap_error);
  EXPECT_THROW((void)h.sweep_device(), heap_error);
}

}  // namespace
}  // namespace warpheap
