// Whether objects hold pointers to other objects.
#pragma once

#include <cstdint>
#include <type_traits>

namespace warpheap {

/// Whether an object may hold pointers to objects of the heap, which heap::mark_reachable then
/// follows. The two kinds never share a span. (Go: the noscan bit of a span class.)
enum class contents : std::uint8_t { no_pointers, pointers };

/// What a T holds. Numbers, enumerations and arrays of them hold no pointers; anything else may. A
/// program can specialise this for a class of its own:
///   template <> inline constexpr warpheap::contents warpheap::contents_of<vec3> =
///       warpheap::contents::no_pointers;
template <class T>
inline constexpr contents contents_of =
    std::is_arithmetic_v<
        std::remove_all_extents_t<T>> || std::is_enum_v<std::remove_all_extents_t<T>>
        ? contents::no_pointers
        : contents::pointers;

}  // namespace warpheap
