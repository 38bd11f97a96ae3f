#pragma once

#include <cstddef>
#include <string_view>

#include "host/layers/chain.hpp"

namespace warpheap {

/// The value of an environment variable, "" if there is none. Works even before the C library knows
/// of the environment, when the loader calls malloc; a value of more than 1024 characters may then
/// be cut off. One caller at a time.
const char* early_environment(const char* name);

/// What the environment variable WARPHEAP says of the heap of a process; like
/// heap_options::with_environment, but without malloc: the keys reserve, memory_limit and those of
/// the profile and debug modes. Unknown keys and bad values are ignored, with a warning.
struct process_options {
  std::size_t reserve_bytes = 0;  ///< 0: not given
  std::size_t memory_limit = 0;   ///< 0: none
  const char* profile_file = "";
  layer_options layers;

  /// False, with nothing changed, when the variable has more than 1023 characters. `warn` is called
  /// for each part that is ignored, with what is wrong with it.
  bool read(void (*warn)(const char* part, const char* why));

 private:
  /// Returns what is wrong, or null. Keeps file names by pointer.
  const char* set(std::string_view key, const char* value);

  char text_[1024] = {};  // the variable's value, cut at its commas
};

}  // namespace warpheap
