#include "bench/host_memory.hpp"

#include <unistd.h>
#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>

namespace warpheap::bench {
namespace {

// The number in a file that holds nothing else ("max" and missing files: no limit).
std::uint64_t number_in(const char* path) {
  std::uint64_t value = 0;
  return std::ifstream(path) >> value ? value : std::numeric_limits<std::uint64_t>::max();
}

}  // namespace

std::size_t available_memory() {
  std::uint64_t available = static_cast<std::uint64_t>(::sysconf(_SC_AVPHYS_PAGES))
                            * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  std::ifstream info("/proc/meminfo");
  for (std::string name; info >> name;) {
    std::uint64_t kibibytes = 0;
    if (name == "MemAvailable:" && info >> kibibytes) available = kibibytes * 1024;
  }
  const std::uint64_t limit = number_in("/sys/fs/cgroup/memory.max");
  const std::uint64_t used = number_in("/sys/fs/cgroup/memory.current");
  if (limit != std::numeric_limits<std::uint64_t>::max())
    available = std::min(available, limit - std::min(limit, used));
  return static_cast<std::size_t>(available);
}

}  // namespace warpheap::bench
