// Other allocators in the benchmark: the baselines work, and one that is broken is found out.
#include <gtest/gtest.h>

#include "bench/baselines.cuh"
#include "bench/survey_manager.cuh"
#include "bench/workloads.cuh"
#include "device_fixture.cuh"

namespace warpheap::bench {
namespace {

constexpr std::size_t little = std::size_t{testing::sanitized ? 16u : 64u} << 20;

/// A trace of objects that are all live at once.
trace long_lived(std::uint32_t objects, std::uint64_t bytes) {
  trace out;
  out.sizes.assign(objects, bytes);
  for (const bool frees : {false, true})
    for (std::uint32_t i = 0; i < objects; ++i) out.events.push_back({i, frees});
  out.total_bytes = out.peak_bytes = objects * bytes;
  return out;
}

class BenchAdapter : public ::testing::Test {
 protected:
  void SetUp() override {
#ifdef __CUDACC__
    if (const std::string why = why_no_cuda(); !why.empty()) GTEST_SKIP() << why;
#endif
    wanted_.quick = true;
    wanted_.repeat = 2;
  }

  run_context run() { return {wanted_, line_, this_backend, little, 1}; }
  static std::vector<point> points() {
    return {{{64, 64}, 1000, granularity::thread, {}}, {{4, 300}, 500, granularity::warp, {}}};
  }
  template <class A>
  std::string complaint() {
    SCOPED_TRACE(A::name);
    try {
      run_points<A>(run(), points());
    } catch (const integrity_error& error) {
      return error.what();
    }
    return "";
  }

