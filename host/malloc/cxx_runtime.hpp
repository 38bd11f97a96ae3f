#pragma once

// What operator new needs of the program's C++ runtime.
//
// The library has a runtime of its own linked into it: a C program that preloads it loads no other,
// and a program that brings an older libstdc++ than the library was built with still starts. But
// the new-handler that a program has set is in its own runtime, and an exception that leaves the
// library must be thrown by that one: unwinders do not mix. These functions look it up. They are
// for when an allocation has failed.

#include <cstddef>
#include <new>

namespace warpheap::cxx_runtime {

/// The program's new-handler; null when it has set none, has no C++ runtime, or within_library.
std::new_handler new_handler();

/// Throws std::bad_alloc by the program's runtime. Without one nothing could catch it: ends the
/// program then.
[[noreturn]] void throw_bad_alloc();

/// The runtime's own operator new (nothrow), which calls the throwing one, and with it this
/// library's, and catches what a new-handler throws. nullptr when no runtime can be found.
void* new_or_null(std::size_t n);
void* new_or_null(std::size_t n, std::align_val_t align);

/// While one lives, this thread allocates for the library, which catches std::bad_alloc itself: it
/// is thrown by the library's own runtime.
class within_library {
 public:
  within_library();
  ~within_library();
  within_library(const within_library&) = delete;
  within_library& operator=(const within_library&) = delete;
};

}  // namespace warpheap::cxx_runtime
