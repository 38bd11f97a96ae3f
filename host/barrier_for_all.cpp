#include "host/barrier_for_all.hpp"

#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <atomic>

#include "host/keep_errno.hpp"
#include "host/persistentalloc.hpp"

namespace warpheap {

void barrier_for_all() {
  // For the compiler; each method below is also a full fence for its caller.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  const keep_errno keep;
  const auto membarrier = [](int command) { return syscall(SYS_membarrier, command, 0, 0); };
  if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) return;
  if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0
      && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) {
    return;
  }
  // Fallback without membarrier: to revoke an access right of a page in use, the kernel interrupts
  // all processors that run the process, and waits for them.
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* const p = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) fatal("no memory for a page that orders threads");
  *static_cast<volatile char*>(p) = 1;
  mprotect(p, page, PROT_READ);
  munmap(p, page);
}

}  // namespace warpheap
