// Spans of freed large objects that a thread keeps.
#include "host/mcache.hpp"

namespace warpheap {

namespace {

constexpr std::size_t max_large_spans = 32;

}  // namespace

inline mspan* mcache::take_from_large(std::size_t npages, unsigned span_class) {
  for (mspan* s = large_.first(); s != nullptr; s = span_list::next(s)) {
    if (s->npages() != npages || s->span_class() != span_class) continue;
    large_.remove(s);
    large_pages_ -= npages;
    s->set_phase(heap_->sweepgen(), sweep_phase::swept);
    s->take_large();
    return s;
  }
  return nullptr;
}

mspan* mcache::take_large(std::size_t npages, unsigned span_class) {
  return take_from_large(npages, span_class);
}

void* mcache::take_kept_large(std::size_t n, contents kind) {
  const call guard(*this);
  mspan* const s = take_from_large(n / page_size + (n % page_size != 0),
                                   make_span_class(0, kind == contents::no_pointers));
  if (s == nullptr) return nullptr;
  note_large(*s);
  return s->base();
}

void mcache::note_large(mspan& s) {
  if (central_->marks.is_on()) [[unlikely]]
    central_->marks.note_large_birth(s);
  counters.mallocs[0].increment();
  counters.large_bytes_taken.add(s.elemsize());
}

void mcache::keep_large(mspan* s) {
  if (s->npages() > most_large_pages_) [[unlikely]]
    return central_->free_span(s);
  s->needzero = true;
  s->set_phase(heap_->sweepgen(), sweep_phase::cached);
  large_.insert_front(s);
  large_pages_ += s->npages();
  while (large_pages_ > most_large_pages_ || large_.size() > max_large_spans)
    (void)give_last_large();
}

/// Gives back the kept large span that was freed first; returns its pages.
std::size_t mcache::give_last_large() {
  mspan* const s = large_.last();
  const std::size_t npages = s->npages();
  large_.remove(s);
  large_pages_ -= npages;
  central_->free_span(s);
  return npages;
}

}  // namespace warpheap
