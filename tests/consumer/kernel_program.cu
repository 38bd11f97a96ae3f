// The least that a program with a kernel does with the installed package: each lane allocates, the
// host reads through the same pointers and frees.
#include <cstdio>
#include <warpheap/device_heap.cuh>
#include <warpheap/heap.hpp>
#include <warpheap/launch.cuh>

namespace {

constexpr int lanes = 64;

__global__ void fill(warpheap::device_heap heap, int** numbers) {
  const int lane = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  int* number = static_cast<int*>(heap.malloc(sizeof(int)));
  if (number != nullptr) *number = lane;
  numbers[lane] = number;
}

}  // namespace

int main() {
  warpheap::heap heap{{.reserve_bytes = std::size_t{64} << 20}};
  int** numbers = static_cast<int**>(heap.calloc(lanes, sizeof(int*)));
  if (numbers == nullptr) return 1;
  warpheap::launch(lanes / 32, 32, fill, heap.device(), numbers);
  warpheap::synchronize();
  int wrong = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    wrong += numbers[lane] == nullptr || *numbers[lane] != lane;
    heap.free(numbers[lane]);
  }
  heap.free(numbers);
  std::printf("%d of %d numbers wrong\n", wrong, lanes);
  return wrong == 0 ? 0 : 1;
}
