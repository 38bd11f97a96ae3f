// What the host has.
#pragma once

#include <cstddef>

namespace warpheap::bench {

/// Bytes of memory that a program can use now without swapping. Respects the limit of a container.
std::size_t available_memory();

}  // namespace warpheap::bench
