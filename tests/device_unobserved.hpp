// Kernels of a file that does not ask to be observed, for the tests of those that do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <warpheap/heap_view.hpp>
#include <warpheap/platform.hpp>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace unobserved_kernels {

/// pointers[i] = malloc(size) for i in [0, n); launched, not waited for.
void launch_malloc(const heap_view& heap, void** pointers, std::uint32_t n, std::size_t size);
/// Frees them.
void launch_free(const heap_view& heap, void** pointers, std::uint32_t n);

}  // namespace unobserved_kernels
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
