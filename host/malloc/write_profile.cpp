#include "host/malloc/write_profile.hpp"

#include <cstdio>
#include <exception>
#include <fstream>
#include <string_view>

namespace warpheap {

void write_process_profile(profile_layer& layer, const char* file) {
  try {
    const heap_profile profile = layer.snapshot();
    std::ofstream out(file, std::ios::binary);
    out << (std::string_view(file).ends_with(".folded") ? profile.folded() : profile.pprof());
    out.close();
    if (out) return;
  } catch (const std::exception&) {
    // Not enough memory for it.
  }
  std::fprintf(stderr, "warpheap: the profile could not be written to %s\n", file);
}

}  // namespace warpheap
