// The heap profile: what is sampled, and what the files say, read back by a decoder of its own.
#include <gtest/gtest.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>
#include <warpheap/heap.hpp>

#include "tests/host_only.hpp"
#include "tests/temporary_files.hpp"
#include "tests/test_scale.hpp"

namespace {

using namespace warpheap;
using warpheap::testing::host_only;
using warpheap::testing::temporary_file;

heap_options profiled(std::size_t rate) {
  heap_options o = host_only(256_MiB);
  o.profile_rate = rate;
  return o;
}

// Counts of loops that the compiler does not unroll: each call stays one place.
volatile int three = 3, five = 5, ten = 10, hundred = 100;

// Call sites of their own.
[[gnu::noinline]] void* allocate_one(heap& h, std::size_t n) {
  void* p = h.malloc(n);
  asm volatile("" ::: "memory");  // no jump to malloc in place of a call
  return p;
}
[[gnu::noinline]] void* allocate_other(heap& h, std::size_t n) {
  void* p = h.calloc(n, 1);
  asm volatile("" ::: "memory");
  return p;
}

TEST(heap_profile_test, off_there_is_nothing) {
  heap h(profiled(0));
  for (int i = 0; i < 1000; ++i) h.free(h.malloc(10000));
  EXPECT_EQ(h.profile().rate, 0u);
  EXPECT_TRUE(h.profile().buckets.empty());
}

TEST(heap_profile_test, rate_1_counts_every_object) {
  heap h(profiled(1));
  std::vector<void*> live;
  live.reserve(1000);  // compilers double the calls that follow a push_back which may grow
  for (int i = 0; i < hundred; ++i) {
    live.push_back(allocate_one(h, 100));
    live.push_back(allocate_other(h, 100));
    live.push_back(allocate_other(h, 3000));
    h.free(allocate_one(h, 5));
  }
  live.push_back(h.realloc(nullptr, 70000));
  const heap_profile p = h.profile();
  std::map<std::size_t, std::multiset<std::pair<std::uint64_t, std::uint64_t>>> by_size;
  for (const auto& b : p.buckets) {
    EXPECT_GE(b.stack.size(), 3u);
    by_size[b.object_bytes].insert({b.allocs, b.frees});
  }
  using counts = std::multiset<std::pair<std::uint64_t, std::uint64_t>>;
  EXPECT_EQ(by_size[100], (counts{{100, 0}, {100, 0}})) << "two call sites";
  EXPECT_EQ(by_size[3000], (counts{{100, 0}}));
  EXPECT_EQ(by_size[5], (counts{{100, 100}}));
  EXPECT_EQ(by_size[70000], (counts{{1, 0}}));
  EXPECT_EQ(p.total().live_bytes, 100 * 100 * 2 + 3000 * 100 + 70000);
  EXPECT_EQ(p.total().alloc_objects, 401);
  for (void* q : live) h.free(q);
  EXPECT_EQ(h.profile().total().live_objects, 0);
  EXPECT_EQ(h.profile().total().alloc_objects, 401);
}

TEST(heap_profile_test, reset_ends_all_objects) {
  heap h(profiled(1));
  for (int i = 0; i < hundred; ++i) allocate_one(h, 50);
  EXPECT_EQ(h.profile().total().live_objects, 100);
  h.reset();
  EXPECT_EQ(h.profile().total().live_objects, 0);
  void* p = allocate_one(h, 50);
  EXPECT_EQ(h.profile().total().live_objects, 1);
  h.free(p);
  EXPECT_EQ(h.profile().total().live_objects, 0);
}

/// The largest relative error of the estimates of a round.
double sampling_error() {
  constexpr std::array<std::size_t, 4> sizes{256, 512, 1024, 4096};
  constexpr int rounds = 50000;
  heap h(profiled(16_KiB));
  for (int i = 0; i < rounds; ++i) {
    for (const std::size_t n : sizes) h.free(allocate_one(h, n));
  }
  std::map<std::size_t, heap_profile::estimate> sums;
  const heap_profile p = h.profile();
  for (const auto& b : p.buckets) {
    sums[b.object_bytes].alloc_objects += p.estimate_of(b).alloc_objects;
    sums[b.object_bytes].alloc_bytes += p.estimate_of(b).alloc_bytes;
  }
  double worst = 0;
  for (const std::size_t n : sizes) {
    worst = std::max(worst, std::abs(sums[n].alloc_objects / rounds - 1));
    EXPECT_DOUBLE_EQ(sums[n].alloc_bytes, sums[n].alloc_objects * static_cast<double>(n));
  }
  return worst;
}

TEST(heap_profile_test, estimates_are_within_a_tenth) {
  double best = 1;
  for (int i = 0; i < 3 && best > 0.1; ++i) best = std::min(best, sampling_error());
  EXPECT_LE(best, 0.1);
}

TEST(heap_profile_test, large_objects_are_nearly_all_sampled) {
  heap h(profiled(16_KiB));
  for (int i = 0; i < hundred; ++i) h.free(allocate_one(h, 1_MiB));
  EXPECT_NEAR(h.profile().total().alloc_objects, 100, 1e-6);
}

TEST(heap_profile_test, threads_and_snapshots) {
  heap h(profiled(1000));
  std::vector<std::thread> threads;
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop) {
      const heap_profile p = h.profile();
      for (const auto& b : p.buckets) ASSERT_LE(b.frees, b.allocs);
    }
  });
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < warpheap::testing::scaled(30000); ++i)
        h.free(allocate_one(h, 1 + unsigned(i) % 900));
    });
  }
  for (std::thread& t : threads) t.join();
  stop = true;
  reader.join();
  EXPECT_EQ(h.profile().total().live_objects, 0);
}

