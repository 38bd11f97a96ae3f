// Launching kernels with one spelling on both backends: launch, synchronize, stream.
//
// A launch is asynchronous to the host thread on both. Its arguments are converted to the kernel's
// parameter types and copied at the call.
#pragma once

#include <cstddef>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <warpheap/platform.hpp>

#ifdef __CUDACC__
#include <stdexcept>
#else
#include <warpheap/simt.hpp>
#endif

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {

class stream;

struct launch_options {
  dim3 grid;
  dim3 block;
  std::size_t dynamic_shared_bytes = 0;
  /// The default stream when null.
  stream* on = nullptr;
};

#ifdef __CUDACC__

/// A CUDA call that failed; the text has the error's name and CUDA's explanation.
class launch_error : public std::runtime_error {
 public:
  launch_error(const char* call, cudaError_t code)
      : std::runtime_error(std::string(call) + ": " + cudaGetErrorName(code) + ": "
                           + cudaGetErrorString(code)),
        code_(code) {}
  cudaError_t code() const { return code_; }

 private:
  cudaError_t code_;
};

namespace launch_detail {
inline void check_launch(const char* call, cudaError_t code) {
  if (code == cudaSuccess) return;
  // Otherwise someone else's next check would find this error, unless it is sticky.
  (void)cudaGetLastError();
  throw launch_error(call, code);
}
}  // namespace launch_detail

/// A queue of launches that run in order. Not ordered with the default stream.
class stream {
 public:
  stream() {
    launch_detail::check_launch("cudaStreamCreateWithFlags",
                                cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking));
  }
  ~stream() {
    // Launches that are still queued will finish.
    if (handle_ != nullptr) (void)cudaStreamDestroy(handle_);
  }
  stream(stream&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  stream& operator=(stream&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }

  /// Waits for the launches so far. Throws launch_error when one of them failed.
  void synchronize() {
    launch_detail::check_launch("cudaStreamSynchronize", cudaStreamSynchronize(handle_));
  }
  cudaStream_t native() const { return handle_; }

 private:
  cudaStream_t handle_ = nullptr;
};

namespace launch_detail {
/// Granted on every device without cudaFuncSetAttribute.
inline constexpr std::size_t default_dynamic_shared_bytes = 48 * 1024;
}  // namespace launch_detail

/// Launches `kernel`. Throws launch_error when it cannot start.
template <class... Parameters, class... Arguments>
void launch(const launch_options& options, void (*kernel)(Parameters...),
            Arguments&&... arguments) {
  if (options.dynamic_shared_bytes > launch_detail::default_dynamic_shared_bytes) {
    launch_detail::check_launch(
        "cudaFuncSetAttribute",
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(options.dynamic_shared_bytes)));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = options.grid;
  config.blockDim = options.block;
  config.dynamicSmemBytes = options.dynamic_shared_bytes;
  config.stream = options.on == nullptr ? nullptr : options.on->native();
  launch_detail::check_launch(
      "cudaLaunchKernelEx",
      cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...));
}

/// Waits for all launches so far. Throws launch_error when one of them failed.
inline void synchronize() {
  launch_detail::check_launch("cudaDeviceSynchronize", cudaDeviceSynchronize());
}

#else

using simt::launch_error;

/// A queue of launches that run in order. Not ordered with the default stream.
class stream {
 public:
  stream() : handle_(simt::make_stream()) {}
  stream(stream&&) noexcept = default;
  stream& operator=(stream&&) noexcept = default;

  /// Waits for the launches so far. Throws launch_error when one of them failed.
  void synchronize() { simt::synchronize(handle_); }
  const simt::stream_handle& native() const { return handle_; }

 private:
  simt::stream_handle handle_;
};

namespace launch_detail {
/// What each lane calls: the kernel, on the lane's own copies of the arguments.
template <class... Parameters, class... Arguments>
auto bind_kernel(void (*kernel)(Parameters...), Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "wrong number of arguments");
  return [kernel, copies = std::tuple<std::remove_cv_t<Parameters>...>(
                      std::forward<Arguments>(arguments)...)] {
    std::apply(kernel, std::tuple<std::remove_cv_t<Parameters>...>(copies));
  };
}
}  // namespace launch_detail

/// Launches `kernel`. Throws launch_error when it cannot start.
template <class... Parameters, class... Arguments>
void launch(const launch_options& options, void (*kernel)(Parameters...),
            Arguments&&... arguments) {
  simt::submit(options.on == nullptr ? simt::stream_handle() : options.on->native(),
               {options.grid, options.block, options.dynamic_shared_bytes},
               launch_detail::bind_kernel(kernel, std::forward<Arguments>(arguments)...));
}

/// Waits for all launches so far. Throws launch_error when one of them failed.
inline void synchronize() { simt::synchronize(); }

#endif

/// Launches `kernel` on the default stream.
template <class... Parameters, class... Arguments>
void launch(dim3 grid, dim3 block, void (*kernel)(Parameters...), Arguments&&... arguments) {
  launch(launch_options{grid, block}, kernel, std::forward<Arguments>(arguments)...);
}

/// Launches `kernel` on `on`.
template <class... Parameters, class... Arguments>
void launch(stream& on, dim3 grid, dim3 block, void (*kernel)(Parameters...),
            Arguments&&... arguments) {
  launch(launch_options{grid, block, 0, &on}, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
