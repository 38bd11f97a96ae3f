// Files that a test writes.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace warpheap::testing {

/// A path that no other process uses, in the folder for such files. Who makes it removes it.
inline std::string temporary_file(const std::string& name) {
  return ::testing::TempDir() + "warpheap-" + std::to_string(getpid()) + "-" + name;
}

/// Each test has a folder, which goes with all that is in it.
class FolderTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(directory_); }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  /// Writes a file into the folder; its path.
  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ / name, std::ios::binary) << text;
    return (directory_ / name).string();
  }

  const std::filesystem::path directory_ = temporary_file("folder");
};

}  // namespace warpheap::testing
