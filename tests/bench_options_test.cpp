// The command line of the benchmark.
#include "bench/options.hpp"

#include <gtest/gtest.h>

namespace warpheap::bench {
namespace {

// The text of the usage_error that the arguments give; empty if they are accepted.
std::string complaint(const std::vector<std::string>& arguments) {
  try {
    parse_options(arguments);
  } catch (const usage_error& error) {
    return error.what();
  }
  return "";
}

TEST(BenchOptions, DefaultsWithoutArguments) {
  const options got = parse_options({});
  EXPECT_EQ(got.backend, backend_kind::automatic);
  EXPECT_EQ(got.repetitions(), 2u);
  EXPECT_FALSE(got.quick || got.list || got.help || got.version);
  EXPECT_FALSE(got.threads || got.reserve_bytes);
  EXPECT_TRUE(got.filter.empty() && got.json_file.empty() && got.csv_file.empty());
  EXPECT_EQ(got.suite, "main");
  EXPECT_FALSE(got.suite_given);
  EXPECT_EQ(got.warm_ups(), 1u);
  EXPECT_EQ(got.pass_count(), 5u);
}

TEST(BenchOptions, EveryOption) {
  const options got =
      parse_options({"--backend", "simt", "--filter=graph|text", "--repeat", "7", "--threads=2",
                     "--reserve", "512M", "--quick", "--list", "--json", "a=b.json", "--help"});
  EXPECT_EQ(got.backend, backend_kind::simt);
  EXPECT_EQ(got.filter, "graph|text");
  EXPECT_EQ(got.repetitions(), 7u);
  EXPECT_EQ(got.threads, 2u);
  EXPECT_EQ(got.reserve_bytes, std::size_t{512} << 20);
  EXPECT_EQ(got.json_file, "a=b.json");
  EXPECT_TRUE(got.quick && got.list && got.help);
  EXPECT_EQ(parse_options({"--json=x=y"}).json_file, "x=y");
  const options more = parse_options({"--suite", "churn", "--csv", "r.csv", "--graph=g.mtx",
                                      "--trace", "t.csv", "--warm-up", "0"});
  EXPECT_EQ(more.suite, "churn");
  EXPECT_TRUE(more.suite_given);
  EXPECT_EQ(more.csv_file, "r.csv");
  EXPECT_EQ(more.graph_file, "g.mtx");
  EXPECT_EQ(more.trace_file, "t.csv");
  EXPECT_EQ(more.warm_ups(), 0u);
  EXPECT_TRUE(parse_options({"-h"}).help);
  EXPECT_TRUE(parse_options({"--version"}).version);
  EXPECT_EQ(parse_options({"--quick"}).warm_ups(), 0u);
}

TEST(BenchOptions, LastOneCounts) {
  EXPECT_EQ(parse_options({"--repeat=2", "--repeat=9"}).repetitions(), 9u);
  EXPECT_EQ(parse_options({"--passes=7"}).pass_count(), 7u);
}

TEST(BenchOptions, UnknownOptionNamesItAndWhatIsPossible) {
  for (const char* bad : {"--size", "-x", "graph", "", "--quik", "--"}) {
    const std::string text = complaint({bad});
    EXPECT_NE(text.find("'" + std::string(bad) + "'"), text.npos) << bad;
    EXPECT_NE(text.find("--backend"), text.npos) << bad;
  }
}

TEST(BenchOptions, BadNumbers) {
  for (const char* bad : {"0", "-1", "", "x", "3x", "1.5", " 2", "99999999999999999999"}) {
    EXPECT_NE(complaint({"--repeat", bad}).find("--repeat"), std::string::npos) << bad;
    EXPECT_NE(complaint({"--threads=" + std::string(bad)}).find("whole number from 1"),
              std::string::npos)
        << bad;
  }
  EXPECT_NE(complaint({"--threads", "1025"}), "");
  EXPECT_EQ(complaint({"--threads", "1024"}), "");
}

TEST(BenchOptions, BadSizes) {
  for (const char* bad : {"0", "-1", "", "M", "12Q", "1e400", "nan", "99999999999T"})
    EXPECT_NE(complaint({"--reserve", bad}).find("--reserve: '" + std::string(bad)),
              std::string::npos)
        << bad;
  EXPECT_EQ(parse_options({"--reserve=1.5G"}).reserve_bytes, std::size_t{3} << 29);
  EXPECT_EQ(parse_options({"--reserve=67108864"}).reserve_bytes, std::size_t{64} << 20);
}

TEST(BenchOptions, BadBackendAndRegex) {
  const std::string backend = complaint({"--backend", "opencl"});
  EXPECT_NE(backend.find("'opencl'"), backend.npos);
  EXPECT_NE(backend.find("auto simt cuda"), backend.npos);
  EXPECT_NE(complaint({"--filter", "(unclosed"}).find("'(unclosed'"), std::string::npos);
  EXPECT_NE(complaint({"--filter", "[z-a]"}), "");
}

TEST(BenchOptions, UnknownSuiteNamesThemAll) {
  const std::string text = complaint({"--suite", "everything"});
  for (const auto name : suite_names) EXPECT_NE(text.find(name), text.npos) << name;
  EXPECT_NE(complaint({"--warm-up", "-1"}).find("from 0"), std::string::npos);
}

TEST(BenchOptions, MissingAndSurplusValues) {
  for (const char* name : {"--backend", "--suite", "--filter", "--passes", "--repeat", "--warm-up",
                           "--threads", "--json", "--csv", "--graph", "--trace", "--reserve"})
    EXPECT_NE(complaint({name}).find("needs a value"), std::string::npos) << name;
  EXPECT_NE(complaint({"--quick=yes"}).find("takes no value"), std::string::npos);
  EXPECT_NE(complaint({"--json="}), "");
}

TEST(BenchOptions, HelpNamesEveryOption) {
  const std::string help = usage_text();
  for (const char* name : {"--backend", "--filter", "--repeat", "--threads", "--reserve", "--quick",
                           "--version", "--list", "--json", "--help", "--suite", "--warm-up",
                           "--csv", "--graph", "--trace", "--passes"})
    EXPECT_NE(help.find(name), help.npos) << name;
}

}  // namespace
}  // namespace warpheap::bench