// --- the file, decoded --------------------------------------------------------------------------

/// A message of protocol buffers: numbers and texts by field.
struct decoded {
  std::multimap<unsigned, std::uint64_t> numbers;
  std::multimap<unsigned, std::string> texts;

  explicit decoded(std::string_view bytes) {
    while (!bytes.empty()) {
      const std::uint64_t key = varint(bytes);
      const auto field = static_cast<unsigned>(key >> 3);
      if ((key & 7) == 0) {
        numbers.emplace(field, varint(bytes));
      } else if ((key & 7) == 2) {
        const std::uint64_t n = varint(bytes);
        if (n > bytes.size()) throw std::runtime_error("a text is longer than its message");
        texts.emplace(field, bytes.substr(0, n));
        bytes.remove_prefix(n);
      } else {
        throw std::runtime_error("unexpected wire type");
      }
    }
  }
  static std::uint64_t varint(std::string_view& bytes) {
    std::uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      if (bytes.empty() || shift > 63) throw std::runtime_error("a number does not end");
      const auto byte = static_cast<unsigned char>(bytes.front());
      bytes.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
  }
  std::uint64_t number(unsigned field) const {
    const auto it = numbers.find(field);
    return it == numbers.end() ? 0 : it->second;
  }
  std::vector<std::string> all(unsigned field) const {
    std::vector<std::string> v;
    for (auto [it, end] = texts.equal_range(field); it != end; ++it) v.push_back(it->second);
    return v;
  }
  static std::vector<std::uint64_t> packed(std::string_view bytes) {
    std::vector<std::uint64_t> v;
    while (!bytes.empty()) v.push_back(varint(bytes));
    return v;
  }
};

TEST(heap_profile_test, pprof_file_says_what_the_profile_does) {
  heap h(profiled(1));
  for (int i = 0; i < ten; ++i) allocate_one(h, 1000);
  for (int i = 0; i < five; ++i) h.free(allocate_other(h, 77));
  const std::string file = h.profile().pprof();
  const decoded profile(file);
  const std::vector<std::string> strings = profile.all(6);
  ASSERT_FALSE(strings.empty());
  EXPECT_EQ(strings[0], "");
  const auto text = [&](std::uint64_t i) { return strings.at(i); };

  std::vector<std::string> types;
  for (const std::string& bytes : profile.all(1))
    types.push_back(text(decoded(bytes).number(1)) + "/" + text(decoded(bytes).number(2)));
  EXPECT_EQ(types, (std::vector<std::string>{"alloc_objects/count", "alloc_space/bytes",
                                             "inuse_objects/count", "inuse_space/bytes"}));
  EXPECT_EQ(text(decoded(profile.all(11).at(0)).number(1)), "space");
  EXPECT_EQ(profile.number(12), 1u);
  EXPECT_EQ(text(profile.number(14)), "inuse_space");
  EXPECT_GT(profile.number(9), 1'600'000'000'000'000'000u);

  std::map<std::uint64_t, decoded> mappings, locations, functions;
  for (const std::string& bytes : profile.all(3)) mappings.emplace(decoded(bytes).number(1), bytes);
  for (const std::string& bytes : profile.all(4))
    locations.emplace(decoded(bytes).number(1), bytes);
  for (const std::string& bytes : profile.all(5))
    functions.emplace(decoded(bytes).number(1), bytes);
  std::set<std::string> files, names;
  for (const auto& [id, location] : locations) {
    ASSERT_NE(id, 0u);
    const std::uint64_t address = location.number(3);
    ASSERT_NE(address, 0u);
    const decoded& mapping = mappings.at(location.number(2));
    EXPECT_GE(address, mapping.number(2));
    EXPECT_LT(address, mapping.number(3));
    files.insert(text(mapping.number(5)));
    for (const std::string& line : location.all(4))
      names.insert(text(functions.at(decoded(line).number(1)).number(2)));
  }
  EXPECT_TRUE(files.contains(std::filesystem::read_symlink("/proc/self/exe")));
  EXPECT_TRUE(names.contains("__libc_start_main")) << "the outermost function of all stacks";

  std::multiset<std::vector<std::uint64_t>> values;
  for (const std::string& bytes : profile.all(2)) {
    const decoded sample(bytes);
    for (const std::uint64_t id : decoded::packed(sample.all(1).at(0)))
      EXPECT_TRUE(locations.contains(id));
    values.insert(decoded::packed(sample.all(2).at(0)));
    EXPECT_EQ(text(decoded(sample.all(3).at(0)).number(1)), "bytes");
  }
  EXPECT_EQ(values,
            (std::multiset<std::vector<std::uint64_t>>{{10, 10000, 10, 10000}, {5, 385, 0, 0}}));
}

