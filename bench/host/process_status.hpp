// What the kernel says of this process.
#pragma once

#include <cstddef>
#include <fstream>
#include <string>

namespace warpheap::bench::host {

/// A size of /proc/self/status in KiB, such as that of "VmRSS:"; 0 where there is no such line.
inline std::size_t status_kib(const char* key) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    std::size_t value = 0;
    if (word == key && status >> value) return value;
  }
  return 0;
}

}  // namespace warpheap::bench::host
