// The workloads of the benchmark's suite "host", with the malloc that the tests have, and with Go's
// runtime where there is a Go.
#include <gtest/gtest.h>
#include <cstdint>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "bench/command.hpp"
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

#ifdef WARPHEAP_TEST_HOST_GO
/// What the program in Go prints; ends with "failed" where its exit status is not 0.
std::string of_go(std::vector<std::string> words) {
  // Not with settings of the runtime that the user may have.
  words.insert(words.begin(),
               {"env", "-u", "GOGC", "-u", "GOMEMLIMIT", "-u", "GODEBUG", WARPHEAP_TEST_HOST_GO});
  std::string text;
  const bool ran = warpheap::bench::read_command(words, [&](std::string_view piece) {
    text += piece;
    return true;
  });
  return ran ? text : text + "failed";
}

/// What the program in Go does is what w does here.
void expect_the_same_of_go(const workload& w) {
  SCOPED_TRACE(w.name);
  setting how;
  how.threads = 2;
  how.touch = true;
  how.scale = 0.002;
  const std::uint64_t before = mallocs_made();
  const auto expected = w.run(how);
  const std::uint64_t mallocs = mallocs_made() - before;

  std::istringstream lines(of_go({w.name, "2", "1", "0.002"}));
  std::string kind;
  for (const measurement& m : expected) {
    measurement got;
    ASSERT_TRUE(lines >> kind >> got.bytes >> got.ns_per_op >> got.cpu_ns_per_op) << lines.str();
    EXPECT_EQ(kind, "op");
    EXPECT_EQ(got.bytes, m.bytes);
    EXPECT_GT(got.ns_per_op, 0);
    EXPECT_GT(got.cpu_ns_per_op, 0);
  }
  std::uint64_t calls = 0, nulls = 1, start = 0, peak = 0, end = 0, processors = 0, collections = 0;
  std::string version;
  ASSERT_TRUE(lines >> kind >> calls >> nulls) << lines.str();
  EXPECT_EQ(kind, "calls");
  EXPECT_EQ(calls, mallocs);
  EXPECT_EQ(nulls, 0u);
  ASSERT_TRUE(lines >> kind >> start >> peak >> end) << lines.str();
  EXPECT_EQ(kind, "rss");
  EXPECT_GT(start, 0u);
  EXPECT_GE(peak, end);
  ASSERT_TRUE(lines >> kind >> version >> processors >> collections) << lines.str();
  EXPECT_EQ(kind, "go");
  EXPECT_GT(processors, 0u);
  if (w.name == std::string("batches")) {
    EXPECT_GT(collections, 0u);
  }
  EXPECT_FALSE(lines >> kind) << lines.str();
}
#endif

TEST(bench_host, the_program_in_go_does_the_same) {
#ifdef WARPHEAP_TEST_HOST_GO
  std::string names;
  for (const workload& w : workloads()) {
    names += w.name + std::string("\n");
    expect_the_same_of_go(w);
  }
  EXPECT_EQ(of_go({"--list"}), names);
  EXPECT_EQ(of_go({"nothing", "1", "1", "1"}), "failed");
  EXPECT_EQ(of_go({"pairs", "0", "1", "1"}), "failed");
#else
  GTEST_SKIP() << "this build has no program in Go: no Go was found, or no benchmark is built";
#endif
}

}  // namespace
