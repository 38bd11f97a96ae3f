#pragma once

#include <cstdint>

namespace warpheap {

/// The result of a free.
enum class free_status : std::uint8_t {
  ok,
  null,           ///< free(nullptr): nothing to do, no error
  zero_size,      ///< the object of size 0: nothing to do, no error
  foreign,        ///< not an address of this heap
  device_page,    ///< in pages lent to the device: the caller passes it on
  interior,       ///< inside an object, or in a span where no object starts
  double_free,    ///< the object is free already
  not_allocated,  ///< in pages that hold no object
};
inline constexpr unsigned free_statuses = 8;

}  // namespace warpheap
