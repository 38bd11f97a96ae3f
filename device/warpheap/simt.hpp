// The SIMT executor seen from the host: errors, streams, the pool of workers.
// Kernels are launched with <warpheap/launch.cuh>.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <warpheap/simt_vector_types.hpp>

namespace warpheap::simt {

/// A launch that cannot start: grid or block of size zero or too large, too much shared memory.
class launch_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A launch that ended early: a collective or a barrier that can never complete, __trap(), or an
/// exception that left a lane. The text has a table of the lanes of the block concerned. Thrown by
/// synchronize(); the launch's other blocks end at their next switch point.
class execution_error : public launch_error {
 public:
  using launch_error::launch_error;
};

struct launch_shape {
  words::dim3 grid;
  words::dim3 block;
  std::size_t dynamic_shared_bytes = 0;
};

/// Throws launch_error when a grid of this shape cannot run. The limits are CUDA's.
void validate(const launch_shape& shape);

/// Launches on one stream run in order; those on different streams run concurrently as far as there
/// are workers.
class stream_state;
using stream_handle = std::shared_ptr<stream_state>;
stream_handle make_stream();

/// Queues a launch whose lanes each call `body`, and returns. An empty handle is the default
/// stream. May be called from any host thread.
void submit(const stream_handle& stream, const launch_shape& shape, std::function<void()> body);

/// Waits for all launches so far on all streams, then throws the oldest error that no
/// synchronisation has thrown yet. It and all younger errors are then forgotten.
void synchronize();
/// The same for one stream; errors of other streams remain.
void synchronize(const stream_handle& stream);

/// The number of OS threads that run blocks, initially std::thread::hardware_concurrency(). Blocks
/// that wait for each other need one worker each. A lower number takes effect as blocks end.
void set_worker_threads(unsigned count);
unsigned worker_threads();

}  // namespace warpheap::simt
