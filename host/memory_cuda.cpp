// Memory of the CUDA backend: pages are one managed reservation, metadata is device memory, the
// queue is pinned host memory. A build without CUDA has only the functions that say why.
#include <atomic>
#include <warpheap/backend.hpp>

namespace warpheap {

namespace {
constinit std::atomic<const char*> gone{nullptr};
}  // namespace
const char* why_cuda_is_gone() noexcept { return gone.load(std::memory_order_relaxed); }
void give_up_cuda(const char* why) noexcept { gone.store(why, std::memory_order_relaxed); }

}  // namespace warpheap

#ifdef WARPHEAP_HAS_CUDA

#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <iterator>
#include <string>

namespace warpheap {
namespace {

std::string describe(cudaError_t code) {
  return std::string(cudaGetErrorName(code)) + ": " + cudaGetErrorString(code);
}

/// Whether a call succeeded. An error that does not persist is cleared, as CUDA keeps it for the
/// thread, where the next unrelated check would find it: Thrust's then throws before it has
/// launched anything (device/bulk/backend.cuh).
bool succeeded(cudaError_t code) {
  if (code != cudaSuccess) (void)cudaGetLastError();
  return code == cudaSuccess;
}

void check(const char* call, cudaError_t code) {
  if (!succeeded(code)) throw heap_error(std::string(call) + " failed: " + describe(code));
}

int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  return succeeded(cudaGetDevice(&device))
                 && succeeded(cudaDeviceGetAttribute(&value, which, device))
             ? value
             : 0;
}

std::string name_of(int device) {
  // Reading all properties takes milliseconds, so it is done only on request.
  cudaDeviceProp properties{};
  if (why_cuda_is_gone() == nullptr && succeeded(cudaGetDeviceProperties(&properties, device)))
    return properties.name;
  return "CUDA device " + std::to_string(device);
}

void set_device(int device) { check("cudaSetDevice", cudaSetDevice(device)); }

}  // namespace

int current_cuda_device() {
  if (const char* const why = why_cuda_is_gone(); why != nullptr)
    throw heap_error(std::string("CUDA cannot be used: ") + why);
  int device = 0;
  check("cudaGetDevice", cudaGetDevice(&device));
  return device;
}

cuda_device_scope::cuda_device_scope(int device)
    : before_(current_cuda_device()), changed_(before_ != device) {
  if (changed_) set_device(device);
}
cuda_device_scope::~cuda_device_scope() {
  if (changed_) (void)succeeded(cudaSetDevice(before_));
}

namespace {

/// The bytes that heaps of this process have reserved on each device. What CUDA reports as free
/// includes all pages that were never touched. Devices from number 64 on share entries.
constinit std::atomic<std::size_t> reserved[64]{};

/// Every call that allocates, copies or queries makes the heap's device current meanwhile, and
/// throws when CUDA is gone. Calls that free need not: CUDA knows from the address to which device
/// memory belongs.
class cuda_memory final : public memory_backend {
 public:
  cuda_memory() : device_(current_cuda_device()) {
    check("cudaDeviceGetAttribute",
          cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device_));
    make_room_on_stacks();
  }

  backend_kind kind() const override { return backend_kind::cuda; }
  std::string device_name() const override { return name_of(device_); }

  std::size_t max_reserve() const override {
    // A managed reservation beyond the free memory can hang the GPU. Each page of 8 KiB has 1.2 KiB
    // of metadata, and other programs' contexts need room too.
    const cuda_device_scope here(device_);
    std::size_t free = 0, total = 0;
    if (!succeeded(cudaMemGetInfo(&free, &total))) return 0;
    constexpr std::size_t margin = std::size_t{256} << 20;
    const std::size_t spoken_for = margin + reserved_here();
    return free <= spoken_for ? 0 : (free - spoken_for) / 6 * 5;
  }

  std::byte* reserve(std::size_t bytes) override {
    const cuda_device_scope here(device_);
    void* p = nullptr;
    if (!succeeded(cudaMallocManaged(&p, bytes + chunk_bytes))) return nullptr;
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    allocated_ = p;
    reserved_here() += bytes;
    return static_cast<std::byte*>(p) + (bits::align_up(address, chunk_bytes) - address);
  }
  void release(std::byte*, std::size_t bytes) noexcept override {
    free_device(allocated_, bytes);
    reserved_here() -= bytes;
  }

  // Managed pages stay where they are until the heap goes. The runtime's discard
  // (cudaMemDiscardBatchAsync) is work in a stream, and must not be applied to pages that a running
  // kernel could touch, so neither the service nor a malloc can call it. Discarded pages would have
  // arbitrary contents.
  bool can_discard() const override { return false; }
  bool discard(std::byte*, std::size_t) noexcept override { return false; }
  bool forbid(std::byte*, std::size_t, bool) noexcept override { return false; }
  bool map(std::byte*, std::size_t) noexcept override { return true; }

  // Kernels' pages move to the device when a kernel touches them, and stay there until a host that
  // cannot reach into the device's memory touches them. A page that both sides use in turn then
  // moves at each turn, and the preferred location keeps the driver from giving that up. The host's
  // pages stay on the host and are mapped for kernels, which would otherwise take away the pages
  // they look at. Advice moves nothing by itself. According to CUDA's documentation this call is
  // asynchronous in most cases, but any call may block; so it is never made in a malloc or by the
  // service's thread, for which a kernel may be waiting.
  void advise(std::byte* address, std::size_t bytes, memory_side side) noexcept override {
    const bool kernels = side == memory_side::kernels;
    give_advice(address, bytes, cudaMemAdviseSetPreferredLocation, kernels);
    give_advice(address, bytes, kernels ? cudaMemAdviseUnsetAccessedBy : cudaMemAdviseSetAccessedBy,
                true);
  }
  bool dirty_after_discard() const override { return true; }

