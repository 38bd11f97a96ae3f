#pragma once

// Checks, in tests, that nothing inside the heap calls malloc. Compiled in by
// WARPHEAP_MALLOC_CHECK_ENTRY, otherwise empty.

#include "host/persistentalloc.hpp"

namespace warpheap {

/// Lives while a thread is inside a function of malloc's family; aborts when the thread enters one
/// again meanwhile.
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
  ~entry_check() {}  // not trivial, so that no compiler reports the object as unused
#endif
};

}  // namespace warpheap
