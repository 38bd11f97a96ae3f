// From timings and snapshots of the heap to results, and the list of cases.
#include "bench/measure.hpp"

#include <chrono>
#include <cmath>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "bench/environment.hpp"
#include "bench/host_memory.hpp"
#include "bench/pass_plan.hpp"
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

TEST(BenchMeasure, NoiseIsWhereAnotherRunLies) {
  EXPECT_FALSE(noise_percent({}));
  EXPECT_FALSE(noise_percent({{9, 11, 9, 11}}));  // one pass knows nothing of another
  EXPECT_FALSE(noise_percent({{9}, {}}));
  EXPECT_NEAR(*noise_percent({{5, 5}, {5}}), 4, 0.1);  // less is never stated
  // Medians e and e^3: deviation sqrt(2), t = 12.706 with one degree of freedom, 2 passes each.
  const double far = std::exp(3.0);
  EXPECT_NEAR(*noise_percent({{1, std::exp(1.0), far}, {far}}),
              100 * std::expm1(std::hypot(12.706 * std::sqrt(2.0), 0.04)), 1);
  // What is repeated within a pass says nothing; more passes do.
  const std::vector<double> low(100, 9), high(100, 11);
  EXPECT_EQ(noise_percent({low, high}), noise_percent({{9}, {11}}));
  EXPECT_LT(*noise_percent({{9}, {11}, {9}, {11}}), *noise_percent({{9}, {11}}) / 4);
}

TEST(BenchMeasure, NoiseHoldsTheOtherRunAsOftenAsItSays) {
  // Runs of five passes; repetitions of a pass share its drift, ten times their own spread.
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  const auto run = [&] {
    std::vector<std::vector<double>> passes(5, std::vector<double>(6));
    for (auto& pass : passes) {
      const double drift = 0.1 * normal(random);
      for (double& sample : pass) sample = 100 * std::exp(drift + 0.01 * normal(random));
    }
    return passes;
  };
  const auto figure = [](const auto& passes) {
    std::vector<double> medians;
    for (const auto& pass : passes) medians.push_back(median(pass));
    return std::log(median(medians));
  };
  constexpr int runs = 4000;
  int inside = 0;
  for (int i = 0; i < runs; ++i) {
    const auto one = run();
    inside += std::abs(figure(run()) - figure(one)) <= std::log1p(*noise_percent(one) / 100);
  }
  EXPECT_GT(inside / double{runs}, 0.945);
  EXPECT_LT(inside / double{runs}, 0.975);  // nor does it state too much
}

TEST(BenchMeasure, WarmUpRepetitionsDoNotCount) {
  timings some("malloc", 2, {{"size_bytes", std::uint64_t{16}}});
  for (const double ns : {1000.0, 500.0, 400.0, 30.0, 20.0, 10.0}) some.add(ns, 10);
  const operation got = some.finish();
  EXPECT_EQ(got.passes, (std::vector<std::vector<double>>{{3, 2, 1}}));
  EXPECT_EQ(got.ns_per_op, 2.0);
  EXPECT_EQ(got.cold_ns_per_op, 100.0);
  EXPECT_EQ(got.at.front().first, "size_bytes");
  timings few("malloc", 5);
  for (const double ns : {1000.0, 500.0, 400.0}) few.add(ns, 10);
  EXPECT_EQ(few.warm(), (std::vector<double>{40}));  // the last one at least
}

TEST(BenchMeasure, CpuTimeStandsStillWhileNothingRuns) {
  const stopwatch clock;
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const elapsed took = clock.read();
  EXPECT_GE(took.ns, 50e6);
  ASSERT_TRUE(took.cpu_ns);
  EXPECT_LT(*took.cpu_ns, took.ns / 2);
  elapsed sum{1, 2};
  sum += {3, 4};
  EXPECT_EQ(sum.ns, 4);
  EXPECT_EQ(sum.cpu_ns, 6);
  sum += {1, std::nullopt};
  EXPECT_FALSE(sum.cpu_ns);

  timings some("malloc");
  for (const double ns : {1000.0, 20.0, 40.0}) some.add(elapsed{ns, ns / 2}, 10);
  EXPECT_EQ(some.finish().passes, (std::vector<std::vector<double>>{{2, 4}}));
  EXPECT_EQ(some.finish().cpu_passes, (std::vector<std::vector<double>>{{1, 2}}));
  some.add(30, 10);  // not known once: not known at all
  EXPECT_TRUE(some.finish().cpu_passes.empty());
}