  void* allocate_device(std::size_t bytes) override {
    const cuda_device_scope here(device_);
    void* p = nullptr;
    if (!succeeded(cudaMalloc(&p, bytes))) return nullptr;
    if (succeeded(cudaMemset(p, 0, bytes)) && succeeded(wait_for_legacy_stream())) return p;
    (void)succeeded(cudaFree(p));
    return nullptr;
  }
  void free_device(void* p, std::size_t) noexcept override {
    if (why_cuda_is_gone() == nullptr) (void)succeeded(cudaFree(p));
  }

  void* allocate_pinned(std::size_t bytes) override {
    const cuda_device_scope here(device_);
    void* p = nullptr;
    if (!succeeded(cudaHostAlloc(&p, bytes, cudaHostAllocMapped | cudaHostAllocPortable)))
      return nullptr;
    std::fill_n(static_cast<std::byte*>(p), bytes, std::byte{0});
    return p;
  }
  void free_pinned(void* p, std::size_t) noexcept override {
    if (why_cuda_is_gone() == nullptr) (void)succeeded(cudaFreeHost(p));
  }

  void copy_to_device(void* device, const void* host, std::size_t bytes) override {
    copy(device, host, bytes, cudaMemcpyHostToDevice);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    copy(host, device, bytes, cudaMemcpyDeviceToHost);
  }

  unsigned warp_slots() const override {
    // One for each warp that can be resident, rounded up so that cache_slot() (device/.../warp.cuh)
    // needs no division.
    return std::bit_ceil(static_cast<unsigned>(multiprocessors_) * 64);
  }
  std::uint64_t default_refill_timeout_ns() const override { return 1'000'000; }

 private:
  std::atomic<std::size_t>& reserved_here() const {
    return reserved[static_cast<std::size_t>(device_) % std::size(reserved)];
  }

  /// Kernels call the slow paths through pointers, so the driver cannot know how much stack a
  /// kernel needs, and grants this limit: what the slow paths take (recorded in tests/goldens), and
  /// the rest for the frames of the user's kernels. A higher limit is left as it is.
  static void make_room_on_stacks() {
    constexpr std::size_t slow_paths = 1248, users = 800;
    std::size_t limit = 0;
    cudaError_t code = cudaDeviceGetLimit(&limit, cudaLimitStackSize);
    if (code == cudaSuccess && limit < slow_paths + users)
      code = cudaDeviceSetLimit(cudaLimitStackSize, slow_paths + users);
    if (!succeeded(code)) throw heap_error("cannot set the stack of kernels: " + describe(code));
  }

  /// A memset returns before it is done, and a copy from pageable memory may; non-blocking streams,
  /// such as the heap's own and users', would not wait for them.
  static cudaError_t wait_for_legacy_stream() { return cudaStreamSynchronize(cudaStreamLegacy); }

  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) const {
    const cuda_device_scope here(device_);
    cudaError_t code = cudaMemcpy(to, from, bytes, kind);
    if (code == cudaSuccess) code = wait_for_legacy_stream();
    if (!succeeded(code))
      throw heap_error("cudaMemcpy of " + format_bytes(bytes) + " failed: " + describe(code));
  }

  void give_advice(std::byte* address, std::size_t bytes, cudaMemoryAdvise advice,
                   bool device) const noexcept {
#if CUDART_VERSION >= 13000
    cudaMemLocation where{};
    where.type = device ? cudaMemLocationTypeDevice : cudaMemLocationTypeHost;
    where.id = device ? device_ : 0;
#else
    const int where = device ? device_ : cudaCpuDeviceId;
#endif
    // If it fails, the heap is slower, not wrong.
    (void)succeeded(cudaMemAdvise(address, bytes, advice, where));
  }

  const int device_;
  int multiprocessors_ = 0;
  void* allocated_ = nullptr;
};

}  // namespace

std::string why_no_cuda() {
  if (const char* const why = why_cuda_is_gone(); why != nullptr) return why;
  int devices = 0;
  const cudaError_t code = cudaGetDeviceCount(&devices);
  if (!succeeded(code)) return "no CUDA device can be used (" + describe(code) + ")";
  if (devices == 0) return "the CUDA driver knows no device";
  if (attribute(cudaDevAttrConcurrentManagedAccess) == 0)
    return "the device cannot share managed memory with the CPU while kernels run "
           "(concurrentManagedAccess is 0)";
  if (const std::string reason = why_no_cuda_kernels(); !reason.empty())
    return name_of(current_cuda_device()) + " (compute capability "
           + std::to_string(attribute(cudaDevAttrComputeCapabilityMajor)) + '.'
           + std::to_string(attribute(cudaDevAttrComputeCapabilityMinor))
           + ") does not run this build's kernels (" + reason + ")";
  return {};
}

std::unique_ptr<memory_backend> make_cuda_memory() {
  if (const std::string reason = why_no_cuda(); !reason.empty())
    throw heap_error("the backend cuda was asked for, but " + reason
                     + "; use the backend simt, which runs kernels on the CPU");
  return std::make_unique<cuda_memory>();
}

}  // namespace warpheap

#else

namespace warpheap {

std::string why_no_cuda() {
  return "this build has no CUDA: no nvcc was found when it was configured";
}

std::unique_ptr<memory_backend> make_cuda_memory() {
  throw heap_error("the backend cuda was asked for, but " + why_no_cuda()
                   + "; use the backend simt, which runs kernels on the CPU");
}

}  // namespace warpheap

#endif
