// What objects hold, as far as the heap is to know: pointers to other objects, or none.
#pragma once

#include <cstdint>
#include <type_traits>

namespace warpheap {

/// Whether an object may hold pointers to objects of the heap, which heap::mark_reachable then
/// follows. The two kinds never share a span. (Go: the noscan bit of a span class.)
enum class contents : std::uint8_t { no_pointers, pointers };

/// What a T holds: numbers, enumerations and arrays of them no pointers. A program that knows it of
/// a class of its own says so:
///   template <> inline constexpr warpheap::contents warpheap::contents_of<vec3> =
///       warpheap::contents::no_pointers;
template <class T>
inline constexpr contents contents_of =
    std::is_arithmetic_v<
        std::remove_all_extents_t<T>> || std::is_enum_v<std::remove_all_extents_t<T>>
        ? contents::no_pointers
        : contents::pointers;

}  // namespace warpheap
