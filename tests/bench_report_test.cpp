// The table and the JSON file of the benchmark.
#include "bench/report.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include <gtest/gtest.h>

#include "bench/json.hpp"
#include "tests/temporary_files.hpp"

namespace warpheap::bench {
namespace {

TEST(BenchJson, StringsAreEscaped) {
  EXPECT_EQ(json_quote(""), "\"\"");
  EXPECT_EQ(json_quote("a\"b\\c/d"), R"("a\"b\\c/d")");
  EXPECT_EQ(json_quote("\n\t\r"), R"("\n\t\r")");
  EXPECT_EQ(json_quote(std::string_view("\0\x1f\x7f", 3)), R"("\u0000\u001f\u007f")");
}

TEST(BenchJson, TextBeyondAscii) {
  EXPECT_EQ(json_quote("Grüße €\U0001F600"), "\"Grüße €\U0001F600\"");
  EXPECT_EQ(json_quote("a\xff"
                       "b"),
            R"("a\ufffdb")");                                        // no UTF-8
  EXPECT_EQ(json_quote("\xc3"), R"("\ufffd")");                      // cut off
  EXPECT_EQ(json_quote("\xc0\xaf"), R"("\ufffd\ufffd")");            // longer than need be
  EXPECT_EQ(json_quote("\xed\xa0\x80"), R"("\ufffd\ufffd\ufffd")");  // a surrogate
  EXPECT_EQ(json_quote("\xf4\x90\x80\x80"), R"("\ufffd\ufffd\ufffd\ufffd")");
}

TEST(BenchJson, Numbers) {
  EXPECT_EQ(json_number(0), "0");
  EXPECT_EQ(json_number(0.1), "0.1");
  EXPECT_EQ(json_number(-2.5e-9), "-2.5e-09");
  EXPECT_EQ(json_number(std::numeric_limits<double>::infinity()), "null");
  EXPECT_EQ(json_number(std::numeric_limits<double>::quiet_NaN()), "null");
  json_writer json;
  json.value(std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(json.text(), "18446744073709551615");
}

TEST(BenchJson, Nesting) {
  json_writer json;
  json.begin_object();
  json.member("a", true);
  json.key("b");
  json.begin_array();
  json.value(1.5);
  json.null();
  json.begin_object();
  json.end_object();
  json.end_array();
  json.key("c");
  json.begin_array();
  json.end_array();
  json.end_object();
  EXPECT_EQ(json.text(),
            "{\n  \"a\": true,\n  \"b\": [\n    1.5,\n    null,\n    {}\n  ],\n"
            "  \"c\": []\n}");
}

TEST(BenchReport, Rates) {
  EXPECT_EQ(format_rate(0), "0.00");
  EXPECT_EQ(format_rate(999), "999");
  EXPECT_EQ(format_rate(999.6), "1.00 k");
  EXPECT_EQ(format_rate(5'123'456), "5.12 M");
  EXPECT_EQ(format_rate(16.2e9), "16.2 G");
  EXPECT_EQ(format_rate(std::numeric_limits<double>::infinity()), "-");
  EXPECT_EQ(format_number(0), "0");
  EXPECT_EQ(format_number(1234567), "1234567");
  EXPECT_EQ(format_number(99.96), "100");
}

result sample(const std::string& name, check_state check) {
  result out;
  out.name = name;
  out.params = {{"size_bytes", std::uint64_t{16}}, {"mode", std::string("warm")}};
  out.operations = {{"malloc", 50.0, 75.0}, {"free", 25.0, std::nullopt}};
  out.heap = {1.5, 0.0, 65536, 131072, 0.97};
  out.metrics = {{"objects", std::uint64_t{1000}}};
  out.check = check;
  if (check == check_state::failed) out.detail = "object 7: expected 1, found 2";
  return out;
}

class BenchReportFile : public testing::FolderTest {
 protected:
  options to(const std::string& name) const {
    options out;
    out.json_file = (directory_ / name).string();
    return out;
  }
  std::string content(const std::string& name) const {
    std::ifstream file(directory_ / name, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

  const machine where_{"simt", "A \"CPU\"", "no device", "1a2b3c", std::size_t{1} << 30, 2};
  std::ostringstream out_;
};

TEST_F(BenchReportFile, TableNamesWhatWasMeasured) {
  report all(where_, {}, out_);
  all.add(sample("throughput/16", check_state::ok));
  EXPECT_FALSE(all.any_failed());
  all.add(sample("throughput/64", check_state::failed));
  EXPECT_TRUE(all.any_failed());
  all.finish(false);
  const std::string text = out_.str();
  for (const char* part :
       {"simt (no device)", "A \"CPU\", 2 executor threads", "1a2b3c", "throughput/16", "malloc",
        "free", "20.0 M", "50.0", "75.0", "97%", "ok", "FAILED", "object 7: expected 1, found 2",
        "size_bytes=16 mode=warm", "2 cases: 1 ok, 1 FAILED"})
    EXPECT_NE(text.find(part), text.npos) << part;
}

TEST_F(BenchReportFile, FileIsCompleteAfterEveryResult) {
  report all(where_, to("r.json"), out_);
  all.add(sample("one", check_state::ok));
  EXPECT_EQ(content("r.json"), all.json(false));
  EXPECT_NE(content("r.json").find("\"complete\": false"), std::string::npos);
  all.add(sample("two", check_state::failed));
  EXPECT_NE(content("r.json").find("\"name\": \"two\""), std::string::npos);
  all.finish(true);
  EXPECT_NE(content("r.json").find("\"complete\": false"), std::string::npos);
  all.finish(false);
  EXPECT_NE(content("r.json").find("\"complete\": true"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "r.json.part"));
}

TEST_F(BenchReportFile, MetricsCarryTheirUnits) {
  report all(where_, {}, out_);
  all.add(sample("one", check_state::ok));
  const std::string text = all.json(true);
  for (const char* part :
       {"\"backend\": \"simt\"", "\"device\": \"A \\\"CPU\\\"\"", "\"malloc_ns_per_op\": 50",
        "\"cold_malloc_ns_per_op\": 75", "\"malloc_ops_per_s\": 2", "\"free_ns_per_op\": 25",
        "\"host_requests_per_million_mallocs\": 1.5", "\"in_use_bytes\": 65536",
        "\"cold\": \"the first repetition", "\"warm\": \"all others", "\"one_object_a\": \"thread,",
        "\"utilisation_ratio\": 0.97", "\"objects\": 1000", "\"size_bytes\": 16"})
    EXPECT_NE(text.find(part), text.npos) << part;
  EXPECT_EQ(text.find("cold_free"), text.npos);
}

TEST_F(BenchReportFile, SpreadSamplesAndCurvesAreInTheFile) {
  result one = sample("one", check_state::ok);
  one.suite = "survey";
  one.operations = {
      {"malloc", 20, 90.0, {{"size_bytes", std::uint64_t{64}}}, {{10, 20}, {30}}, {{4}, {6}}}};
  one.curves = {{"handed out", "round", "ratio", {{1, 0.5}, {2, 0.25}}}};
  machine where = where_;
  where.environment = {{"compiler", std::string("gcc 12")}};
  report all(where, {}, out_);
  all.add(one);
  std::string text = all.json(true);
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n'; });
  for (const char* part :
       {R"("suite":"survey")", R"("at":{"size_bytes":64})", R"("p5_ns_per_op":11)",
        R"("p95_ns_per_op":29)", R"("passes_ns_per_op":[[10,20],[30]])", R"("cpu_ns_per_op":5)",
        R"("passes_cpu_ns_per_op":[[4],[6]])", R"("noise_percent":)",
        R"("machine":{"compiler":"gcc12"})",
        R"({"name":"handedout","x":"round","y":"ratio","points":[[1,0.5],[2,0.25]]})"})
    EXPECT_NE(text.find(part), text.npos) << part;
  // Of many operations with one name none is "the" metric of that name.
  EXPECT_EQ(text.find("malloc_ns_per_op"), text.npos);
}

TEST_F(BenchReportFile, PassesOfACaseAreOneResult) {
  report all(where_, to("r.json"), out_);
  result one = sample("one", check_state::ok);
  for (const double ns : {30.0, 10.0, 20.0}) {
    one.operations = {{"malloc", ns, std::nullopt, {}, {{ns}}}};
    all.add(one, ns == 20);
    EXPECT_EQ(out_.str().find("50.0 M") != std::string::npos, ns == 20);  // 20 ns: the median
  }
  all.add(sample("stopped", check_state::ok), false);
  EXPECT_EQ(out_.str().find("stopped"), std::string::npos);
  all.finish(true);
  EXPECT_NE(out_.str().find("stopped"), std::string::npos);  // Ctrl-C shows what there is
  EXPECT_EQ(all.results().size(), 2u);
  EXPECT_NE(out_.str().find("2 cases"), std::string::npos);
}

TEST_F(BenchReportFile, CallsAndNullPointersOfAllPasses) {
  report all(where_, {}, out_);
  result one = sample("one", check_state::ok);
  one.calls = {5'000'000, 3};
  all.add(one, false);
  one.calls = {7'300'000, 4};
  one.check = check_state::failed;  // one that failed counts as well
  all.add(one);
  all.add(sample("allocates/nothing", check_state::ok));
  all.finish(false);
  EXPECT_NE(out_.str().find("12.3 M       7 "), std::string::npos) << out_.str();
  std::string json = all.json(true);
  std::erase_if(json, [](char c) { return c == ' ' || c == '\n'; });
  EXPECT_NE(json.find(R"("mallocs":12300000,"null_pointers":7)"), json.npos) << json;
  EXPECT_EQ(json.find("\"mallocs\":", json.find("allocates/nothing")), json.npos);
  EXPECT_NE(all.csv().find(",12300000,7,FAILED\n"), std::string::npos) << all.csv();
  EXPECT_NE(all.csv().find(",,,ok\n"), std::string::npos) << all.csv();
}

TEST_F(BenchReportFile, CsvHasALineForEachOperation) {
  options wanted = to("r.json");
  wanted.csv_file = (directory_ / "r.csv").string();
  report all(where_, wanted, out_);
  result one = sample("one", check_state::ok);
  one.operations[0].at = {{"sizes", std::string("4,8")}};
  all.add(one);
  const std::string text = content("r.csv");
  EXPECT_EQ(text, all.csv());
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_NE(text.find("one,malloc,\"sizes=4,8\",simt,\"A \"\"CPU\"\"\",1a2b3c,0,0,50,"), text.npos)
      << text;
}

TEST_F(BenchReportFile, UnwritableFileIsRefusedAtTheStart) {
  EXPECT_THROW(report(where_, to("missing/dir/r.json"), out_), usage_error);
  EXPECT_THROW(report(where_, to("."), out_), usage_error);
}

TEST_F(BenchReportFile, FileThatIsNoRegularFileIsWrittenOnce) {
  options wanted;
  wanted.json_file = "/dev/null";
  report all(where_, wanted, out_);
  all.add(sample("one", check_state::ok));
  EXPECT_NO_THROW(all.finish(false));
  EXPECT_FALSE(std::filesystem::exists("/dev/null.part"));
}

}  // namespace
}  // namespace warpheap::bench
