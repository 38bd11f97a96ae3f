#pragma once

// A log of all objects. (Go: allocfreetrace.)

#include <array>
#include <mutex>
#include <warpheap/observation.hpp>

#include "host/layers/object_layer.hpp"

namespace warpheap {

/// Writes a line for each call, in a possible sequential order:
///
///   m ADDRESS BYTES ALIGNMENT    an object was allocated
///   f ADDRESS                    it was freed, or a free got a wrong pointer
///   r                            all objects were freed at once
///
/// The calls of observed kernels are added at each synchronisation, with the time in nanoseconds on
/// the device's clock and the number of the warp in its launch:
///
///   M ADDRESS BYTES ALIGNMENT CLOCK WARP    an object was allocated
///   R ADDRESS BYTES CLOCK WARP              realloc left it in place, now with BYTES bytes
///   F ADDRESS CLOCK WARP                    it was freed, or a free got a wrong pointer
///   X BYTES CLOCK WARP                      there was no memory for BYTES bytes
///   L COUNT                                 COUNT calls found no room among the events
///
/// The lines of one side are in a possible sequential order; those of kernels appear later than
/// their calls happened, so each side has to be followed separately. A kernel's free of a host
/// object is logged as the host's, and the host's free of a kernel's object as both: f when it was
/// called, F when it was done.
///
/// Addresses are hexadecimal. Lines stay in a buffer until it is full; drain writes them out.
class trace_layer final : public object_layer {
 public:
  /// Creates the file. If that fails, `opened()` is false, and nothing is logged.
  trace_layer(object_layer* below, const char* file);
  ~trace_layer() override;

  bool opened() const { return fd_ >= 0; }

  void* take(const object_request& r) override;
  free_status free(void* p) override;
  void drain() override;
  void forget() override;
  /// Logs what kernels did. Thread-safe.
  void log(const device_events& events);

 private:
  void lock_this() override;
  void unlock_this() override;
  void add(const char* line, int length);
  void write_out();

  int fd_;
  std::mutex mutex_;
  std::array<char, 1 << 14> buffer_;
  std::size_t used_ = 0;
};

}  // namespace warpheap
