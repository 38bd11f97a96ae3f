// Large objects that change their length in place.
#include "host/mheap.hpp"

namespace warpheap {

bool mheap::grow_large(mspan* s, std::size_t npages) {
  if (npages > most_pages()) return false;
  const std::size_t more = npages - s->npages();
  const std::size_t last = page_of(s) + s->npages() - 1;
  page_allocation got;
  {
    const std::scoped_lock lock(mutex_);
    const std::size_t before = arenas_.grown_pages();
    got = mapped(arenas_.alloc_behind(last, more), more, before);
  }
  if (!got) return false;
  if (!commit(got, more)) {
    abandon(got, more);
    return false;
  }
  // One step as seen by a fork: the child of a fork in another thread recounts the pages of spans.
  const std::scoped_lock lock(mutex_);
  if (source_.needzero_after_decommit || got.scavenged != more) s->needzero = true;
  s->resize_large(npages);
  set_owner(got.first, more, page_owner::of(s));
  pages_in_use_.fetch_add(more, std::memory_order_relaxed);
  note_peak();
  return true;
}

void mheap::shrink_large(mspan* s, std::size_t npages) {
  const std::size_t first = page_of(s);
  const std::size_t was = s->npages();
  const std::scoped_lock lock(mutex_);
  for (std::size_t i = npages; i < was; ++i)
    set_owner(first + i, 1, page_owner::gone(s->span_class(), i));
  s->resize_large(npages);
  arenas_.free(first + npages, was - npages);
  pages_in_use_.fetch_sub(was - npages, std::memory_order_relaxed);
}

}  // namespace warpheap
