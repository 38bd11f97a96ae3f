// The estimate from counted accesses: what it is proportional to, and where it stops.
#include "bench/model/estimate.hpp"

#include <gtest/gtest.h>

namespace warpheap::bench::model {
namespace {

constexpr gpu simple{"simple", 2.0, 10, 200, 1000, 500};

TEST(BenchModel, LatencyIsTheChainOfDependentAccesses) {
  counts of;
  of.loads = 100;  // of all lanes, beside each other
  of.chain_loads = 3;
  of.chain_atomics = 1;
  EXPECT_DOUBLE_EQ(call_latency_ns(simple, of), 4 * 200 / 2.0);
  EXPECT_DOUBLE_EQ(call_latency_ns(simple, {}), 0);
}

TEST(BenchModel, AKernelIsBoundByLatencyOrByBandwidth) {
  counts of;
  of.chain_loads = 4;
  of.sectors = 1;
  EXPECT_DOUBLE_EQ(kernel_ns(simple, of, 0), 0);
  // As long as all warps are resident they wait beside each other.
  EXPECT_DOUBLE_EQ(kernel_ns(simple, of, 1), 400);
  EXPECT_DOUBLE_EQ(kernel_ns(simple, of, resident_warps * 10), 400);
  EXPECT_DOUBLE_EQ(kernel_ns(simple, of, 3.0 * resident_warps * 10), 1200);
  of.sectors = 1000;
  EXPECT_DOUBLE_EQ(kernel_ns(simple, of, 1000), 1000.0 * 1000 * 32 / 1000);
}

TEST(BenchModel, NewerGpusAreNotEstimatedSlowerForAFullGpu) {
  counts of;
  of.chain_loads = 4;
  of.sectors = 4;
  double before = 1e300;
  for (const gpu& one : known_gpus()) {
    const double now = kernel_ns(one, of, 1e6);
    EXPECT_LT(now, before) << one.name;
    before = now;
  }
}

}  // namespace
}  // namespace warpheap::bench::model
