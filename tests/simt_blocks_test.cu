// Blocks and grids: shared memory, barriers, three dimensions, launches in order. For both
// backends.
#include "device_fixture.cuh"

#include <numeric>
#include <warpheap/launch.cuh>

namespace {

using warpheap::shared_array;

class simt_blocks : public warpheap::DeviceTest {};

__global__ void block_sum(const int* in, int* out) {
  __shared__ int partial[32];
  const unsigned lane = threadIdx.x % 32;
  int sum = in[blockIdx.x * blockDim.x + threadIdx.x];
  for (int distance = 16; distance > 0; distance /= 2)
    sum += __shfl_down_sync(0xffffffffu, sum, static_cast<unsigned>(distance));
  if (lane == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    int total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += partial[w];
    out[blockIdx.x] = total;
  }
}

TEST_F(simt_blocks, sums_through_shared_memory) {
  constexpr unsigned blocks = warpheap::testing::sanitized ? 8 : 40;
  constexpr unsigned threads = 1024;
  shared_array<int> in(blocks * threads);
  shared_array<int> out(blocks);
  std::iota(in.begin(), in.end(), 0);
  warpheap::launch(blocks, threads, block_sum, in.data(), out.data());
  warpheap::synchronize();
  for (unsigned b = 0; b < blocks; ++b)
    EXPECT_EQ(out[b], std::accumulate(in.data() + b * threads, in.data() + (b + 1) * threads, 0));
}

__global__ void reverse_dynamic(int* out) {
  int* buffer = warpheap::dynamic_shared<int>();
  const unsigned i = threadIdx.x + threadIdx.y * blockDim.x + threadIdx.z * blockDim.x * blockDim.y;
  const unsigned count = blockDim.x * blockDim.y * blockDim.z;
  buffer[i] = static_cast<int>(i + 1000 * (blockIdx.x + gridDim.x * blockIdx.y));
  __syncthreads();
  out[(blockIdx.x + gridDim.x * blockIdx.y) * count + i] = buffer[count - 1 - i];
}

TEST_F(simt_blocks, dynamic_shared_memory_and_three_dimensions) {
  const dim3 grid(3, 2);
  const dim3 block(5, 3, 4);
  shared_array<int> out(6 * 60);
  warpheap::launch(warpheap::launch_options{grid, block, 60 * sizeof(int)}, reverse_dynamic,
                   out.data());
  warpheap::synchronize();
  for (int b = 0; b < 6; ++b)
    for (int i = 0; i < 60; ++i) EXPECT_EQ(out[b * 60 + i], 1000 * b + 59 - i);
}

__global__ void barrier_votes(int* out) {
  const int thread = static_cast<int>(threadIdx.x);
  // Threads that have exited do not count.
  if (thread >= 90) return;
  const int count = __syncthreads_count(thread % 3 == 0);
  const int all = __syncthreads_and(thread < 90);
  const int none = __syncthreads_and(thread < 89);
  const int any = __syncthreads_or(thread == 17);
  const int nobody = __syncthreads_or(thread > 200);
  out[thread] = count | all << 8 | none << 9 | any << 10 | nobody << 11;
}

TEST_F(simt_blocks, barriers_that_vote) {
  shared_array<int> out(96);
  warpheap::launch(1, 96, barrier_votes, out.data());
  warpheap::synchronize();
  for (int i = 0; i < 90; ++i) EXPECT_EQ(out[i], 30 | 1 << 8 | 1 << 10) << i;
}

__global__ void append(int* log, int* used, int mark) {
  if (threadIdx.x == 0 && blockIdx.x == 0) log[atomicAdd(used, 1)] = mark;
}

TEST_F(simt_blocks, launches_of_one_stream_are_in_order) {
  constexpr int streams = 3;
  constexpr int launches = 50;
  shared_array<int> log(streams * launches);
  shared_array<int> used(streams);
  warpheap::stream stream[streams];
  for (int i = 0; i < launches; ++i)
    for (int s = 0; s < streams; ++s)
      warpheap::launch(stream[s], 2, 40, append, log.data() + s * launches, used.data() + s, i);
  stream[1].synchronize();
  EXPECT_EQ(used[1], launches);
  warpheap::synchronize();
  for (int s = 0; s < streams; ++s) {
    EXPECT_EQ(used[s], launches);
    for (int i = 0; i < launches; ++i) EXPECT_EQ(log[s * launches + i], i);
  }
}

}  // namespace
