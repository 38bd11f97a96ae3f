// Traces of allocations: the CSV form, its mistakes, and the recorder on a real program.
#include "bench/trace.hpp"

#include <set>

#include <gtest/gtest.h>

namespace warpheap::bench {
namespace {

const std::string titles = "Thread,Time,Action,Pointer,Size,Stream\n";

std::string complaint(const std::string& text) {
  try {
    parse_trace(text, "t");
  } catch (const bad_input& error) {
    return error.what();
  }
  return "";
}

// "+0" and "-0": object 0 made and freed.
std::string calls(const trace& of) {
  std::string out;
  for (const trace_event one : of.events)
    out += (one.is_free ? "-" : "+") + std::to_string(one.object);
  return out;
}

TEST(BenchTrace, ObjectsAreNumberedAndFreedOnce) {
  const trace got = parse_trace(titles
                                    + "1,10:00:00.000001,allocate,0x10,100,0x0\n"
                                      "2,10:00:00.000002,allocate,0x20,50,0x0\r\n"
                                      "1,10:00:00.000003,free,0x10,100,0x0\n"
                                      "1,10:00:00.000004,allocate,0x10,7,0x0\n"
                                      "\n"
                                      "1,10:00:00.000005,free,0x10,0,0x0\n",
                                "t");
  EXPECT_EQ(calls(got), "+0+1-0+2-2-1");
  EXPECT_EQ(got.sizes, (std::vector<std::uint64_t>{100, 50, 7}));
  EXPECT_EQ(got.peak_bytes, 150u);
  EXPECT_EQ(got.total_bytes, 157u);
  EXPECT_EQ(got.never_freed, 1u);
  EXPECT_EQ(got.unknown_frees + got.missing_frees + got.failed, 0u);
}

TEST(BenchTrace, WhatTheLogDoesNotKnowIsCounted) {
  const trace got = parse_trace(titles
                                    + "1,t,free,0xdead,0,0\n"
                                      "1,t,allocate failure,(nil),1000,0\n"
                                      "1,t,allocate,0x10,8,0\n"
                                      "1,t,allocate,0x10,16,0\n"
                                      "1,t,free,10,16,0\n",
                                "t");
  EXPECT_EQ(calls(got), "+0-0+1-1");
  EXPECT_EQ(got.unknown_frees, 1u);
  EXPECT_EQ(got.failed, 1u);
  EXPECT_EQ(got.missing_frees, 1u);
  EXPECT_EQ(parse_trace(titles, "t").events.size(), 0u);
}

TEST(BenchTrace, MalformedLinesAreNamed) {
  EXPECT_NE(complaint("").find("t:0: expected the titles"), std::string::npos);
  EXPECT_NE(complaint("Thread,Time\n").find("t:1: expected the titles"), std::string::npos);
  for (const char* bad :
       {"1,t,allocate,0x10,8\n", "1,t,allocate,0x10,8,0,0\n", "x\n", "1,t,allocate,zz,8,0\n",
        "1,t,allocate,0x10,-8,0\n", "1,t,allocate,0x10,,0\n", "1,t,realloc,0x10,8,0\n",
        "1,t,allocate,0x10,1099511627777,0\n", "1,t,allocate,0x10,99999999999999999999,0\n",
        "1,t,free,,0,0\n", "1,t,allocate,0x1ffffffffffffffff,8,0\n"})
    EXPECT_EQ(complaint(titles + "1,t,allocate,0x8,8,0\n" + bad).find("t:3: expected"), 0u) << bad;
}

TEST(BenchTrace, LanesGetWholeObjectsInOrder) {
  const trace all = parse_trace(titles
                                    + "1,t,allocate,0x10,1,0\n1,t,allocate,0x20,1,0\n"
                                      "1,t,allocate,0x30,1,0\n1,t,free,0x20,0,0\n"
                                      "1,t,free,0x10,0,0\n1,t,free,0x30,0,0\n",
                                "t");
  const lane_events split = split_by_lane(all, 2);
  EXPECT_EQ(split.begins, (std::vector<std::uint32_t>{0, 4, 6}));
  trace of_lane;
  of_lane.events.assign(split.events.begin(), split.events.begin() + 4);
  EXPECT_EQ(calls(of_lane), "+0+2-0-2");
}

TEST(BenchRecorder, RecordsARealProgram) {
  const std::string recorder = WARPHEAP_TEST_RECORDER;
  const trace got =
      record_trace({"perl", "-e", "my @a = map { 'x' x (1000 + $_) } 1..500;"}, 100'000, recorder);
  ASSERT_GT(got.objects(), 500u);
  EXPECT_EQ(got.source, "perl -e my @a = map { 'x' x (1000 + $_) } 1..500;");
  // The strings have sizes of their own, which all have to be there.
  std::set<std::uint64_t> sizes(got.sizes.begin(), got.sizes.end());
  unsigned found = 0;
  for (std::uint64_t size = 1001; size <= 1532; ++size) found += sizes.count(size);
  EXPECT_GT(found, 50u);
  EXPECT_EQ(got.failed, 0u);
}

TEST(BenchRecorder, LimitsAndMissingPrograms) {
  const std::string recorder = WARPHEAP_TEST_RECORDER;
  const trace few =
      record_trace({"perl", "-e", "my @a = map { 'x' x 1000 } 1..500;"}, 100, recorder);
  EXPECT_LE(few.objects(), 100u);
  EXPECT_GT(few.objects(), 10u);
  EXPECT_TRUE(record_trace({"/nonexistent/program"}, 100, recorder).events.empty());
  EXPECT_TRUE(record_trace({"perl", "-e", "1"}, 100, "").events.empty());
}

}  // namespace
}  // namespace warpheap::bench
