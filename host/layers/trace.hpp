#pragma once

// A log of all objects. (Go: allocfreetrace.)

#include <array>
#include <mutex>

#include "host/layers/object_layer.hpp"

namespace warpheap {

/// Writes a line for each call, in an order in which they could have come one by one:
///
///   m ADDRESS BYTES ALIGNMENT    an object was allocated
///   f ADDRESS                    it was freed, or a wrong pointer was
///   r                            all objects were freed at once
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
