// A deliberate mistake that needs no compiler: the atomic operations of one line of the sources
// have another order than they say.
#pragma once

#include "relacy_library.hpp"

namespace warpheap::weak {

/// From the environment: WARPHEAP_WEAKEN="FILE LINE FROM TO", such as
/// "device/warpheap/detail/small.cuh 31 release relaxed". FILE is the end of a path.
class weakening {
 public:
  weakening() {
    const char* text = std::getenv("WARPHEAP_WEAKEN");
    if (text == nullptr) return;
    std::istringstream words(text);
    unsigned line = 0;
    std::string from, to;
    if (words >> file_ >> line >> from >> to && parse(from, from_) && parse(to, to_)) line_ = line;
  }

  /// The order of an operation that says `order` and stands in this line.
  rl::memory_order of(rl::memory_order order, const char* file, unsigned line) const {
    return line == line_ && order == from_ && std::string_view(file).ends_with(file_) ? to_ : order;
  }

 private:
  static bool parse(const std::string& name, rl::memory_order& order) {
    for (const rl::memory_order o :
         {rl::mo_relaxed, rl::mo_acquire, rl::mo_release, rl::mo_acq_rel, rl::mo_seq_cst}) {
      order = o;
      if (name == rl::format(o)) return true;
    }
    return false;
  }

  std::string file_;
  unsigned line_ = ~0u;  // of no file
  rl::memory_order from_ = rl::mo_relaxed, to_ = rl::mo_relaxed;
};

}  // namespace warpheap::weak
