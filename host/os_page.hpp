#pragma once

// The granularity of the system's memory.

#include <cstddef>

namespace warpheap {

/// What is wrong with a page size reported by the system; nullptr if nothing is.
constexpr const char* os_page_error(long bytes) {
  constexpr long least = 4096;
  if (bytes <= 0) return "failed to get system page size";
  if ((bytes & (bytes - 1)) != 0) return "bad system page size: it must be a power of 2";
  if (bytes < least) return "bad system page size: it is smaller than the minimum of 4096 bytes";
  return nullptr;
}

/// Bytes of a system page. Throws heap_error, with the system's value, if that is no power of two
/// of at least 4 KiB.
std::size_t os_page_size();

}  // namespace warpheap
