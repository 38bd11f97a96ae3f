#pragma once

namespace warpheap {

/// Arranges for f(value) to be called when the calling thread ends, after the destructors of its
/// thread_local objects, which may still allocate and free. One value per thread, not null; f is
/// the same in all calls of a process. False when it cannot be arranged: the process is ending, or
/// the C library has no memory. (A thread_local with a destructor would not do: its registration
/// calls malloc.) Aborts when the system has no key for thread-specific data left.
bool at_thread_exit(void* value, void (*f)(void*));

}  // namespace warpheap
