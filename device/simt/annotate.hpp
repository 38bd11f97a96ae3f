// What ThreadSanitizer must be told about lanes: they are ordered only by what orders them in CUDA.
// Without the sanitizer, all of it is empty.
#pragma once

#include <warpheap/simt_words.hpp>

#ifdef WARPHEAP_SIMT_TSAN
#include <sanitizer/tsan_interface.h>

extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace warpheap::simt::detail {

/// While one exists, the sanitizer ignores memory accesses. The executor's own state is shared by
/// the lanes of one OS thread, which the sanitizer takes for threads.
class quiet_scope {
 public:
#ifdef WARPHEAP_SIMT_TSAN
  quiet_scope() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~quiet_scope() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  quiet_scope() {}
#endif
  quiet_scope(const quiet_scope&) = delete;
  quiet_scope& operator=(const quiet_scope&) = delete;
};

/// What precedes a give() of an address happens before what follows a take() of it.
inline void give([[maybe_unused]] const void* address) {
#ifdef WARPHEAP_SIMT_TSAN
  __tsan_release(const_cast<void*>(address));
#endif
}
inline void take([[maybe_unused]] const void* address) {
#ifdef WARPHEAP_SIMT_TSAN
  __tsan_acquire(const_cast<void*>(address));
#endif
}

}  // namespace warpheap::simt::detail
