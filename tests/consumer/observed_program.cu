// Kernels added with OBSERVE: what they did is in the statistics.
#include <cstdio>
#include <warpheap/device_heap.cuh>
#include <warpheap/heap.hpp>
#include <warpheap/launch.cuh>

namespace {

__global__ void come_and_go(warpheap::device_heap heap) { heap.free(heap.malloc(100)); }

}  // namespace

int main() {
  warpheap::heap heap{{.reserve_bytes = std::size_t{64} << 20}};
  warpheap::launch(2, 32, come_and_go, warpheap::device_heap(heap.device()));
  const warpheap::heap_stats stats = heap.stats();
  const auto calls = static_cast<unsigned long long>(stats.device_malloc_latency.calls());
  std::printf("%llu calls\n%s", calls, heap.state_text().c_str());
  return calls == 64 ? 0 : 1;
}
