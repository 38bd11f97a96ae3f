// What a run ran on and how it was built: everything that a figure depends on besides the source.
#pragma once

#include "bench/report.hpp"

namespace warpheap::bench {

/// Compiler, flags, operating system, processor and its frequency governor, load at the start,
/// time; on a machine with nvidia-smi also driver and clocks. What cannot be found out is left out.
fields describe_environment();

}  // namespace warpheap::bench
