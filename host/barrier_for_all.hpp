#pragma once

namespace warpheap {

/// Has every thread of the process execute a full fence, those that do not run when they run again.
/// Some microseconds; the others pay nothing else for it. (Linux: membarrier.)
void barrier_for_all();

}  // namespace warpheap
