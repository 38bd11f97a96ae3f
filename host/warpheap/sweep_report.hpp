// Mark and sweep on request: what a mark was put on, and what a sweep found.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>
#include <warpheap/size_classes.hpp>

namespace warpheap {

/// What became of a mark.
enum class mark_status : std::uint8_t {
  marked,    ///< the object lives and has its mark now
  again,     ///< it had its mark already; or there is nothing to mark: nullptr, an object of size 0
  dangling,  ///< no live object starts there: a pointer that the program must not use
  device,    ///< in pages lent to kernels: sweep_device() finds it marked, or dangling
  foreign,   ///< not an address of this heap
  no_memory,  ///< no room for marks: the next sweep will free nothing
};

/// What a sweep found: of objects of the host, or of kernels (heap::sweep_device).
struct sweep_report {
  struct object {
    void* address = nullptr;
    std::size_t bytes = 0;    ///< that could be used at it
    unsigned size_class = 0;  ///< 0: large; tiny_objects: below 16 bytes, in a shared block
  };
  struct sum {
    std::uint64_t objects = 0, bytes = 0;
  };
  static constexpr unsigned tiny_objects = num_classes;

  /// False: there was no memory for a mark, so nothing was freed and the rest is empty.
  bool complete = true;
  sum kept;                                            ///< marked and new ones, which live on
  sum leaked;                                          ///< unmarked objects, which have been freed
  std::array<sum, num_classes + 1> leaked_by_class{};  ///< index: size_class as above
  std::vector<object> leaks;                           ///< the first of them, in no order
  std::uint64_t dangling = 0;  ///< marks on what did not live, at the mark or at the sweep
  std::vector<void*> dangling_pointers;  ///< the first of them
};

}  // namespace warpheap
