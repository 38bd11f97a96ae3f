// From timings and snapshots of the heap to results, and the list of cases.
#include "bench/measure.hpp"

#include <cmath>

#include <gtest/gtest.h>

#include "bench/environment.hpp"
#include "bench/host_memory.hpp"
#include "bench/progress.hpp"
#include "bench/registry.hpp"

namespace warpheap::bench {
namespace {

TEST(BenchMeasure, Median) {
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({9, 1}), 5);
  EXPECT_EQ(median({5, 100, 1}), 5);
}

TEST(BenchMeasure, FirstRepetitionIsCold) {
  timings some("malloc");
  for (const double ns : {1000.0, 20.0, 40.0, 30.0}) some.add(ns, 10);
  const operation warm = some.finish();
  EXPECT_EQ(warm.name, "malloc");
  EXPECT_EQ(warm.ns_per_op, 3.0);
  EXPECT_EQ(warm.cold_ns_per_op, 100.0);
}

TEST(BenchMeasure, Quantiles) {
  EXPECT_EQ(quantile({}, 0.5), 0);
  EXPECT_EQ(quantile({4}, 0.95), 4);
  EXPECT_EQ(quantile({30, 10, 20}, 0), 10);
  EXPECT_EQ(quantile({30, 10, 20}, 1), 30);
  EXPECT_DOUBLE_EQ(quantile({30, 10, 20}, 0.75), 25);
}

TEST(BenchMeasure, NoiseIsTheIntervalOfOneMoreRepetition) {
  EXPECT_EQ(noise_percent({}), 0);
  EXPECT_EQ(noise_percent({5}), 0);
  EXPECT_EQ(noise_percent({5, 5, 5, 5}), 0);
  EXPECT_EQ(noise_percent({-1, 1}), 0);  // no median to relate it to
  // Two values 9 and 11: deviation sqrt(2), t = 12.706 with one degree of freedom.
  EXPECT_NEAR(noise_percent({9, 11}), 10 * 12.706 * std::sqrt(2.0) * std::sqrt(1.5), 1e-9);
  // The same spread in more repetitions says more about the next one.
  EXPECT_LT(noise_percent({9, 11, 9, 11, 9, 11}), noise_percent({9, 11}) / 4);
  // Beyond the table the normal distribution.
  std::vector<double> many;
  for (int i = 0; i < 1000; ++i) many.push_back(i % 2 == 0 ? 9 : 11);
  EXPECT_NEAR(noise_percent(many), 19.6, 0.1);
}

TEST(BenchMeasure, WarmUpRepetitionsDoNotCount) {
  timings some("malloc", 2, {{"size_bytes", std::uint64_t{16}}});
  for (const double ns : {1000.0, 500.0, 400.0, 30.0, 20.0, 10.0}) some.add(ns, 10);
  const operation got = some.finish();
  EXPECT_EQ(got.samples, (std::vector<double>{3, 2, 1}));
  EXPECT_EQ(got.ns_per_op, 2.0);
  EXPECT_EQ(got.cold_ns_per_op, 100.0);
  EXPECT_EQ(got.at.front().first, "size_bytes");
  timings few("malloc", 5);
  for (const double ns : {1000.0, 500.0, 400.0}) few.add(ns, 10);
  EXPECT_EQ(few.warm(), (std::vector<double>{40}));  // the last one at least
}

TEST(BenchMeasure, OneRepetitionOrNone) {
  timings one("x");
  one.add(50, 10);
  EXPECT_EQ(one.ns_per_op(), 5.0);
  timings none("x");
  none.add(50, 0);
  EXPECT_EQ(none.ns_per_op(), 0.0);
  EXPECT_FALSE(none.finish().cold_ns_per_op);
}

TEST(BenchMeasure, UsageRelatesToPayloadAndMallocs) {
  heap_snapshot full;
  full.page_bytes = 1000;
  full.bytes_in_use = 900;
  heap_snapshot last;
  last.host_requests = 3;
  last.waits = 1;
  last.peak_bytes = 2000;
  const heap_use got = usage(full, last, 800, 500'000);
  EXPECT_DOUBLE_EQ(*got.host_requests_per_million_mallocs, 6.0);
  EXPECT_DOUBLE_EQ(*got.waits_per_million_mallocs, 2.0);
  EXPECT_DOUBLE_EQ(*got.utilisation, 0.8);
  EXPECT_EQ(got.bytes_in_use, 900u);
  EXPECT_EQ(got.peak_bytes, 2000u);
  const heap_use nothing = usage({}, {}, 0, 0);
  EXPECT_FALSE(nothing.utilisation || nothing.host_requests_per_million_mallocs);
}

TEST(BenchMeasure, LostObjectsAndWrongFreesAreFound) {
  heap_options wanted;
  wanted.backend = backend_kind::simt;
  wanted.reserve_bytes = std::size_t{64} << 20;
  wanted.report_leaks = false;
  wanted.on_report = [](const std::string&) {};
  heap tested(wanted);
  EXPECT_NO_THROW(require_empty(tested, "at first"));
  void* p = tested.malloc(100);
  try {
    require_empty(tested, "now");
    FAIL() << "a live object went unnoticed";
  } catch (const integrity_error& error) {
    EXPECT_STREQ(error.what(), "the heap now: expected 0 live objects, found 1");
  }
  EXPECT_EQ(snapshot(tested).live_objects, 1u);
  tested.free(p);
  EXPECT_NO_THROW(require_empty(tested, "again"));
  tested.free(p);
  EXPECT_THROW(require_empty(tested, "after a double free"), integrity_error);
}

TEST(BenchRegistry, CasesOfABackendInOrder) {
  // No kernels are linked here: the names are this test's alone.
  const auto nothing = [](const run_context&) { return result{}; };
  registration({"second", "", backend_kind::simt, 2, nothing});
  registration({"first/16", "", backend_kind::simt, 1, nothing});
  registration({"first/64", "", backend_kind::simt, 1, nothing});
  registration({"other", "", backend_kind::cuda, 0, nothing});
  const auto names = [](backend_kind backend, const std::string& filter) {
    std::vector<std::string> out;
    for (const auto& one : select_cases(backend, filter)) out.push_back(one.name);
    return out;
  };
  using strings = std::vector<std::string>;
  EXPECT_EQ(names(backend_kind::simt, ""), (strings{"first/16", "first/64", "second"}));
  EXPECT_EQ(names(backend_kind::simt, "^first/(16|32)$"), (strings{"first/16"}));
  EXPECT_EQ(names(backend_kind::cuda, ""), (strings{"other"}));
  EXPECT_TRUE(names(backend_kind::simt, "none").empty());
  registration({"churned", "", backend_kind::simt, 0, nothing, "churn"});
  EXPECT_EQ(names(backend_kind::simt, ""), (strings{"first/16", "first/64", "second", "churned"}));
  const auto of_suite = [](const char* suite) {
    return select_cases(backend_kind::simt, "", suite).size();
  };
  EXPECT_EQ(of_suite("main"), 3u);
  EXPECT_EQ(of_suite("churn"), 1u);
  EXPECT_EQ(of_suite("real"), 0u);
  EXPECT_EQ(find_hooks(backend_kind::cuda), nullptr);
}

TEST(BenchEnvironment, SaysHowItWasBuiltAndOnWhat) {
  const fields all = describe_environment();
  for (const char* wanted : {"time", "compiler", "flags", "system", "cpus"}) {
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.first == wanted; });
    ASSERT_NE(found, all.end()) << wanted;
    if (const auto* text = std::get_if<std::string>(&found->second)) {
      EXPECT_NE(*text, "unknown") << wanted;
      EXPECT_FALSE(text->empty()) << wanted;
    }
  }
}

TEST(BenchProgress, Durations) {
  EXPECT_EQ(duration_text(std::chrono::seconds(0)), "0 s");
  EXPECT_EQ(duration_text(std::chrono::seconds(89)), "89 s");
  EXPECT_EQ(duration_text(std::chrono::seconds(90)), "2 min");
  EXPECT_EQ(duration_text(std::chrono::seconds(12000)), "3 h 20 min");
}

TEST(BenchHostMemory, ThereIsSome) { EXPECT_GT(available_memory(), std::size_t{1} << 20); }

}  // namespace
}  // namespace warpheap::bench
