#pragma once

// Making an object in memory that is there already.

#include <new>
#include <type_traits>
#include <utility>

#include <warpheap/hd.hpp>

namespace warpheap {

/// Constructs a T at p from args: by a constructor, or an aggregate of them member by member, for
/// which compilers before the C++20 rule (clang 15 and older) want braces. Throws what T does.
// A kernel's T need not have constructors for the host, nor the host's for kernels.
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
