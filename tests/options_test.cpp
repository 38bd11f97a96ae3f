#include <gtest/gtest.h>

#include <algorithm>
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
      "reserve=64M,least_reserve=32M,stock=128K,backend=simt,timeout_us=250,service=0,leaks=0,"
      "events=64K,print_state=-");
  EXPECT_TRUE(warnings.empty());
  EXPECT_EQ(o.reserve_bytes, 64_MiB);
  EXPECT_EQ(o.least_reserve_bytes, 32_MiB);
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
  EXPECT_EQ(parse_size("0"), 0u);
  EXPECT_EQ(parse_size("0.25t"), 256_GiB);
  EXPECT_EQ(parse_size("1.5"), 1u);
  EXPECT_EQ(parse_size("1.000001M"), 1_MiB + 1);
  EXPECT_EQ(parse_size("9223372036854775806"), std::size_t{INT64_MAX} - 1);
  EXPECT_EQ(parse_size("8388606.999999T"), (8388606_GiB << 10) + (999999_GiB << 10) / 1'000'000);
  for (const char* bad : {"",
                          "x",
                          "-1",
                          "+1",
                          "1Q",
                          "1KK",
                          "1e999",
                          "1e3",
                          "nan",
                          "inf",
                          "1 M",
                          ".5G",
                          "5.",
                          "5.G",
                          "1.0000001G",
                          "64iB",
                          "64B",
                          "3MB",
                          "3Mi",
                          "3MiBs",
                          "9223372036854775807",
                          "99999999999999999999",
                          "8388607T",
                          "99999999T"})
    EXPECT_THROW(parse_size(bad), heap_error) << bad;
}

TEST(Options, BytesAreWrittenForPeople) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(8_GiB), "8 GiB");
}

/// A heap of these options can be used, or is refused with a reason.
void make_and_use(const heap_options& o, const std::string& what) {
  SCOPED_TRACE(what);
  try {
    heap h(o);
    for (const std::size_t size : {5, 100, 40'000})
      for (int i = 0; i < 3; ++i) h.free(h.malloc(size));
    const heap_stats s = h.stats();
    // What is held back counts as live.
    const bool holds_back = o.quarantine_bytes != 0 || o.annotate || o.efence || o.sbrk;
    EXPECT_LE(s.host.live_objects, holds_back ? 9u : 0u);
    EXPECT_LE(s.stock_bytes, s.reserve_bytes / 4);
    EXPECT_LE(h.device().stock_floor, std::max(h.device().pages / 4, chunk_pages));
    EXPECT_EQ(h.device().state->observed.event_slots, h.options().device_events);
    (void)h.trim();
    h.reset();
    (void)h.state_text();
  } catch (const heap_error& error) {
    EXPECT_NE(std::string(error.what()).find(" was asked for"), std::string::npos) << error.what();
  }
}

TEST(Options, HostileNumbersAreRefusedOrHarmless) {
  constexpr std::size_t numbers[] = {0,
                                     1,
                                     (std::size_t{1} << 32) - 1,
                                     std::size_t{1} << 32,
                                     (std::size_t{1} << 45) + 1,
                                     (std::size_t{1} << 59) + 16,
                                     std::size_t{1} << 63,
                                     ~std::size_t{0}};
  struct {
    const char* name;
    std::size_t heap_options::*option;
  } const sizes[] = {{"reserve_bytes", &heap_options::reserve_bytes},
                     {"least_reserve_bytes", &heap_options::least_reserve_bytes},
                     {"initial_stock_bytes", &heap_options::initial_stock_bytes},
                     {"refill_timeout_ns", &heap_options::refill_timeout_ns},
                     {"memory_limit", &heap_options::memory_limit},
                     {"device_events", &heap_options::device_events},
                     {"profile_rate", &heap_options::profile_rate},
                     {"quarantine_bytes", &heap_options::quarantine_bytes}};
  heap_options small;
  small.reserve_bytes = 16_MiB;
  small.backend = backend_kind::simt;
  small.report_leaks = false;
  small.on_report = [](const std::string&) {};
  for (const auto& [name, option] : sizes) {
    for (const std::size_t number : numbers) {
      heap_options o = small;
      o.*option = number;
      make_and_use(o, std::string(name) + " = " + std::to_string(number));
    }
  }
  for (const int number : {-1, 3, 1 << 30}) {
    heap_options o = small;
    o.backend = static_cast<backend_kind>(number);
    EXPECT_THROW(o.validate(), heap_error) << number;
  }
  for (bool heap_options::*flag :
       {&heap_options::scavenge, &heap_options::refill_service, &heap_options::report_leaks,
        &heap_options::annotate, &heap_options::red_zones, &heap_options::clobber_free,
        &heap_options::efence, &heap_options::sbrk}) {
    heap_options o = small;
    o.*flag = !(o.*flag);
    make_and_use(o, "a flag");
  }
}

TEST(Options, ARingOfEventsHasALargestSize) {
  heap_options o;
  o.device_events = max_device_events;
  EXPECT_NO_THROW(o.validate());
  o.device_events = max_device_events + 1;
  EXPECT_THROW(o.validate(), heap_error);
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
