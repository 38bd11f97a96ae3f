#pragma once

#include <cerrno>

namespace warpheap {

/// Restores errno at its end: for what free may do on the way, as free leaves errno alone.
class keep_errno {
 public:
  keep_errno() = default;
  ~keep_errno() { errno = value_; }
  keep_errno(const keep_errno&) = delete;
  keep_errno& operator=(const keep_errno&) = delete;

 private:
  const int value_ = errno;
};

}  // namespace warpheap
