// What a test notes down of its own accord, without synchronisation and without need of any.
#pragma once

#ifdef __SANITIZE_THREAD__
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace warpheap::testing {

/// As long as it lives, ThreadSanitizer does not watch this thread or lane. In an exploration lanes
/// take turns on one thread; a lock would hide the races that are looked for.
class unwatched {
 public:
#ifdef __SANITIZE_THREAD__
  unwatched() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~unwatched() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  unwatched() {}
#endif
  unwatched(const unwatched&) = delete;
  unwatched& operator=(const unwatched&) = delete;
};

}  // namespace warpheap::testing
