#include "host/mcentral.hpp"

#include "host/mheap.hpp"

namespace warpheap {

void mcentral::init(mheap& heap, unsigned span_class) {
  heap_ = &heap;
  span_class_ = span_class;
}

mspan* mcentral::cache_span() {
  mspan* s = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    s = partial_.pop_front();
    if (s == nullptr) s = empty_.pop_front();
    if (s == nullptr) return nullptr;
    s->set_phase(heap_->sweepgen(), sweep_phase::cached);
    s->set_place(span_place::cached);
  }
  s->rewind();
  return s;
}

/// Keeps a span without objects, or returns false: it is nobody's then and its pages are to be
/// freed.
bool mcentral::keep_or_drop(mspan* s) {
  if ((empty_.size() + 1) * s->npages() <= max_empty_pages) {
    s->set_place(span_place::empty);
    empty_.insert_back(s);
    return true;
  }
  s->set_place(span_place::none);
  return false;
}

void mcentral::uncache_span(mspan* s) {
  {
    const std::scoped_lock lock(mutex_);
    s->set_phase(heap_->sweepgen(), sweep_phase::swept);
    s->set_place(span_place::full);
    if (!s->any_free()) {
      full_.insert_back(s);
      return;
    }
    s->set_place(span_place::partial);
    if (!s->all_free()) {
      partial_.insert_back(s);
      return;
    }
    if (keep_or_drop(s)) return;
  }
  heap_->free_span(s);
}

void mcentral::slot_freed(mspan* s) {
  {
    const std::scoped_lock lock(mutex_);
    if (s->packed_place() == mspan::pack_place(span_place::full, span_class_) && s->any_free()) {
      full_.remove(s);
      s->set_place(span_place::partial);
      partial_.insert_back(s);
    }
    if (s->packed_place() != mspan::pack_place(span_place::partial, span_class_)
        || !s->all_free()) {
      return;
    }
    partial_.remove(s);
    if (keep_or_drop(s)) return;
  }
  heap_->free_span(s);
}

std::size_t mcentral::release_empty() {
  std::size_t pages = 0;
  for (;;) {
    mspan* s = nullptr;
    {
      const std::scoped_lock lock(mutex_);
      s = empty_.pop_front();
      if (s == nullptr) return pages;
      s->set_place(span_place::none);
    }
    pages += s->npages();
    heap_->free_span(s);
  }
}

void mcentral::forget_all() {
  const std::scoped_lock lock(mutex_);
  for (span_list* list : {&partial_, &full_, &empty_}) {
    while (list->pop_front() != nullptr) {
    }
  }
}

mcentral::sizes mcentral::set_sizes() const {
  const std::scoped_lock lock(mutex_);
  return {partial_.size(), full_.size(), empty_.size()};
}

}  // namespace warpheap
