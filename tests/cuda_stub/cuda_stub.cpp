#include "cuda_stub.hpp"

#include <cuda_runtime_api.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <utility>
#include <warpheap/backend.hpp>

namespace {

constexpr std::size_t device_bytes = std::size_t{2} << 30;

bool initialised = false, ended = false;
const pid_t process = getpid();
cudaError_t last_error = cudaSuccess;

/// Never destroyed: CUDA's memory goes in a handler of its own.
std::map<void*, std::size_t>& allocated() {
  static auto* const all = new std::map<void*, std::size_t>;
  return *all;
}

/// As the driver's: registered by the first call, and takes all memory away.
void end() {
  ended = true;
  for (const auto& [p, bytes] : allocated()) munmap(p, bytes);
}

void called(const char* name) {
  if (ended || getpid() != process) {
    std::fprintf(stderr, "%s was called %s\n", name, ended ? "after the end" : "in a child");
    std::abort();
  }
  if (!initialised) std::atexit(end);
  initialised = true;
}

cudaError_t result(cudaError_t code) {
  if (code != cudaSuccess) last_error = code;
  return code;
}

cudaError_t allocate(void** p, std::size_t bytes) {
  if (bytes > device_bytes) return result(cudaErrorMemoryAllocation);
  *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
            0);
  if (*p == MAP_FAILED) return result(cudaErrorMemoryAllocation);
  madvise(*p, bytes, MADV_DONTFORK);
  allocated()[*p] = bytes;
  return cudaSuccess;
}

cudaError_t free_memory(void* p) {
  const auto found = allocated().find(p);
  if (found == allocated().end()) return result(cudaErrorInvalidValue);
  munmap(p, found->second);
  allocated().erase(found);
  return cudaSuccess;
}

}  // namespace

// Those that host/memory_cuda.cpp calls.
extern "C" {

const char* cudaGetErrorName(cudaError_t) { return "an error"; }
const char* cudaGetErrorString(cudaError_t) { return "of a CUDA that is none"; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* n) {
  called(__func__);
  *n = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  called(__func__);
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) {
  called(__func__);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  called(__func__);
  *value = 7;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  called(__func__);
  std::strcpy(properties->name, "stub");
  return cudaSuccess;
}
cudaError_t cudaDeviceGetLimit(std::size_t* limit, cudaLimit) {
  called(__func__);
  *limit = 1024;
  return cudaSuccess;
}
cudaError_t cudaDeviceSetLimit(cudaLimit, std::size_t) {
  called(__func__);
  return cudaSuccess;
}
/// All that nobody has touched is free.
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  called(__func__);
  *free = *total = device_bytes;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  called(__func__);
  return allocate(p, bytes);
}
cudaError_t cudaMallocManaged(void** p, std::size_t bytes, unsigned) {
  called(__func__);
  return allocate(p, bytes);
}
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) {
  called(__func__);
  return allocate(p, bytes);
}
cudaError_t cudaFree(void* p) {
  called(__func__);
  return free_memory(p);
}
cudaError_t cudaFreeHost(void* p) {
  called(__func__);
  return free_memory(p);
}
cudaError_t cudaMemset(void* p, int value, std::size_t bytes) {
  called(__func__);
  std::memset(p, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  called(__func__);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  called(__func__);
  return cudaSuccess;
}
#if CUDART_VERSION >= 13000
cudaError_t cudaMemAdvise(const void*, std::size_t, cudaMemoryAdvise, cudaMemLocation) {
#else
cudaError_t cudaMemAdvise(const void*, std::size_t, cudaMemoryAdvise, int) {
#endif
  called(__func__);
  return result(cudaErrorInvalidValue);
}

}  // extern "C"

namespace warpheap {

namespace testing {
std::string no_kernels_reason;
bool cuda_error_is_left() { return last_error != cudaSuccess; }
}  // namespace testing

std::string why_no_cuda_kernels() { return testing::no_kernels_reason; }

namespace {

/// Of a heap that no kernel uses.
class no_operations final : public device_operations {
 public:
  explicit no_operations(const heap_view& view) : h_(view) { cudaMalloc(&mine_, 64); }
  ~no_operations() override { cudaFree(mine_); }

  void synchronize() override { begin(); }
  bool free_batch(std::vector<void*>&) override { return begin(), true; }
  std::vector<void*> take_host_frees(const std::function<bool(page_index)>&, bool) override {
    return begin(), std::vector<void*>();
  }
  device_counts recount() override { return begin(), device_counts(); }
  void retire_empty_spans() override { begin(); }
  std::vector<page_run> take_stock() override { return begin(), std::vector<page_run>(); }
  void give_stock(page_run) override { begin(); }
  void reset() override { begin(); }
  void begin_marks(std::uint32_t*) override { begin(); }
  void mark(const std::vector<const void*>&) override { begin(); }
  device_sweep sweep(std::size_t) override { return begin(), device_sweep(); }
  device_state read_state() override { return begin(), *h_.state; }
  device_events take_events() override { return begin(), device_events(); }
  void repair_refill() override { begin(); }

 private:
  static void begin() { const cuda_device_scope here(0); }

  heap_view h_;
  void* mine_ = nullptr;
};

}  // namespace

std::unique_ptr<device_operations> make_cuda_operations(const heap_view& view) {
  return std::make_unique<no_operations>(view);
}

}  // namespace warpheap
