#pragma once

namespace warpheap {

/// Has f(value) called when the calling thread ends, after the destructors of its thread_local
/// objects, which may still allocate and free. One value a thread, not null; f is the same in every
/// call of a process. False when there is no such call: the process ends, or the C library has no
/// memory. A thread_local with a destructor would be registered by malloc. Aborts when the system
/// has no key for thread-specific data left.
bool at_thread_exit(void* value, void (*f)(void*));

}  // namespace warpheap
