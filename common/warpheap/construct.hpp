#pragma once

// Constructing an object in existing memory.

#include <new>
#include <type_traits>
#include <utility>

#include <warpheap/hd.hpp>

namespace warpheap {

/// Constructs a T at p from args: by a constructor, or an aggregate member by member, for which
/// compilers without the C++20 rule (clang 15 and older) need braces. Throws what T throws.
// A kernel's T need not have host constructors, nor the host's T constructors for kernels.
#ifdef __CUDACC__
#pragma nv_exec_check_disable
#endif
template <class T, class... Args>
WARPHEAP_HD T* construct(void* p, Args&&... args) {
  if constexpr (std::is_constructible_v<T, Args...>)
    return ::new (p) T(std::forward<Args>(args)...);
  else
    return ::new (p) T{std::forward<Args>(args)...};
}

}  // namespace warpheap
