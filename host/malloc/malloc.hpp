#pragma once

// What malloc's family and operator new have in common.

#include <cstddef>

#define WARPHEAP_EXPORT [[gnu::visibility("default")]]

namespace warpheap {

/// As malloc, without errno.
void* process_malloc(std::size_t n);
/// n bytes at a multiple of align, a power of two; without errno.
void* process_aligned_alloc(std::size_t align, std::size_t n);
/// As free. errno stays as it is.
void process_free(void* p);

}  // namespace warpheap