  options wanted_;
  progress line_;
};

TEST_F(BenchAdapter, PapersHaveTheirHeapAndTheirIterations) {
  run_context paper = run();
  paper.backend = backend_kind::cuda;
  paper.reserve_bytes = std::size_t{16} << 30;
  wanted_.quick = false;
  wanted_.repeat.reset();
  EXPECT_EQ(with_survey_heap(paper).reserve_bytes, std::size_t{8} << 30);
  EXPECT_TRUE(point_clock(paper).wants(20));
  EXPECT_FALSE(point_clock(paper).wants(21));
  wanted_.reserve_bytes = paper.reserve_bytes;
  wanted_.repeat = 4;
  EXPECT_EQ(with_survey_heap(paper).reserve_bytes, paper.reserve_bytes);
  EXPECT_FALSE(point_clock(paper).wants(5));
}

TEST_F(BenchAdapter, EveryAllocatorOfTheProjectIsSound) {
  EXPECT_EQ(complaint<warpheap_adapter>(), "");
  EXPECT_EQ(complaint<bump_pointer>(), "");
  EXPECT_EQ(complaint<spin_locked_list>(), "");
}

TEST_F(BenchAdapter, PointsHaveOperationsForWhatTheAllocatorDoes) {
  const result list = run_points<spin_locked_list>(run(), points());
  ASSERT_EQ(list.operations.size(), 6u);
  EXPECT_EQ(list.operations[2].name, "free");
  EXPECT_TRUE(list.operations[0].cold_ns_per_op.has_value());
  // A bump pointer frees nothing, so nothing is said about its free.
  EXPECT_EQ(run_points<bump_pointer>(run(), points()).operations.size(), 4u);
  const std::vector<point> too_large = {{{8192, 8192}, 1u << 20, granularity::thread, {}}};
  EXPECT_THROW(run_points<bump_pointer>(run(), too_large), no_input);
}

/// An allocator that takes small objects only.
struct small_ones : bump_pointer {
  static constexpr std::size_t most = 128;
  using bump_pointer::bump_pointer;
};

TEST_F(BenchAdapter, SizesThatAnAllocatorDoesNotTakeAreNotAskedFor) {
  const std::vector<point> two = {{{64, 64}, 100, granularity::thread, {}},
                                  {{256, 256}, 100, granularity::thread, {}}};
  EXPECT_EQ(run_points<small_ones>(run(), two).operations.size(), 2u);  // of the first point
  EXPECT_THROW(device_suite::run_lanes<small_ones>(run()), no_input);
  EXPECT_THROW(device_suite::run_pairs_of<small_ones>(run()), no_input);
  EXPECT_THROW(device_suite::run_touch<small_ones>(run()), no_input);
  EXPECT_THROW(device_suite::run_null<small_ones>(run()), no_input);
  EXPECT_THROW(survey::run_work<small_ones>(run(), 4096), no_input);
  EXPECT_THROW(churn::run_churn<small_ones>(run(), 50, churn::same_range), no_input);
  EXPECT_THROW(run_graph_on<small_ones>(run(), make_rmat(8, 8, 1), {}), no_input);
  EXPECT_THROW(real::run_replay<small_ones>(run(), long_lived(10, 129)), no_input);
  EXPECT_NO_THROW(real::run_replay<small_ones>(run(), long_lived(10, 128)));
}

/// A bump pointer over a few bytes, with mistakes.
template <unsigned step, unsigned shift>
struct broken {
  static constexpr const char* name = "broken";
  static constexpr bool frees = false;
  struct handle {
    std::byte* base;
    unsigned* used;
    __device__ void* malloc(std::size_t) const {
      return base + atomicAdd(used, step) % (1u << 20) + shift;
    }
    __device__ void free(void*) const {}
  };
  explicit broken(std::size_t bytes) : memory(bytes), used(1) {}
  handle device() { return {memory.data(), used.data()}; }
  void rest() { used.clear(); }
  untouched_memory memory;
  device_array<unsigned> used;
};

TEST_F(BenchAdapter, OverlappingObjectsAreFound) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer finds objects that overlap before the benchmark does";
#endif
  using overlapping = broken<32, 0>;  // objects of 64 bytes every 32
  EXPECT_NE(complaint<overlapping>().find("expected 0x"), std::string::npos);
  using one_for_all = broken<0, 0>;
  EXPECT_NE(complaint<one_for_all>().find("expected 0x"), std::string::npos);
}

TEST_F(BenchAdapter, BadAddressesAreFound) {
  using odd = broken<512, 8>;
  EXPECT_NE(complaint<odd>().find("expected an address divisible by 16"), std::string::npos);
}

TEST_F(BenchAdapter, RunningOutIsNoErrorAndIsCounted) {
  wanted_.filter = "";
  const result full = survey::run_out_of_memory<bump_pointer>(run());
  const series& curve = full.curves.front();
  ASSERT_FALSE(curve.points.empty());
  for (const auto& [size, part] : curve.points) {
    EXPECT_GT(part, 0.99) << size;
    EXPECT_LE(part, 1.0) << size;
  }
}

/// Runs a workload in a heap that is too small for it: it has to say how often, and go on.
template <class F>
void expect_counted(const run_context& run, const char* what, F&& workload) {
  *run.calls = {};
  try {
    EXPECT_NE(workload(run).check, check_state::failed) << what;
  } catch (const integrity_error& error) {  // a graph cannot be built without memory
    EXPECT_NE(std::string(error.what()).find("null pointer"), std::string::npos) << error.what();
  }
  EXPECT_GT(run.calls->mallocs, run.calls->nulls) << what;
  EXPECT_GT(run.calls->nulls, 0u) << what;
}

TEST_F(BenchAdapter, NullPointersOfASmallHeapAreCounted) {
  wanted_.repeat = 1;
  run_context small = run();
  small.reserve_bytes = min_reserve_bytes;
  expect_counted(small, "lanes", device_suite::run_lanes<warpheap_adapter>);
  expect_counted(small, "touch", device_suite::run_touch<warpheap_adapter>);
  expect_counted(small, "trace", [](const run_context& one) {
    return real::run_replay<warpheap_adapter>(one, long_lived(3000, std::size_t{4} << 20));
  });
}

TEST_F(BenchAdapter, NullPointersAreCountedByEveryWorkload) {
  wanted_.repeat = 1;
  run_context tiny = run();
  tiny.reserve_bytes = std::size_t{64} << 10;
  expect_counted(tiny, "lanes", device_suite::run_lanes<bump_pointer>);
  expect_counted(tiny, "latency", device_suite::run_latency<bump_pointer>);
  expect_counted(tiny, "pairs", device_suite::run_pairs_of<bump_pointer>);
  expect_counted(tiny, "free-by", device_suite::run_free_by<bump_pointer>);
  expect_counted(tiny, "touch", device_suite::run_touch<bump_pointer>);
  expect_counted(tiny, "streams", device_suite::run_streams<bump_pointer>);
  expect_counted(tiny, "neighbour", device_suite::run_neighbour<bump_pointer>);
  expect_counted(tiny, "out-of-memory", survey::run_out_of_memory<bump_pointer>);
  expect_counted(tiny, "graph", [](const run_context& one) {
    return run_graph_on<bump_pointer>(one, make_rmat(12, 8, 1), {});
  });
  expect_counted(tiny, "trace", [](const run_context& one) {
    return real::run_replay<bump_pointer>(one, long_lived(3000, 100));
  });
}

/// What the survey's harness derives from, as its interface is described.
class MemoryManagerBase {
 public:
  explicit MemoryManagerBase(std::size_t bytes) : size(bytes) {}
  virtual ~MemoryManagerBase() = default;
  virtual void init() = 0;
  virtual __device__ void* malloc(std::size_t bytes) = 0;
  virtual __device__ void free(void* p) = 0;
  std::size_t size;
};
using manager = survey_manager<MemoryManagerBase>;

__global__ void use_manager_kernel(manager mm, unsigned* sum) {
  auto* p = static_cast<unsigned*>(mm.malloc(sizeof(unsigned)));
  if (p == nullptr) return;
  *p = threadIdx.x;
  atomicAdd(sum, *p);
  mm.free(p);
}

TEST_F(BenchAdapter, HeapFitsTheSurveysInterface) {
  manager made(little);
  made.init();
  EXPECT_EQ(made.size, little);
  const device_array<unsigned> sum(1);
  for (int i = 0; i < 2; ++i) launch(1, 64, use_manager_kernel, made, sum.data());
  synchronize();
  EXPECT_EQ(sum.to_host().front(), 2u * 63 * 64 / 2);
}

}  // namespace
}  // namespace warpheap::bench
