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
/// synchronize(); the other blocks of the launch end at their next switch point.
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

/// Launches on one stream run in order, those of different streams beside each other as far as
/// there are workers.
class stream_state;
using stream_handle = std::shared_ptr<stream_state>;
stream_handle make_stream();

/// Queues a launch whose lanes each call `body`, and returns. An empty handle is the default
/// stream. From any host thread.
void submit(const stream_handle& stream, const launch_shape& shape, std::function<void()> body);

/// Waits for all launches so far, of all streams, then throws the oldest error that no
/// synchronisation has thrown yet; it and all younger ones are then forgotten.
void synchronize();
/// The same for one stream; errors of other streams stay.
void synchronize(const stream_handle& stream);

/// The number of OS threads that run blocks, at first std::thread::hardware_concurrency(). Blocks
/// that wait for each other need a worker each. Fewer workers take effect as blocks end.
void set_worker_threads(unsigned count);
unsigned worker_threads();

}  // namespace warpheap::simt
