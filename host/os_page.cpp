#include "host/os_page.hpp"

#include <unistd.h>
#include <string>

#include <warpheap/bits.hpp>
#include <warpheap/error.hpp>

namespace warpheap {

const char* os_page_error(long bytes) {
  constexpr long least = 4096;
  if (bytes <= 0) return "failed to get system page size";
  if (!bits::is_power_of_two(static_cast<std::size_t>(bytes)))
    return "bad system page size: it must be a power of 2";
  if (bytes < least) return "bad system page size: it is smaller than the minimum of 4096 bytes";
  return nullptr;
}

std::size_t os_page_size() {
  const long bytes = sysconf(_SC_PAGESIZE);
  if (const char* wrong = os_page_error(bytes); wrong != nullptr)
    throw heap_error(std::string(wrong) + " (" + std::to_string(bytes) + " bytes)");
  return static_cast<std::size_t>(bytes);
}

}  // namespace warpheap