TEST(heap_profile_test, folded_stacks_add_up) {
  heap h(profiled(1));
  for (int i = 0; i < ten; ++i) allocate_one(h, 1000);
  for (int i = 0; i < three; ++i) allocate_other(h, 50);
  h.free(allocate_other(h, 9999));
  std::istringstream lines(h.profile().folded());
  std::multiset<std::uint64_t> bytes;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t space = line.rfind(' ');
    bytes.insert(std::stoull(line.substr(space + 1)));
    EXPECT_GE(std::count(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(space), ';'), 2);
    EXPECT_LT(line.find("__libc_start_main"), line.find(';', line.find("__libc_start_main")));
  }
  EXPECT_EQ(bytes, (std::multiset<std::uint64_t>{150, 10000}));
}

// --- the file, read by others ------------------------------------------------

/// What a shell prints for the line.
std::string output_of(const std::string& line) {
  std::string text;
  FILE* pipe = popen(line.c_str(), "r");
  if (pipe == nullptr) return text;
  char piece[4096];
  for (std::size_t n; (n = std::fread(piece, 1, sizeof piece, pipe)) > 0;) text.append(piece, n);
  return pclose(pipe) == 0 ? text : "failed: " + text;
}

void write_profile(const std::string& file) {
  heap_options o = profiled(1);
  o.profile_file = file;
  heap h(o);
  for (int i = 0; i < ten; ++i) allocate_one(h, 1000);
}

TEST(heap_profile_test, files_are_written_when_the_heap_goes) {
  const std::string raw = temporary_file("heap.pb"), folded = temporary_file("heap.folded");
  write_profile(raw);
  write_profile(folded);
  std::ifstream a(raw, std::ios::binary), b(folded);
  const std::string bytes(std::istreambuf_iterator<char>(a), {});
  EXPECT_EQ(decoded(bytes).all(2).size(), 1u);
  const std::string line(std::istreambuf_iterator<char>(b), {});
  EXPECT_NE(line.find(" 10000\n"), std::string::npos) << line;
  unlink(raw.c_str());
  unlink(folded.c_str());

  heap_options o = profiled(0);
  o.profile_file = "/no such folder/heap.pb";
  std::vector<std::string> lines;
  o.on_report = [&](const std::string& said) { lines.push_back(said); };
  {
    heap h(o);
    EXPECT_EQ(h.options().profile_rate, default_profile_rate);
  }
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("/no such folder"), std::string::npos);
}

TEST(heap_profile_test, pprof_of_go_reads_it) {
  if (std::system("command -v go >/dev/null 2>&1") != 0) GTEST_SKIP() << "go is not installed";
  const std::string file = temporary_file("go.pb");
  write_profile(file);
  const std::string raw = output_of("go tool pprof -raw " + file + " 2>&1");
  EXPECT_NE(raw.find("inuse_space/bytes"), std::string::npos) << raw;
  EXPECT_NE(raw.find("10      10000         10      10000"), std::string::npos) << raw;
  const std::string top = output_of("go tool pprof -top " + file + " 2>&1");
  EXPECT_NE(top.find("9.77kB"), std::string::npos) << top;
  unlink(file.c_str());
}

TEST(heap_profile_test, protoc_reads_it) {
  if (std::system("command -v protoc >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "protoc is not installed";
  const std::string file = temporary_file("protoc.pb");
  write_profile(file);
  const std::string text = output_of("protoc --decode_raw < " + file + " 2>&1");
  EXPECT_EQ(text.find("failed"), std::string::npos) << text;
  EXPECT_NE(text.find("6: \"inuse_space\""), std::string::npos) << text;
  unlink(file.c_str());
}

}  // namespace
