#pragma once

// What threads that share spans synchronise by. Each has a name of its own, because the check under
// a weak memory model substitutes others (tests/relacy/shim).

#include <atomic>
#include <mutex>

namespace warpheap {

template <class T>
using span_atomic = std::atomic<T>;
using span_mutex = std::mutex;

/// Identifies the calling thread by the address of one of its thread_locals.
inline const void* this_thread(const void* of_thread) { return of_thread; }

}  // namespace warpheap
