#pragma once

namespace warpheap {

/// Makes every thread of the process execute a full fence, a suspended one before it runs again.
/// Takes some microseconds; the others pay nothing else for it. (Linux: membarrier.)
void barrier_for_all();

}  // namespace warpheap
