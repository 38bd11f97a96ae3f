#pragma once

#include "host/layers/profile.hpp"

namespace warpheap {

/// Writes the profile of the process: folded stacks if the name ends in ".folded", otherwise in
/// pprof's format. Reports a failure on standard error. For a thread that is in no call of malloc.
void write_process_profile(profile_layer& layer, const char* file);

}  // namespace warpheap
