// The fuzzer's corpus, in plain builds and under the sanitizers.
#include <gtest/gtest.h>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "tests/fuzz/heap_fuzz.hpp"
#include "tests/test_scale.hpp"

namespace {

TEST(fuzz_corpus, every_input_runs) {
  std::size_t inputs = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(WARPHEAP_TEST_DATA "/../fuzz/corpus")) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
    SCOPED_TRACE(entry.path());
    EXPECT_EQ(
        LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()),
        0);
    ++inputs;
  }
  EXPECT_GE(inputs, 20u);
}

TEST(fuzz_corpus, random_inputs_run) {
  std::mt19937 random(9);
  std::vector<std::uint8_t> bytes;
  for (int i = 0; i < warpheap::testing::scaled(150); ++i) {
    bytes.resize(1 + random() % 3000);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
    // Every other one without debug modes.
    if (i % 2 == 0) bytes[0] = 0;
    EXPECT_EQ(LLVMFuzzerTestOneInput(bytes.data(), bytes.size()), 0);
  }
}

}  // namespace
