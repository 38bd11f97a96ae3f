#include "host/mcache.hpp"

#include <algorithm>

#include "host/span_check.hpp"

namespace warpheap {

namespace {

// Stands for "no span": it has no slots and is never written, so that no look-up tests for null.
constinit mspan no_span;

// The most pages that a cache keeps beyond those in use; fewer in a small heap. Keeping them saves
// calls to the page allocator and waits for its lock.
constexpr std::size_t max_kept_pages = 4096;
constexpr std::size_t max_large_pages = 4096;
// Once a cache keeps this many pages, it keeps no span that it adopted from another thread and has
// taken nothing from since. Without this bound, of two threads that allocate batches for each
// other, one kept more and more of the other's spans: batches of 300 KB took up to 29 MiB, and take
// 5 with it. (Keeping no such span at all, 500 B take 25 ns; keeping them, 15.)
constexpr std::size_t max_kept_of_others = 64;
constexpr std::size_t kept_part = 128;
// When a cache takes pages from the heap because its kept ones are too short or too long, it still
// keeps this many of them, and none of large objects. With up to 4 MiB of those a perl hash took 79
// MiB instead of 75, and a syntax tree in python 34 instead of 31.
constexpr std::size_t min_kept_pages = 16;
// When that happens: the classes in which it looks for spans without objects, and how many it looks
// at in each besides the current one. Two threads that free each other's objects (the benchmark's
// sh8) took at most 19 MiB with these, 22 with six spans of 16 classes, 24 with two of 16, and 34
// with the current spans only, when spans had 64 slots; no row of the benchmark took more time.
constexpr unsigned idle_classes = 48, emptied_looks = 2;
// A cache also looks for spans that others have emptied, in fewer classes, each time the heap's
// span pages have grown by this much, whoever took them: a thread whose spans others empty may need
// no new span itself. The larger the heap, the more growth this takes, so that many threads taking
// a few pages each do not make one another look at every turn. Of 20 runs of sh8, one took 29 to 38
// MiB without this rule; with it, 25 is the most.
constexpr std::size_t emptied_growth = 32;  // plus 1/256 of the heap's pages
constexpr unsigned growth_classes = 32;
// A span is given in exchange for another thread's if one slot in this many is free.
constexpr unsigned given_free_part = 4;
// A full span is left to its last owner until one slot in this many was freed by others, unless
// most full spans in which a thread frees are not its own (mcache::balance). When the first thread
// to free in such a span became its owner at once, the benchmark's rptest on two threads, where
// each tenth object is freed by the other, took 242 ns of CPU time instead of 163, and 50 MiB
// instead of 46; its sh8 took 65 ns instead of 59. Without the exception, batches of 64 to 500 B
// that two threads allocate for each other take 15 to 40 ns an object instead of 9 to 20.
constexpr unsigned left_part = 4;
// The most pages of spans with free slots that a cache has in one class: this many, or this part of
// a large heap. Spans beyond go to mcentral, and each free in them is then a remote one: with 2
// million objects, of which one at random is freed and allocated anew, such a step took 300 to 450
// ns when the bound was 1024 pages in every heap, and takes 200 now.
constexpr std::size_t most_other_pages = 1024, other_part = 16;
// A span of objects of at most sparse_size is taken up again when one slot in sparse_part is free;
// in sparse_part_of_smallest for the smallest objects, or in sparse_part_of_few when all spans in
// the list are few pages. Otherwise it goes to the back of its list, and after sparse_looks such
// spans a new one is taken up. Without this rule a heap in long use becomes dense, and each span
// taken up has only a few slots. With 200 thousand objects of 20 to 40 B, one at random freed and
// allocated anew, a step took 141 ns without the rule and takes 44 to 54 with it, for 3 % more
// memory. Spans that got their first free slot go to the front, before those already looked at:
// with 1000 groups of 100 objects of 500 B, half freed at once and half after 1000 more, a malloc
// and its free took 130 ns and the process 34 MiB when they went to the back; 65 ns and 30 MiB now.
constexpr std::size_t sparse_size = 1024, smallest_size = 128;
constexpr unsigned sparse_part_of_smallest = 16;
constexpr unsigned sparse_part_of_few = 8;
constexpr unsigned sparse_part = 32;
constexpr std::size_t few_pages = 128;
constexpr std::size_t sparse_looks = 16;
// Not spans of tiny blocks: what others have freed there is not counted before it is collected.
bool may_wait(const mspan& s) { return s.elemsize() <= sparse_size && !s.is_tiny(); }

}  // namespace

mcache::mcache(mheap& heap, mcentral_set& central)
    : most_large_pages_(std::min(max_large_pages, heap.reserve_pages() / kept_part)),
      most_other_pages_(std::max(most_other_pages, heap.reserve_pages() / other_part)),
      heap_(&heap),
      central_(&central) {
  current_.fill(&no_span);
  for (std::size_t i = 0; i < fine_class_.size(); ++i) {
    fine_class_[i] = static_cast<std::uint8_t>(size_to_class(i * 8));
  }
}

// --- spans

/// Called when the current span has no free slots: makes another one current. Null when there is
/// none.
mspan* mcache::change_current(unsigned span_class) {
  central_->check_no_bulk();
  const unsigned i = index_of[span_class];
  if (mspan* const s = current_[i]; s != &no_span) {
    if (!let_go_full(s)) return make_current(i, s);
    set_current(i, &no_span);
  }
  // The span had free slots when it was added. If not now, a wrong free made it this thread's.
  const auto take_up = [&](mspan* s) -> mspan* {
    check_span(*s);
    if (s->enter()) return set_entered(i, s);
    return let_go_full(s) ? nullptr : make_current(i, s);
  };
  while (mspan* const s = pop_worthwhile(others_[i])) {
    if (mspan* const taken = take_up(s)) return taken;
  }
  if (mspan* const s = next_span(span_class)) return make_current(i, s);
  while (mspan* const s = others_[i].pop_front()) {
    if (mspan* const taken = take_up(s)) return taken;
  }
  return nullptr;
}

/// A span with enough free slots; nullptr when a new one is better.
mspan* mcache::pop_worthwhile(span_list& list) {
  std::size_t looks = std::min(list.size(), sparse_looks);
  mspan* s = list.pop_front();
  if (s == nullptr || !may_wait(*s)) return s;
  const bool are_few = (list.size() + 1) * s->npages() <= few_pages;
  const unsigned of_smallest = are_few ? sparse_part_of_few : sparse_part_of_smallest;
  const unsigned part = s->elemsize() <= smallest_size ? of_smallest : sparse_part;
  const auto is_worthwhile = [=](const mspan& x) { return x.count_free() * part >= x.nelems(); };
  if (is_worthwhile(*s) || !heap_->has_plenty()) return s;
  for (; looks > 1; --looks) {
    list.insert_back(s);
    s = list.pop_front();
    if (is_worthwhile(*s)) return s;
  }
  list.insert_back(s);
  return nullptr;
}

mspan* mcache::make_current(unsigned i, mspan* s) {
  check_span(*s);
  if (!s->enter()) fatal_span(*s, "s.allocCount != s.nelems && freeIndex == s.nelems");
  return set_entered(i, s);
}

inline mspan* mcache::set_entered(unsigned i, mspan* s) {
  set_current(i, s);
  s->note_owner(this);
  note_births(s);
  if (const std::size_t pages = heap_->span_pages(); pages < looked_at_) {
    looked_at_ = pages;
  } else if (pages - looked_at_ >= emptied_growth + pages / 256) [[unlikely]] {
    give_emptied(growth_classes);
    looked_at_ = heap_->span_pages();
  }
  return s;
}

void mcache::note_all_births() {
  for (mspan*& current : current_) {
    // Acquire, with set_current: the record is as its owner made it before taking it up.
    mspan* const s = std::atomic_ref(current).load(std::memory_order_acquire);
    if (s != &no_span) central_->marks.note_births(*s);
  }
  mspan* const tiny = std::atomic_ref(tiny_span_).load(std::memory_order_acquire);
  if (tiny != nullptr) central_->marks.note_tiny_births(*tiny);
}

/// A span with free slots: from mcentral, from those that this cache keeps, or a new one.
mspan* mcache::next_span(unsigned span_class) {
  mcentral& central = (*central_)[span_class];
  while (central.may_have_swept() || heap_->unswept_pages() != 0) {
    mspan* const s = central.cache_span(this);
    if (s == nullptr) break;
    counters.refills.add(1);
    if (s->has_free() || !let_go_full(s)) return s;
  }
  idle_[index_of[span_class]].missed(idle_turn_);
  const unsigned size_class = host_span_size_class(span_class);
  const std::size_t npages = host_span_pages(size_class);
  mspan* s = take_kept(span_class, npages);
  if (s == nullptr) {
    central_->pay_for(npages);
    give_kept(npages);
    const auto alloc = [&](std::size_t n) {
      return heap_->alloc_span(n, span_class, span_status::of(this, span_class), stock_);
    };
    s = alloc(npages);
    // The heap is almost full or fragmented: a shorter run may do.
    if (const std::size_t few = class_to_pages(size_class); s == nullptr && few < npages)
      s = alloc(few);
    if (s == nullptr) return nullptr;
    s->set_phase(heap_->sweepgen(), sweep_phase::cached);
    counters.refills.add(1);
  }
  keepable_pages_ += s->npages();
  return s;
}

/// Keeps a span of this cache that has no objects and is in no list; false when enough are kept.
bool mcache::keep(mspan* s) {
  const std::size_t most = std::min(max_kept_pages, heap_->reserve_pages() / kept_part);
  if (s->npages() > keepable_pages_ || kept_pages_ + s->npages() > most) return false;
  if (s->last_owner() != this && kept_pages_ >= max_kept_of_others) return false;
  keepable_pages_ -= s->npages();
  kept_pages_ += s->npages();
  kept_[s->is_tiny() ? 0 : s->npages()].insert_front(s);
  return true;
}

/// A kept span for the class, with all slots free; nullptr when there is none.
mspan* mcache::take_kept(unsigned span_class, std::size_t npages) {
  mspan* s = kept_[span_class == tiny_span_class ? 0 : npages].pop_front();
  if (s == nullptr) return nullptr;
  kept_pages_ -= npages;
  if (s->status().is_pending()) collect(s);
  // The heap's page map already leads to this record, and the span stays this cache's.
  if (s->span_class() != span_class) {
    (*central_)[s->span_class()].forget(s);
    s->init(s->base(), npages, span_class);
  }
  s->needzero = true;
  return s;
}

void mcache::give_kept(std::size_t npages) {
  std::size_t given = 0;
  // The longest first: they are more likely to contain the run.
  for (std::size_t n = kept_.size(); n-- > 0 && given < npages && kept_pages_ > min_kept_pages;) {
    while (given < npages && kept_pages_ > min_kept_pages && !kept_[n].empty()) {
      mspan* const s = kept_[n].last();
      kept_[n].remove(s);
      kept_pages_ -= s->npages();
      given += s->npages();
      release(s);
    }
  }
  while (given < npages && !large_.empty()) given += give_last_large();
  if (given >= npages) return;
  give_emptied(idle_classes);
  give_idle();
}

/// Gives back spans that others have emptied, as far as their pending marks tell: nobody else
/// collects what was freed there since this thread last looked. Some classes each time, in turn.
void mcache::give_emptied(unsigned classes) {
  for (unsigned k = 0; k < classes; ++k) {
    next_emptied_ = next_emptied_ + 1 < others_.size() ? next_emptied_ + 1 : 0;
    span_list& list = others_[next_emptied_];
    mspan* next = list.first();
    for (unsigned looked = 0; next != nullptr && looked < emptied_looks; ++looked) {
      mspan* const s = next;
      next = span_list::next(s);
      if (!s->status().is_pending()) continue;
      collect(s);
      if (!s->has_all_free()) continue;
      list.remove(s);
      release_unkept(s);
    }
  }
}

/// Gives back current spans without objects: this thread may allocate other sizes by now. Some
/// classes each time, in turn.
void mcache::give_idle() {
  ++idle_turn_;
  for (unsigned k = 0; k < idle_classes; ++k) {
    next_idle_ = next_idle_ + 1 < current_.size() ? next_idle_ + 1 : 0;
    mspan* const s = current_[next_idle_];
    if (s == &no_span || s->is_tiny() || !idle_[next_idle_].may_go()) continue;
    if (s->status().is_pending()) collect(s);
    if (!s->has_all_free()) continue;
    idle_[next_idle_].gone(idle_turn_);
    set_current(next_idle_, &no_span);
    s->leave();
    release_unkept(s);
  }
}

/// Releases a span that could have been kept: the cache may keep that many pages less of others.
void mcache::release_unkept(mspan* s) {
  keepable_pages_ -= std::min(keepable_pages_, s->npages());
  release(s);
}

/// s has no free slot, as far as is known, and is in no list: makes it nobody's, unless others have
/// freed slots in it meanwhile. False: it has free slots and stays this cache's.
bool mcache::let_go_full(mspan* s) {
  if (s == tiny_span_) {
    close_tiny();
    if (s->has_free()) return false;
  }
  s->leave();
  (*central_)[s->span_class()].add_full(s);
  s->set_phase(heap_->sweepgen(), sweep_phase::swept);
  const span_status full = span_status::in(span_place::full, s->span_class());
  for (;;) {
    span_status seen = span_status::of(this, s->span_class());
    if (s->exchange_status(seen, full)) return true;
    collect(s);
    if (s->has_free()) {
      s->set_phase(heap_->sweepgen(), sweep_phase::cached);
      return false;
    }
  }
}

bool mcache::adopt(mspan* s, span_status seen) {
  // The class comes from the status: the record may be read only after the exchange.
  if (!s->exchange_status(seen, span_status::of(this, seen.span_class()))) return false;
  s->set_phase(heap_->sweepgen(), sweep_phase::cached);
  if (seen.is_pending()) collect(s);
  add_other(s);
  balance& whose = others_objects_[seen.span_class()];
  if (s->last_owner() == this) {
    whose.own();
  } else {
    if (!seen.is_pending()) whose.others();
    give_for(s);
  }
  return true;
}

/// After this cache adopted another thread's span: gives the span that would be current next to
/// mcentral, if as much of it is free, for a thread that has none left.
///
/// Without that, the thread that has more free slots gets more and more of them. Its spans last
/// longer, so fewer of them run full, and only a full span can be adopted by another thread; the
/// thread with few free slots lets go of spans again and again, and makes a new one when it has
/// lost one too many. A quarter: giving away spans with fewer free slots makes refills more
/// frequent, and keeping spans with more takes memory.
void mcache::give_for(const mspan* s) {
  span_list& list = others(s->span_class());
  mspan* const next = list.first();
  if (next == s || next->count_free() * given_free_part < next->nelems()) return;
  list.remove(next);
  hand_over(next);
}

void mcache::take_left(mspan* s, unsigned nelems, remote_free done) {
  for (;;) {
    const span_status seen = s->status();
    // Another thread has the span and its mark now, or the record is another span's.
    if (seen.place() != span_place::full || !seen.is_pending()) return;
    if (done == remote_free::left_full) others_objects_[seen.span_class()].others();
    done = remote_free::done;
    if (!takes_at_once(s, seen) && s->count_remote(nelems) * left_part < nelems)
      return (*central_)[seen.span_class()].note_left();
    if (adopt(s, seen)) break;
  }
  if (s->has_free()) return note_free(s);
  others(s->span_class()).remove(s);
  if (!let_go_full(s)) add_other(s);
}

void mcache::add_other(mspan* s) {
  span_list& list = others(s->span_class());
  // At the back: by the time the span's turn comes, more of it will have been freed. At the front
  // if pop_worthwhile passes over it until enough of it is free.
  const bool at_front = may_wait(*s);
  at_front ? list.insert_front(s) : list.insert_back(s);
  if (list.size() * s->npages() <= most_other_pages_) return;
  mspan* const oldest = at_front ? list.last() : list.first();
  list.remove(oldest);
  hand_over(oldest);
}

/// Gives mcentral a span of this cache that is in no list.
void mcache::hand_over(mspan* s) {
  s->leave();
  if (s->status().is_pending()) collect(s);
  (*central_)[s->span_class()].uncache_span(s);
}

bool mcache::free_own_slot(mspan* s, unsigned i) {
  if (!s->free_own_slot(i)) return false;
  counters.frees[s->size_class()].increment();
  if (s != current(s->span_class())) note_free(s);
  return true;
}

/// After a free in a span of this cache that is not current: if nothing lives in it, keeps it as it
/// is or gives its pages back.
void mcache::note_free(mspan* s) {
  if (!s->may_be_empty(s->nelems())) return;
  if (!s->has_all_free()) {
    // A tiny block's `remote` bit may be set for long; a mark tells that there is work.
    if (s->is_tiny() && !s->status().is_pending()) return;
    collect(s);
    if (!s->has_all_free()) return;
  }
  others(s->span_class()).remove(s);
  if (!keep(s)) release(s);
}

/// Gives the pages of a span of this cache, without objects and in no list, back to the heap.
void mcache::release(mspan* s) {
  span_status seen = span_status::of(this, s->span_class());
  while (!s->exchange_status(seen, span_status::in(span_place::none, s->span_class()))) {
    collect(s);
    seen = span_status::of(this, s->span_class());
  }
  central_->free_span(s);
}

void mcache::collect(mspan* s) { counters.tiny_blocks_freed.add(central_->collect(s)); }

// --- tiny objects

void* mcache::alloc_tiny_block(unsigned n) {
  const slot_ref fresh = take_slot(tiny_span_class);
  if (fresh.span == nullptr) return nullptr;
  const bool had_open = tiny_span_ != nullptr && tiny_.offset() < tiny_size;
  const bool keep = tiny_.keep_new(n);
  const unsigned i =
      fresh.span->slot_of(static_cast<std::size_t>(fresh.address - fresh.span->first()));
  auto& mask = fresh.span->tiny_masks.load(std::memory_order_relaxed)->mask[i];
  // Relaxed: no other thread knows of the block yet.
  mask.store(tiny_mask::live(0) | tiny_mask::started(0) | (keep ? tiny_mask::frontier(n) : 0),
             std::memory_order_relaxed);
  if (keep) {
    const tiny_rule rule = tiny_;
    if (had_open) close_tiny();
    tiny_ = rule;
    tiny_block_ = fresh.address;
    tiny_mask_ = &mask;
    set_tiny_span(fresh.span);
    if (central_->marks.is_on()) [[unlikely]]
      central_->marks.note_tiny_births(*fresh.span);
  }
  counters.tiny_mallocs.increment();
  counters.tiny_blocks_taken.increment();
  return fresh.address;
}

/// Removes the frontier, which pinned the open block; frees the block if no object is left.
void mcache::close_tiny() {
  mspan* s = tiny_span_;
  set_tiny_span(nullptr);
  tiny_.forget();
  const std::uint32_t old = tiny_mask_->load(std::memory_order_relaxed);
  const std::uint32_t closed = old & ~tiny_mask::frontier_of(old);
  tiny_mask_->store(closed, std::memory_order_relaxed);
  // A full block has no frontier, and its slot was freed with its last object.
  if (tiny_mask::holds_nothing(closed) && !tiny_mask::holds_nothing(old)) {
    free_tiny_block(s, tiny_block_);
  }
}

void mcache::free_tiny_block(mspan* s, const void* p) {
  const unsigned block =
      s->slot_of(static_cast<std::size_t>(static_cast<const std::byte*>(p) - s->first()));
  counters.tiny_blocks_freed.increment();
  if (!s->free_own_slot(block)) fatal("tiny block with objects is free");
  if (s != current(tiny_span_class)) note_free(s);
}

/// At the beginning of a call while another thread forks: waits outside the call.
void mcache::wait_for_fork() {
  do {
    in_call_.store(false, std::memory_order_release);
    fork_gate::wait();
    in_call_.store(true, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  } while (fork_gate::is_closed());
}

// --- giving back

void mcache::flush() {
  if (tiny_span_ != nullptr) close_tiny();
  tiny_.forget();
  for (mspan*& s : current_) {
    if (s == &no_span) continue;
    mspan* const was = s;
    std::atomic_ref(s).store(&no_span, std::memory_order_release);
    hand_over(was);
  }
  for (span_list& list : others_) {
    while (mspan* s = list.pop_front()) hand_over(s);
  }
  for (span_list& list : kept_) {
    while (mspan* s = list.pop_front()) release(s);
  }
  while (mspan* s = large_.pop_front()) central_->free_span(s);
  large_pages_ = kept_pages_ = keepable_pages_ = 0;
  heap_->flush(stock_);
}

void mcache::retire() {
  tiny_.forget();
  tiny_span_ = nullptr;
  for (mspan*& s : current_) {
    if (s != &no_span) (*central_)[s->span_class()].add_stale(s);
    s = &no_span;
  }
  for (unsigned sc = 0; sc < host_span_classes; ++sc) {
    if (!others(sc).empty()) (*central_)[sc].add_stale(others(sc));
  }
  for (span_list& list : kept_) central_->add_stale(list);
  central_->add_stale(large_);
  large_pages_ = kept_pages_ = keepable_pages_ = 0;
  heap_->flush(stock_);
}

}  // namespace warpheap
