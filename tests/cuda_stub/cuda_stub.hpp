// A CUDA without a device, for what the host side does with it: memory of mmap, of which a child of
// a fork has none, and no kernels. A call in a child or after the end aborts, with its name.
#pragma once

#include <string>

namespace warpheap::testing {

/// What why_no_cuda_kernels answers.
extern std::string no_kernels_reason;
/// Whether there is an error that nobody has taken back.
bool cuda_error_is_left();

}  // namespace warpheap::testing
