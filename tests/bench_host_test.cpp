// The workloads of the benchmark's suite "host", with the malloc that the tests have.
#include <gtest/gtest.h>
#include <set>
#include <string>

#include "bench/host/workloads.hpp"
#include "tests/test_scale.hpp"

namespace {

using namespace warpheap::bench::host;

TEST(bench_host, every_workload_measures_and_keeps_its_objects) {
  std::set<std::string> names;
  for (const workload& w : workloads()) {
    EXPECT_TRUE(names.insert(w.name).second) << w.name;
    setting how;
    how.threads = 2;
    how.touch = true;
    how.scale = warpheap::testing::sanitized ? 0.0005 : 0.002;
    const auto all = w.run(how);
    ASSERT_FALSE(all.empty()) << w.name;
    for (const measurement& m : all) {
      EXPECT_GT(m.ns_per_op, 0) << w.name << " " << m.bytes;
      EXPECT_GT(m.cpu_ns_per_op, 0) << w.name << " " << m.bytes;
    }
  }
  EXPECT_EQ(damaged_objects(), 0u);
}

}  // namespace
