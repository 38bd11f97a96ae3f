#pragma once

#include <cstddef>

#include "host/layers/chain.hpp"

namespace warpheap {

/// The value of an environment variable, "" if there is none: also before the C library knows of
/// the environment, when the loader calls malloc. A longer one may be cut off after 1024
/// characters. One caller at a time.
const char* early_environment(const char* name);

/// What the environment variable WARPHEAP says of the heap of a process, as
/// heap_options::with_environment and without malloc: the keys reserve, memory_limit and those of
/// profile and debug modes. Others, and bad values, are passed over.
struct process_options {
  std::size_t reserve_bytes = 0;  ///< 0: not given
  std::size_t memory_limit = 0;   ///< 0: none
  const char* profile_file = "";
  layer_options layers;

  /// False, and nothing is changed, when the variable has more than 1023 characters.
  bool read();

 private:
  void set(const char* key, const char* value);

  char text_[1024] = {};  // the variable's value, cut at its commas
};

}  // namespace warpheap
