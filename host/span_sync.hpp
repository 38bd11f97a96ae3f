#pragma once

// What the threads that share spans synchronise by. A name of its own for each, because the check
// under a weak memory model has others in their place (tests/relacy/shim).

#include <atomic>
#include <mutex>

namespace warpheap {

template <class T>
using span_atomic = std::atomic<T>;
using span_mutex = std::mutex;

/// What a thread is known by, of a thread_local: its address.
inline const void* this_thread(const void* of_thread) { return of_thread; }

}  // namespace warpheap
