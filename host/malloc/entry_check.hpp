#pragma once

// A check for tests: nothing inside the heap calls malloc. Compiled in by
// WARPHEAP_MALLOC_CHECK_ENTRY, else empty.

#include "host/persistentalloc.hpp"

namespace warpheap {

/// Lives while a thread is inside malloc or one of its family; aborts when the thread comes in once
/// more meanwhile.
class entry_check {
 public:
#ifdef WARPHEAP_MALLOC_CHECK_ENTRY
  entry_check() {
    if (inside_) fatal("malloc deadlock: malloc was called from inside malloc");
    inside_ = true;
  }
  ~entry_check() { inside_ = false; }

 private:
  static constinit inline thread_local bool inside_ = false;
#else
  constexpr entry_check() = default;
  ~entry_check() {}  // not trivial, so that no compiler finds the object unused
#endif
};

}  // namespace warpheap
