// An input file that is not what it should be.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

namespace warpheap::bench {

/// The text names the file, the line, what was expected and what was found.
class bad_input : public std::runtime_error {
 public:
  bad_input(const std::string& file, std::size_t line, const std::string& what)
      : std::runtime_error(file + ':' + std::to_string(line) + ": " + what) {}
};

}  // namespace warpheap::bench
