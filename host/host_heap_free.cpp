// What a pointer is, for free and usable_size: an object in a span of this thread, of another
// thread, or none. host_heap::free_fast handles objects in spans of this thread's cache.
#include <optional>

#include "host/host_heap.hpp"

namespace warpheap {

free_status host_heap::free_slow(void* p) noexcept {
  if (mcache* c = cache(); c != nullptr) [[likely]] {
    const mcache::call guard(*c);
    const free_status status = free_by(p, *c);
    if (status != free_status::ok) c->counters.wrong_frees[static_cast<unsigned>(status)].add(1);
    return status;
  }
  return free_of_ended_thread(p);
}

/// Counted with the threads that have ended.
free_status host_heap::free_of_ended_thread(void* p) {
  alloc_counters counters;
  const free_status status = free_object(p, nullptr, counters);
  if (status != free_status::ok) counters.wrong_frees[static_cast<unsigned>(status)].add(1);
  const std::scoped_lock lock(caches_mutex_);
  retired_.add(counters);
  return status;
}

/// free_object for a thread with a cache. Reads each thing only once in the common cases beside
/// objects in the thread's own spans: the first free in a span that ran full, one in a span of
/// another thread, and a large object.
inline free_status host_heap::free_by(void* p, mcache& c) {
  const auto offset = static_cast<std::size_t>(static_cast<std::byte*>(p) - base());
  if (offset >= reserve_bytes()) return free_object(p, &c, c.counters);
  const std::size_t page = offset >> page_shift;
  const page_owner owner = pages_.owner(page);
  if (!owner.is_span()) return free_object(p, &c, c.counters);
  mspan* const s = owner.span();
  // Before anything else is read from the span: see "In another cycle" in mspan.hpp.
  if (!s->is_swept(pages_.sweepgen())) return free_on_page(p, page, owner, &c, c.counters);
  const span_status seen = s->status();
  if (seen.place() == span_place::full && seen.span_class() != tiny_span_class
      && c.takes_at_once(s, seen)) {
    // The page is checked again: before this thread took the span, the record may have been reused
    // for another one.
    if (c.adopt(s, seen) && pages_.owner(page).bits() == owner.bits() && c.free_own(s, p))
      return free_status::ok;
    return free_on_page(p, page, pages_.owner(page), &c, c.counters);
  }
  if (s->size_class() == 0) {
    if (s->first() == p) return free_large(s, 0, &c, c.counters);
  } else if (!s->is_tiny() && !seen.is_owned_by(&c)) {
    const unsigned slot = s->slot_at(p);
    if (slot < s->nelems()) {
      const auto status = free_in_others(s, slot, p, page, owner, &c, c.counters);
      if (status) return *status;
    }
  }
  return free_on_page(p, page, pages_.owner(page), &c, c.counters);
}

free_status host_heap::free_object(void* p, mcache* c, alloc_counters& counters) {
  if (p == nullptr) return free_status::null;
  const std::size_t page = pages_.page_number(p);
  if (page == mheap::no_page) return free_status::foreign;
  if (p == base()) return free_status::zero_size;
  return free_on_page(p, page, pages_.owner(page), c, counters);
}

/// Frees p, on a page of the heap that belonged to `owner` a moment ago.
free_status host_heap::free_on_page(void* p, std::size_t page, page_owner owner, mcache* c,
                                    alloc_counters& counters) {
  for (;; owner = pages_.owner(page)) {
    if (!owner.is_span())
      return classify_without_span(owner, reinterpret_cast<std::uintptr_t>(p) % page_size);
    mspan* s = owner.span();
    // Before anything else is read from the span: see "In another cycle" in mspan.hpp.
    if (!s->is_swept(pages_.sweepgen())) {
      const auto in_pages = static_cast<std::size_t>(static_cast<std::byte*>(p) - s->base());
      return classify_dead(s->span_class(), in_pages);
    }
    const auto in_span = static_cast<std::size_t>(static_cast<std::byte*>(p) - s->first());
    if (s->size_class() == 0) return free_large(s, in_span, c, counters);
    if (p < s->first() || p >= s->limit()) return free_status::interior;  // color or tail
    const unsigned slot = s->slot_of(in_span);
    const auto in_slot = static_cast<unsigned>(in_span - slot * s->elemsize());
    if (in_slot != 0 && !s->is_tiny()) return free_status::interior;

    const span_status seen = s->status();
    if (seen.place() == span_place::full && (c == nullptr || c->takes_at_once(s, seen))) {
      // The span is nobody's: it becomes this thread's. Then everything is read again, as the
      // record may have been reused for another span if the pointer is stale.
      if (c != nullptr) {
        c->adopt(s, seen);
      } else {
        central_[seen.span_class()].take_full(s);
      }
      continue;
    }
    const bool own = c != nullptr && seen.is_owned_by(c);
    if (own && seen.is_pending()) c->collect(s);
    if (s->is_tiny()) return free_tiny_object(s, p, own, c, counters);
    if (own) return c->free_own_slot(s, slot) ? free_status::ok : free_status::double_free;
    if (const auto status = free_in_others(s, slot, p, page, owner, c, counters)) return *status;
  }
}

/// Frees the object at p, in slot i of a span that belonged to other threads a moment ago, as the
/// page belonged to `owner`. nullopt, with nothing done, if that has changed.
inline std::optional<free_status> host_heap::free_in_others(mspan* s, unsigned i, void* p,
                                                            std::size_t page, page_owner owner,
                                                            mcache* c, alloc_counters& counters) {
  const unsigned nelems = s->nelems();
  const unsigned size_class = s->size_class();
  // A live object pins all that was read. If the pointer is stale, the span may have ended
  // meanwhile, or been cut into other slots, and the slot may be another object's. This check
  // leaves only the few instructions from here to the setting of the bit for that.
  if (!s->is_slot(i, p) || pages_.owner(page).bits() != owner.bits()) return std::nullopt;
  const remote_free done = s->free_remote(i);
  if (done == remote_free::was_free) return free_status::double_free;
  counters.frees[size_class].increment();
  after_remote_free(s, nelems, done, c);
  return free_status::ok;
}

/// Called after a slot was freed in a span of other threads. Until then the slot pinned the span;
/// now the record may have been reused, and only its atomic words may be read.
void host_heap::after_remote_free(mspan* s, unsigned nelems, remote_free done, mcache* c) {
  const span_status now = s->status();
  if (now.place() == span_place::full) {
    if (c != nullptr)
      c->take_left(s, nelems, done);
    else if (now.is_pending())
      central_[now.span_class()].take_full(s);
  } else if (now.place() == span_place::partial && s->may_be_empty(nelems)) {
    central_[now.span_class()].became_empty(s);
  }
}

inline free_status host_heap::free_large(mspan* s, std::size_t in_span, mcache* c,
                                         alloc_counters& counters) {
  if (in_span != 0) return s->is_free(0) ? free_status::not_allocated : free_status::interior;
  if (s->free_large()) return free_status::double_free;
  counters.frees[0].increment();
  counters.large_bytes_freed.add(s->elemsize());
  c != nullptr ? c->keep_large(s) : central_.free_span(s);
  return free_status::ok;
}

free_status host_heap::free_tiny_object(mspan* s, void* p, bool own, mcache* c,
                                        alloc_counters& counters) {
  auto* masks = s->tiny_masks.load(std::memory_order_relaxed);  // published with the page's owner
  // The span is ending while this thread looks at it: nothing was live there any more.
  if (masks == nullptr) return free_status::double_free;
  const std::size_t at = reinterpret_cast<std::uintptr_t>(p) % page_size;  // spans of one page
  const auto slot = static_cast<unsigned>(at / tiny_size);
  const unsigned offset = at % tiny_size;
  // First the others' frees, then the owner's mask: see "What tells a double free" in mspan.hpp.
  const std::uint32_t freed = masks->freed[slot].load(std::memory_order_acquire);
  const std::uint32_t mask = masks->mask[slot].load(std::memory_order_relaxed);
  if ((freed & tiny_mask::live(offset)) != 0) return free_status::double_free;
  if (!tiny_mask::is_live(mask, offset)) {
    return (mask & tiny_mask::started(offset)) != 0 ? free_status::double_free
                                                    : free_status::interior;
  }
  if (own) return c->free_own_tiny(s, p) ? free_status::ok : free_status::double_free;
  const unsigned nelems = s->nelems();
  // As in free_in_others.
  if (s->tiny_masks.load(std::memory_order_acquire) != masks
      || pages_.owner_at(p).bits() != page_owner::of(s).bits()) {
    return free_status::double_free;
  }
  const remote_free done = s->free_remote_tiny(*masks, slot, offset);
  if (done == remote_free::was_free) return free_status::double_free;
  counters.tiny_frees.increment();
  after_remote_free(s, nelems, done, c);
  return free_status::ok;
}

/// Classifies a pointer into a page without a span; offset: its offset in the page.
free_status host_heap::classify_without_span(page_owner owner, std::size_t offset) {
  if (owner.is_device()) return free_status::device_page;
  if (!owner.is_gone()) return free_status::not_allocated;
  return classify_dead(owner.gone_class(), owner.gone_index() * page_size + offset);
}

/// Classifies a pointer into the pages of a span without live objects.
free_status host_heap::classify_dead(unsigned span_class, std::size_t in_pages) {
  if (span_class == tiny_span_class) return free_status::double_free;
  const unsigned c = span_class_size_class(span_class);
  if (c == 0) return in_pages == 0 ? free_status::double_free : free_status::not_allocated;
  const std::size_t in_span = in_pages - host_span_color(c);  // wraps in front of the slots
  const std::size_t slot = in_span / class_to_size(c);
  return in_span % class_to_size(c) == 0 && slot < host_span_objects(c)
             ? free_status::double_free
             : free_status::not_allocated;
}

/// The live object that starts at p; or, with interior, the one that p points into. If the call
/// races with the object's free, the result is an object that was live a moment ago, or none.
host_heap::live_object host_heap::find_live(const void* p, bool interior) const {
  const live_object found = look_up(p, interior);
  return found.span == nullptr || is_current(found) ? found : live_object{};
}

/// Whether the span in which the object was found still has the same base and class, and owns the
/// object's pages; for a large object only the first page, as its owner may resize it meanwhile.
bool host_heap::is_current(const live_object& object) const {
  const auto owner = [&](const std::byte* at) { return pages_.owner_at(at).bits(); };
  const std::uintptr_t span = page_owner::of(object.span).bits();
  const bool is_large = host_span_size_class(object.span_class) == 0;
  return owner(object.start) == span && (is_large || owner(object.start + object.bytes - 1) == span)
         && object.span->first() == object.first && object.span->span_class() == object.span_class;
}

/// find_live without the final check. Class and base are read once, and all else follows from them,
/// so that the result has the bounds of an object of the class.
host_heap::live_object host_heap::look_up(const void* p, bool interior) const {
  if (p == nullptr) return {};
  const page_owner owner = pages_.owner_at(p);
  if (!owner.is_span()) return {};
  mspan* s = owner.span();
  if (!s->is_swept(pages_.sweepgen())) return {};
  const unsigned sc = s->span_class();
  const unsigned c = host_span_size_class(sc);
  std::byte* const first = s->first();
  const auto in_span = static_cast<std::size_t>(static_cast<const std::byte*>(p) - first);
  if (c == 0) {
    const std::size_t bytes = s->npages() * page_size;
    if (s->is_free(0) || (in_span != 0 && !interior) || in_span >= bytes) return {};
    return {s, first, bytes, 0, sc, first};
  }
  if (in_span >= std::size_t{host_span_pages(c)} * page_size) return {};
  const auto size = static_cast<unsigned>(class_to_size(c));
  const unsigned slot = static_cast<unsigned>(in_span) / size;
  if (slot >= host_span_objects(c) || s->is_free(slot)) return {};
  auto in_slot = static_cast<unsigned>(in_span) - slot * size;
  std::byte* const start = first + std::size_t{slot} * size;
  if (sc == tiny_span_class) {
    const auto* masks = s->tiny_masks.load(std::memory_order_relaxed);
    if (masks == nullptr) return {};
    const std::uint32_t mask = masks->current(slot);
    const unsigned asked = in_slot;
    while (interior && in_slot > 0 && !tiny_mask::is_live(mask, in_slot)) --in_slot;
    if (!tiny_mask::is_live(mask, in_slot)) return {};
    const unsigned bytes = tiny_mask::extent(mask, in_slot);
    if (asked - in_slot >= bytes) return {};
    return {s, start + in_slot, bytes, slot * unsigned{tiny_size} + in_slot, sc, first};
  }
  if (in_slot != 0 && !interior) return {};
  return {s, start, size, slot, sc, first};
}

std::size_t host_heap::usable_size(const void* p) const { return find_live(p, false).bytes; }

}  // namespace warpheap
