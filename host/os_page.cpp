#include "host/os_page.hpp"

#include <unistd.h>
#include <string>

#include <warpheap/error.hpp>

namespace warpheap {

std::size_t os_page_size() {
  const long bytes = sysconf(_SC_PAGESIZE);
  if (const char* wrong = os_page_error(bytes); wrong != nullptr)
    throw heap_error(std::string(wrong) + " (" + std::to_string(bytes) + " bytes)");
  return static_cast<std::size_t>(bytes);
}

}  // namespace warpheap
