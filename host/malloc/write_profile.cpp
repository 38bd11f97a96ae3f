#include "host/malloc/write_profile.hpp"

#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

#include "host/malloc/cxx_runtime.hpp"

namespace warpheap {

void write_process_profile(profile_layer& layer, const char* file) {
  try {
    const cxx_runtime::within_library own;
    const heap_profile profile = layer.snapshot();
    const std::string text =
        std::string_view(file).ends_with(".folded") ? profile.folded() : profile.pprof();
    if (std::FILE* const out = std::fopen(file, "wb"); out != nullptr) {
      const bool written = std::fwrite(text.data(), 1, text.size(), out) == text.size();
      if (std::fclose(out) == 0 && written) return;
    }
  } catch (const std::exception&) {
    // Not enough memory for it.
  }
  std::fprintf(stderr, "warpheap: the profile could not be written to %s\n", file);
}

}  // namespace warpheap
