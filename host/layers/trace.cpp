#include "host/layers/trace.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "host/keep_errno.hpp"

namespace warpheap {

trace_layer::trace_layer(object_layer* below, const char* file)
    : object_layer(below),
      fd_(open(file, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666)) {}

trace_layer::~trace_layer() {
  write_out();
  if (fd_ >= 0) close(fd_);
}

void trace_layer::add(const char* line, int length) {
  const auto n = static_cast<std::size_t>(length);
  const std::scoped_lock lock(mutex_);
  if (used_ + n > buffer_.size()) write_out();
  std::memcpy(buffer_.data() + used_, line, n);
  used_ += n;
}

/// mutex_ is held, or no other thread uses the layer.
void trace_layer::write_out() {
  const keep_errno keep;
  for (std::size_t done = 0; fd_ >= 0 && done < used_;) {
    const ssize_t n = write(fd_, buffer_.data() + done, used_ - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;  // a full disk: the rest is lost
    done += static_cast<std::size_t>(n);
  }
  used_ = 0;
}

void* trace_layer::take(const object_request& r) {
  void* p = below().take(r);
  if (p == nullptr || r.bytes == 0) return p;
  char line[80];
  // After the object exists, and before anyone can free it.
  add(line, std::snprintf(line, sizeof line, "m %p %zu %zu\n", p, r.bytes, r.align));
  return p;
}

free_status trace_layer::free(void* p) {
  if (p == nullptr) return below().free(p);
  char line[40];
  // Before the address can be handed out again.
  add(line, std::snprintf(line, sizeof line, "f %p\n", p));
  return below().free(p);
}

void trace_layer::log(const device_events& taken) {
  char line[160];
  for (const device_event& e : taken.events) {
    const auto address = static_cast<unsigned long long>(e.address);
    const auto bytes = static_cast<unsigned long long>(e.bytes);
    const auto clock = static_cast<unsigned long long>(e.clock_ns);
    int n = 0;
    switch (e.op) {
      case device_op::malloc:
        n = std::snprintf(line, sizeof line, "M %#llx %llu %llu %llu %u\n", address, bytes,
                          1ull << e.log2_align, clock, e.warp);
        break;
      case device_op::resize:
        n = std::snprintf(line, sizeof line, "R %#llx %llu %llu %u\n", address, bytes, clock,
                          e.warp);
        break;
      case device_op::free:
        // A host object: the host frees it itself when the free arrives there, with a line of its
        // own.
        if (e.cls == no_class) continue;
        n = std::snprintf(line, sizeof line, "F %#llx %llu %u\n", address, clock, e.warp);
        break;
      case device_op::failure:
        n = std::snprintf(line, sizeof line, "X %llu %llu %u\n", bytes, clock, e.warp);
        break;
    }
    add(line, n);
  }
  if (taken.lost != 0)
    add(line,
        std::snprintf(line, sizeof line, "L %llu\n", static_cast<unsigned long long>(taken.lost)));
}

void trace_layer::drain() {
  {
    const std::scoped_lock lock(mutex_);
    write_out();
  }
  below().drain();
}

void trace_layer::forget() {
  add("r\n", 2);
  below().forget();
}

// Written out first, so that a fork's child does not write the parent's lines again.
void trace_layer::lock_this() {
  mutex_.lock();
  write_out();
}
void trace_layer::unlock_this() { mutex_.unlock(); }

}  // namespace warpheap
