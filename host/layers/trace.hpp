#pragma once

// A log of all objects. (Go: allocfreetrace.)

#include <array>
#include <mutex>
#include <warpheap/observation.hpp>

#include "host/layers/object_layer.hpp"

namespace warpheap {

/// Writes a line for each call, in an order in which they could have come one by one:
///
///   m ADDRESS BYTES ALIGNMENT    an object was allocated
///   f ADDRESS                    it was freed, or a wrong pointer was
///   r                            all objects were freed at once
///
/// The calls of observed kernels follow when somebody synchronises, with the time in nanoseconds of
/// the device's clock and the number of the warp in its launch:
///
///   M ADDRESS BYTES ALIGNMENT CLOCK WARP    an object was allocated
///   R ADDRESS BYTES CLOCK WARP              realloc left it in place, with so many bytes
///   F ADDRESS CLOCK WARP                    it was freed, or a wrong pointer was
///   X BYTES CLOCK WARP                      so many bytes could not be had
///   L COUNT                                 so many calls found no room among the events
///
/// Lines of one side are in an order in which they could have come one by one; those of kernels
/// come later than they were, so the two sides have to be followed apart. A free of a host object
/// by a kernel is a line of the host's, and one of a kernel's object by the host is both: f when it
/// was called, F when it was done.
///
/// Addresses in hexadecimal. Lines are kept in a buffer until it is full; drain writes them.
class trace_layer final : public object_layer {
 public:
  /// Creates the file. `opened()` is false when that failed; nothing is logged then.
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
