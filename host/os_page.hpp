#pragma once

// The granularity of the system's memory.

#include <cstddef>

namespace warpheap {

/// What is wrong with a page size that the system tells; nullptr if nothing is.
const char* os_page_error(long bytes);

/// Bytes of a page of the system. Throws heap_error, with what the system says, if that is no power
/// of two from 4 KiB on.
std::size_t os_page_size();

}  // namespace warpheap
