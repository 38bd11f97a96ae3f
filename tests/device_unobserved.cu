#include "device_unobserved.hpp"

#include "device_fixture.cuh"

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace unobserved_kernels {

void launch_malloc(const heap_view& heap, void** pointers, std::uint32_t n, std::size_t size) {
  launch(blocks_for(n, 128), 128, malloc_all, device_heap(heap), pointers, n, size);
}
void launch_free(const heap_view& heap, void** pointers, std::uint32_t n) {
  launch(blocks_for(n, 128), 128, free_all, device_heap(heap), pointers, n);
}

}  // namespace unobserved_kernels
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