TEST(BenchMeasure, PassesAreMerged) {
  const auto pass = [](double ns, double cold, double ratio) {
    result one;
    one.name = "case";
    one.operations = {{"malloc", ns, cold, {{"size", std::uint64_t{16}}}, {{ns, ns}}},
                      {"malloc", 7, std::nullopt, {{"size", std::uint64_t{64}}}, {{7}}}};
    one.metrics = {{"ratio", ratio}, {"objects", static_cast<std::uint64_t>(ns)}};
    one.heap.utilisation = ratio;
    return one;
  };
  const result all = merged({pass(10, 100, 0.5), pass(40, 300, 0.75), pass(20, 200, 1.0)});
  ASSERT_EQ(all.operations.size(), 2u);
  EXPECT_EQ(all.operations[0].ns_per_op, 20);
  EXPECT_EQ(all.operations[0].cold_ns_per_op, 200);
  EXPECT_EQ(all.operations[0].passes,
            (std::vector<std::vector<double>>{{10, 10}, {40, 40}, {20, 20}}));
  EXPECT_EQ(all.operations[1].ns_per_op, 7);
  EXPECT_FALSE(all.operations[1].cold_ns_per_op);
  EXPECT_EQ(all.metrics[0].second, field_value(0.75));
  EXPECT_EQ(all.metrics[1].second, field_value(std::uint64_t{20}));  // the latest
  EXPECT_EQ(all.heap.utilisation, 0.75);
  EXPECT_FALSE(all.heap.waits_per_million_mallocs);

  result bad;
  bad.check = check_state::failed;
  bad.detail = "object 7";
  EXPECT_EQ(merged({pass(1, 1, 1), bad, pass(1, 1, 1)}).check, check_state::failed);
  EXPECT_EQ(merged({pass(1, 1, 1), bad}).detail, "object 7");
  EXPECT_TRUE(merged({}).operations.empty());
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

TEST(BenchMeasure, NullPointersAreAnErrorWhereMemoryWasThere) {
  EXPECT_NO_THROW(require_served(0, 10, 100, 100));
  EXPECT_NO_THROW(require_served(1, 10, 500, 1000));  // rounding up may have used the rest
  try {
    require_served(1, 10, 400, 1000);
    FAIL() << "a null pointer of a heap with room went unnoticed";
  } catch (const integrity_error& error) {
    EXPECT_STREQ(error.what(),
                 "expected memory for 10 objects, at most 400 bytes at once in a heap of 1000, "
                 "found 1 null pointers");
  }
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
  std::vector<std::string> names = {"time", "compiler", "flags", "system", "cpus"};
#ifdef WARPHEAP_HAS_CUDA
  names.emplace_back("cuda_compiler");
#endif
  for (const std::string& wanted : names) {
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

TEST(BenchProgress, TimeLeftIsWhatTheCasesTookBefore) {
  EXPECT_FALSE(seconds_left({}, 3, 2));
  EXPECT_EQ(seconds_left({4}, 3, 1), 8);                // two more like it
  EXPECT_EQ(seconds_left({10, 1, 1}, 3, 2), 12);        // a second pass like the first
  EXPECT_EQ(seconds_left({10, 1, 1, 6}, 3, 3), 2 + 8);  // the latest times count
  EXPECT_EQ(seconds_left({1, 2}, 2, 1), 0);
}

/// The cases that ran, a letter each, big where that was the last time. b fails in its second turn.
std::string order_of(std::vector<bool> once, unsigned passes) {
  std::string order;
  pass_plan plan(std::move(once), passes);
  while (const auto i = plan.next()) {
    const bool ok = *i != 1 || order.find('b') == std::string::npos;
    const bool last = plan.ran(ok, 1);
    order += static_cast<char>((last ? 'A' : 'a') + *i);
  }
  EXPECT_EQ(plan.turn(), plan.turns() + 1);
  return order;
}

TEST(BenchPassPlan, PassAfterPassWithoutWhatDoesNotComeAgain) {
  EXPECT_EQ(order_of({false}, 3), "aaA");
  EXPECT_EQ(order_of({true}, 3), "A");
  EXPECT_EQ(order_of({false, false, false}, 4), "abcaBcacAC");
  EXPECT_EQ(order_of({true, false, true}, 3), "AbCB");
  EXPECT_EQ(order_of({true, true, true}, 2), "ABC");
  EXPECT_EQ(order_of({false, false}, 1), "AB");
}

TEST(BenchPassPlan, TheTimeLeftIsWithoutWhatRunsOnce) {
  pass_plan plan({false, true}, 3);
  EXPECT_EQ(plan.next(), 0u);
  EXPECT_EQ(plan.next(), 0u);
  EXPECT_FALSE(plan.seconds_left());
  EXPECT_FALSE(plan.ran(true, 2));
  EXPECT_EQ(plan.next(), 1u);
  EXPECT_TRUE(plan.ran(true, 100));
  EXPECT_EQ(plan.seconds_left(), 4);
  EXPECT_EQ(plan.next(), 0u);
  EXPECT_EQ(plan.turn(), 3u);
  EXPECT_EQ(plan.turns(), 6u);
}

TEST(BenchHostMemory, ThereIsSome) { EXPECT_GT(available_memory(), std::size_t{1} << 20); }

}  // namespace
}  // namespace warpheap::bench
