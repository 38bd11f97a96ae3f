// Spans without objects, for scratch stacks and regions.
#include "host/mheap.hpp"

namespace warpheap {

mspan* mheap::alloc_manual(std::size_t n, manual_use use) {
  if (n == 0 || n > most_pages()) return nullptr;
  page_allocation got;
  mspan* s = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    got = alloc_pages(page_user::host, n);
    if (got) s = new_record_locked();
  }
  if (!got) return nullptr;
  if (s == nullptr || !commit(got, n)) {
    abandon(got, n);
    const std::scoped_lock lock(mutex_);
    if (s != nullptr) dead_.insert_back(s);
    return nullptr;
  }
  s->init(page_address(got.first), n, make_span_class(0, true));
  s->set_status(span_status::in(span_place::none, s->span_class()));
  s->set_state(span_state::manual);
  s->reset_phase(sweepgen_);
  s->needzero = source_.needzero_after_decommit || got.scavenged != n;
  // Relaxed: set_owner publishes it.
  s->tiny_masks.store(nullptr, std::memory_order_relaxed);
  set_owner(got.first, n, page_owner::manual(s));
  manual_count(use).fetch_add(n, std::memory_order_relaxed);
  note_peak();
  return s;
}

void mheap::free_manual(mspan* s, manual_use use) { free_manual(s, use, /*scavenged=*/false); }

void mheap::free_manual(mspan* s, manual_use use, bool scavenged) {
  const std::size_t first = page_of(s);
  const std::size_t n = s->npages();
  s->free_all();
  s->set_place(span_place::none);
  s->set_state(span_state::dead);
  set_owner(first, n, page_owner());
  manual_count(use).fetch_sub(n, std::memory_order_relaxed);
  const std::scoped_lock lock(mutex_);
  arenas_.free(first, n, scavenged);
  dead_.insert_back(s);
}

bool mheap::exchange_owner(std::size_t page, page_owner& seen, page_owner to) {
  std::uintptr_t bits = seen.bits();
  // As in set_owner and owner: a thread that finds the span here finds its record complete.
  const bool done = std::atomic_ref(owners_[page])
                        .compare_exchange_strong(bits, to.bits(), std::memory_order_acq_rel,
                                                 std::memory_order_acquire);
  seen = page_owner(bits);
  return done;
}

bool mheap::quarantine_manual(mspan* s) {
  const std::size_t first = page_of(s);
  const std::size_t n = s->npages();
  if (source_.fault == nullptr || !source_.fault(source_.context, s->base(), n * page_size))
    return false;
  states_.fault(first, n);
  {
    // Under the lock, so that stats counts the pages only once.
    const std::scoped_lock lock(mutex_);
    manual_count(manual_use::regions).fetch_sub(n, std::memory_order_relaxed);
    manual_count(manual_use::quarantine).fetch_add(n, std::memory_order_relaxed);
  }
  committed_pages_.fetch_sub(n, std::memory_order_relaxed);
  return true;
}

bool mheap::end_quarantine(mspan* s) {
  if (!source_.unfault(source_.context, s->base(), s->npages() * page_size)) return false;
  states_.unfault(page_of(s), s->npages());
  free_manual(s, manual_use::quarantine, /*scavenged=*/true);
  return true;
}

}  // namespace warpheap
