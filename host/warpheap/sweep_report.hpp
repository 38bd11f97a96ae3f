// The results of heap::mark and heap::sweep.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>
#include <warpheap/size_classes.hpp>

namespace warpheap {

/// The result of a mark.
enum class mark_status : std::uint8_t {
  marked,     ///< the object is live and is now marked
  again,      ///< marked already, or nothing to mark: nullptr or an object of size 0
  dangling,   ///< no live object starts there: the program must not use this pointer
  device,     ///< in pages lent to kernels: sweep_device() will find it marked, or dangling
  foreign,    ///< not an address of this heap
  no_memory,  ///< no room for the mark: the next sweep will free nothing
};

/// What heap::sweep found among objects of the host, or heap::sweep_device among those of kernels.
struct sweep_report {
  struct object {
    void* address = nullptr;
    std::size_t bytes = 0;    ///< usable bytes
    unsigned size_class = 0;  ///< 0: large; tiny_objects: below 16 bytes, in a shared block
  };
  struct sum {
    std::uint64_t objects = 0, bytes = 0;
  };
  static constexpr unsigned tiny_objects = num_classes;

  /// False if there was no memory for a mark: nothing was freed, and the rest is empty.
  bool complete = true;
  sum kept;                                            ///< marked and new objects, which survive
  sum leaked;                                          ///< unmarked objects, which have been freed
  std::array<sum, num_classes + 1> leaked_by_class{};  ///< index: size_class as above
  std::vector<object> leaks;                           ///< some of the leaked objects, in no order
  std::uint64_t dangling = 0;            ///< marks where no object was live, then or at the sweep
  std::vector<void*> dangling_pointers;  ///< the first of these
};

}  // namespace warpheap
