// Errors that the heap detects and reports instead of corrupting itself.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace warpheap {

/// What a caller did wrong, or the heap could not do. The values index `device_state::errors`.
enum class error_kind : std::uint32_t {
  foreign_pointer,   ///< free of an address outside the heap
  interior_pointer,  ///< free of an address inside an object
  double_free,       ///< free of a slot that is already free
  late_double_free,  ///< the same, detected only when the slot's word changed hands
  not_allocated,     ///< free of an address in pages that hold no object
  out_of_memory,     ///< a malloc answered nullptr
  write_outside,     ///< bytes next to an object were changed (red_zones, efence)
  use_after_free,    ///< a freed object was changed (quarantine)
  count_
};

inline constexpr unsigned error_kinds = static_cast<unsigned>(error_kind::count_);

inline const char* to_string(error_kind kind) {
  switch (kind) {
    case error_kind::foreign_pointer: return "free of a pointer from outside the heap";
    case error_kind::interior_pointer: return "free of a pointer into the middle of an object";
    case error_kind::double_free: return "double free";
    case error_kind::late_double_free: return "double free (noticed late)";
    case error_kind::not_allocated: return "free of a pointer that is not allocated";
    case error_kind::out_of_memory: return "out of memory";
    case error_kind::write_outside: return "write outside of an object";
    case error_kind::use_after_free: return "write into a freed object";
    case error_kind::count_: break;
  }
  return "unknown error";
}

/// One detected error, as kept in the heap's ring of recent errors.
struct error_record {
  error_kind kind;
  std::uint64_t address;  ///< the pointer passed; for out_of_memory, the number of bytes requested
};

/// Thrown by host calls that cannot do what was requested: bad options, no memory for the
/// reservation, an unusable backend. The text says what was requested and what is possible.
class heap_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace warpheap
