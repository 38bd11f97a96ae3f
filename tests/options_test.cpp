#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>
#include <warpheap/heap.hpp>
#include <warpheap/options.hpp>

namespace warpheap {
namespace {

using namespace literals;

std::vector<std::string> warnings;
heap_options parse(const std::string& text) {
  warnings.clear();
  return heap_options::parse(text, [](const std::string& line) { warnings.push_back(line); });
}

TEST(Options, EveryKeyIsRead) {
  const heap_options o = parse(
      "reserve=64M,stock=128K,backend=simt,timeout_us=250,service=0,leaks=0,events=64K,print_state="
      "-");
  EXPECT_TRUE(warnings.empty());
  EXPECT_EQ(o.reserve_bytes, 64_MiB);
  EXPECT_EQ(o.initial_stock_bytes, 128_KiB);
  EXPECT_EQ(o.backend, backend_kind::simt);
  EXPECT_EQ(o.refill_timeout_ns, 250'000u);
  EXPECT_FALSE(o.refill_service);
  EXPECT_FALSE(o.report_leaks);
  EXPECT_EQ(o.device_events, 65536u);
  EXPECT_EQ(o.print_state_file, "-");
}

TEST(Options, WhatIsNotUnderstoodIsSaidAndIgnored) {
  const heap_options o = parse(
      "colour=red,reserve=lots,leaks=2,,backend=vulkan,service,"
      "timeout_us=-1,stock=8K");
  ASSERT_EQ(warnings.size(), 6u);
  EXPECT_NE(warnings[0].find("\"colour=red\""), std::string::npos);
  EXPECT_NE(warnings[0].find("known are reserve"), std::string::npos);
  EXPECT_NE(warnings[1].find("lots"), std::string::npos);
  const heap_options defaults;
  EXPECT_EQ(o.reserve_bytes, defaults.reserve_bytes);
  EXPECT_EQ(o.report_leaks, defaults.report_leaks);
  EXPECT_EQ(o.backend, defaults.backend);
  EXPECT_EQ(o.initial_stock_bytes, 8_KiB);
}

TEST(Options, MemoryThatIsGivenBack) {
  const heap_options o = parse("memory_limit=1.5G,scavenge=0");
  EXPECT_TRUE(warnings.empty());
  EXPECT_EQ(o.memory_limit, 1536_MiB);
  EXPECT_FALSE(o.scavenge);
  EXPECT_EQ(heap_options().memory_limit, 0u);
  EXPECT_TRUE(heap_options().scavenge);
}

TEST(Options, SizesAreReadWithTheirUnits) {
  EXPECT_EQ(parse_size("4096"), 4096u);
  EXPECT_EQ(parse_size("64k"), 64_KiB);
  EXPECT_EQ(parse_size("1.5G"), 1536_MiB);
  EXPECT_EQ(parse_size("3MiB"), 3_MiB);
  for (const char* bad : {"", "x", "-1", "1Q", "1KK", "1e999", "nan", "inf", "99999999T", "1 M"})
    EXPECT_THROW(parse_size(bad), heap_error) << bad;
}

TEST(Options, BytesAreWrittenForPeople) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(8_GiB), "8 GiB");
}

/// Ends with 7 when two heaps have taken WARPHEAP's size in place of their own.
[[noreturn]] void make_two_heaps() {
  setenv("WARPHEAP", "reserve=32M,nonsense=1,backend=simt", 1);
  heap_options o;
  o.reserve_bytes = 16_MiB;
  heap a(o), b(o);
  std::exit(a.options().reserve_bytes == 32_MiB && b.options().reserve_bytes == 32_MiB ? 7 : 1);
}

TEST(OptionsDeathTest, TheEnvironmentChangesAHeapAndUnknownKeysAreSaidOnce) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(make_two_heaps(), ::testing::ExitedWithCode(7),
              "^WARPHEAP: .nonsense=1. is ignored: [^\n]*\n$");
}

}  // namespace
}  // namespace warpheap
