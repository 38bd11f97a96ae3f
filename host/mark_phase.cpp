#include "host/mark_phase.hpp"

#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/keep_errno.hpp"
#include "host/persistentalloc.hpp"

namespace warpheap {

void barrier_for_all() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const keep_errno keep;
  const auto membarrier = [](int command) { return syscall(SYS_membarrier, command, 0, 0); };
  if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) return;
  if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0
      && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) {
    return;
  }
  // A system without this call: one that takes a right from a page in use tells all processors that
  // run the process, and waits for them.
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* const p = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) fatal("no memory for a page that orders threads");
  *static_cast<volatile char*>(p) = 1;
  mprotect(p, page, PROT_READ);
  munmap(p, page);
}

void mark_phase::end(bool drop) {
  on_.store(false, std::memory_order_relaxed);
  begun_.store(false, std::memory_order_relaxed);
  lost_.store(false, std::memory_order_relaxed);
  if (drop) all_.drop();
}

/// The owner of the span, or a reader of its words, notes births in it.
span_marks* mark_phase::births_of(mspan& s) {
  return of(s, s.base(), s.span_class(), [] { return true; });
}

void mark_phase::note_births(mspan& s) {
  span_marks* const births = births_of(s);
  if (births == nullptr) return;
  for (unsigned w = 0; w < s.words(); ++w) {
    const std::uint64_t ready = s.sets(w).ready;
    if (ready == 0) continue;
    if (!s.is_tiny()) {
      births->set_born(w, ready);
      continue;
    }
    for (std::uint64_t rest = ready; rest != 0; rest &= rest - 1)
      births->set_born_bytes(w * 64 + bits::lowest_bit(rest), 0xffff);
  }
}

void mark_phase::note_tiny_births(mspan& s) {
  const auto* const masks = s.tiny_masks.load(std::memory_order_acquire);
  span_marks* const births = masks == nullptr ? nullptr : births_of(s);
  if (births == nullptr) return;
  for (unsigned i = 0; i < tiny_mask_block::blocks; ++i) {
    const std::uint32_t frontier =
        tiny_mask::frontier_of(masks->mask[i].load(std::memory_order_relaxed));
    // From it on.
    if (frontier != 0) births->set_born_bytes(i, ~(frontier - 1) & 0xffff);
  }
}

void mark_phase::note_large_birth(mspan& s) {
  if (span_marks* const births = births_of(s); births != nullptr) births->set_born(0, 1);
}

}  // namespace warpheap
