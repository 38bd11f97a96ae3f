// A heap without pages for the check of spans: the product's own span, cache and mcentral
// (mspan.hpp is the protocol), with a few records in place of the heap's pages. For one source of a
// program: it brings theirs along.
#pragma once

#include <functional>
#include <span>

// Fewer to go through in each execution.
#define WARPHEAP_LEAST_SPAN_SLOTS 8

#include "host/mark_phase.cpp"
#include "host/mcache.cpp"
#include "host/mcache_large.cpp"
#include "host/mcentral.cpp"
#include "host/span_check.cpp"
#include "host/sweep.cpp"
#include "relacy/scenario.hpp"

namespace warpheap {

void fatal(const char* what) {
  weak::fail(what);
  std::abort();
}

void barrier_for_all() { weak::the_memory.fence_in_all(); }

void fork_gate::rest(unsigned) { weak::yield(); }
constinit thread_local last_cache last_used;

namespace weak {
namespace {

// What mcentral's sets are made of: no memory of the model's, and new for each execution.
alignas(4096) std::byte set_memory[std::size_t{64} << 10];
std::size_t set_memory_used = 0;

}  // namespace
}  // namespace weak

void* sys_pool::alloc(std::size_t bytes) noexcept {
  std::size_t& used = weak::set_memory_used;
  const std::size_t rounded = std::bit_ceil(bytes < smallest ? smallest : bytes);
  used = (used + rounded - 1) / rounded * rounded;
  if (used + rounded > sizeof weak::set_memory) return nullptr;
  void* p = weak::set_memory + used;
  used += rounded;
  return p;
}
void sys_pool::free(void*, std::size_t) noexcept {}

namespace weak {
namespace {

/// Spans of eight slots, of which four become ready at a time.
constexpr unsigned size_class = size_to_class(page_size / 2);
constexpr unsigned span_class = size_class << 1 | 1;
constexpr std::size_t object_size = class_to_size(size_class);
constexpr unsigned slots = host_span_objects(size_class);
static_assert(slots == 8);

/// Objects of 8 bytes, two to a tiny block. Spans of their class and of others have one page.
constexpr std::size_t tiny_bytes = 8;
constexpr unsigned other_class = tiny_class << 1 | 1;
constexpr unsigned other_slots = host_span_objects(tiny_class);
static_assert(host_span_pages(tiny_class) == 1);

/// A heap without pages: its caches are the threads'.
class weak_spans {
 public:
  explicit weak_spans(unsigned of_class = span_class)
      : bytes(of_class == span_class ? object_size : tiny_bytes), class_(of_class) {
    parts_ = reinterpret_cast<parts*>(the_memory.map(sizeof(parts)));
    the_memory.name(parts_, 4, "word");
    build();
    // A span of eight slots uses the first of sixteen words.
    for (unsigned i = 0; i < mheap::most_spans; ++i) {
      mspan& span = parts_->heap.span(i);
      auto* s = reinterpret_cast<std::byte*>(&span);
      const auto ready =
          static_cast<std::size_t>(static_cast<const std::byte*>(span.ready_words()) - s);
      const std::size_t words = mspan::max_words * sizeof(std::uint64_t);
      the_memory.silence(s + 8, words - 8);                          // free
      the_memory.silence(s + ready + 8, words - 8);                  // ready
      the_memory.silence(s + sizeof(mspan) - words + 8, words - 8);  // remote
      the_memory.hand_over(&parts_->owners[i], 4);
    }
    // Where nobody forks, nobody asks who is in a slow path: a cache's last word.
    for (mcache& c : parts_->caches) the_memory.silence(last_line(c), 64);
  }

  /// For a scenario in which two words of a span matter.
  void model_second_words() {
    for (unsigned i = 0; i < mheap::most_spans; ++i) {
      auto* const end = reinterpret_cast<std::byte*>(&heap().span(i)) + sizeof(mspan);
      the_memory.hear(end - (mspan::max_words - 1) * sizeof(std::uint64_t), 8);  // remote
    }
  }
  /// For a scenario with forks. The bytes that stand for all that a slow path of a thread changes.
  void model_calls() {
    for (mcache& c : parts_->caches) the_memory.hear(last_line(c), 64);
    the_memory.add(&detail::fork_gate_closed_by, sizeof detail::fork_gate_closed_by);
    the_memory.name(&detail::fork_gate_closed_by, 8, "gate");
  }
  void change_lists(unsigned thread) {
    if (the_memory.running() && !lists_[thread].store(*rl::ctx().threadx_))
      fail("slow paths of one thread are not ordered");
  }
  /// By the child, which has a copy: later changes need not be ordered after this.
  void look_at_lists(unsigned thread) const {
    auto copy = lists_[thread];
    if (!copy.load(*rl::ctx().threadx_)) fail("the child finds lists half changed");
  }

  /// All is new. `prepare` is what is done by one thread before the others begin.
  std::function<void()> prepare = {};
  void begin_execution() {
    the_memory.begin_execution();  // forgets the one before
    the_memory.end_execution();
    build();
    bytes.begin_execution();
    told_ = 0;
    for (auto& data : lists_) data = {};
    if (prepare) prepare();
    the_memory.begin_execution();
  }

  mcache& cache(unsigned i) { return parts_->caches[i]; }
  /// What thread i has in `last_used`: at first its cache.
  last_cache& last(unsigned i) { return parts_->last[i]; }
  mcentral_set& central() { return parts_->central; }
  mheap& heap() { return parts_->heap; }
  unsigned told() const { return told_; }
  mspan* span_of(void* p) { return heap().span_of(p); }

  /// An object of the thread's cache, nullptr when there are no more spans.
  void* take(unsigned thread) {
    // As host_heap::malloc_slow does it.
    void* p = cache(thread).take(size_class, contents::no_pointers);
    if (p == nullptr) p = cache(thread).take_next(size_class, contents::no_pointers);
    if (p == nullptr) p = cache(thread).take_more(size_class, contents::no_pointers);
    if (p == nullptr) p = cache(thread).alloc(span_class);
    if (p == nullptr) return nullptr;
    own(span_of(p));
    bytes.take(offset_of(p), object_size);
    return p;
  }
  void give(unsigned thread, void* p) {
    if (p != nullptr) give_by(thread, &cache(thread), p);
  }
  /// By a thread whose cache in this heap is c; nullptr: it has none.
  void give_by(unsigned thread, mcache* c, void* p) {
    bytes.give(offset_of(p), object_size);
    if (!free(thread, c, p)) fail("a free was taken for a second one");
  }
  /// An object of 8 bytes.
  void* take_tiny(unsigned thread) {
    void* p = cache(thread).alloc_tiny(tiny_bytes);
    own(span_of(p));
    bytes.take(offset_of(p), tiny_bytes);
    return p;
  }
  void give_tiny(unsigned thread, void* p) {
    bytes.give(offset_of(p), tiny_bytes);
    if (!free_tiny(&cache(thread), p)) fail("a free was taken for a second one");
  }
  /// A slot of a class without masks, in a span of as many pages.
  void* take_other(unsigned thread) {
    void* p = cache(thread).alloc(other_class);
    own(span_of(p));
    bytes.take(offset_of(p), tiny_size);
    return p;
  }
  void give_other(unsigned thread, void* p) {
    bytes.give(offset_of(p), tiny_size);
    if (!free(thread, &cache(thread), p)) fail("a free was taken for a second one");
  }
  void give_without_cache(void* p) { give_by(no_thread, nullptr, p); }
  /// Frees again what another thread has freed and passed on, and has to be told at once.
  void give_again_what_was_passed(unsigned thread) {
    void* p = receive();
    if (p == nullptr) return;
    give_again(thread, p);
    if (told() != 1) fail("a second free was not told at once");
  }
  /// The bytes of an object that will be freed more than once.
  void not_in_use(void* p) { bytes.give(offset_of(p), object_size); }
  /// One of several frees of it; those that are told are counted.
  void give_again(unsigned thread, void* p) {
    if (!free(thread, &cache(thread), p)) ++told_;
  }

  /// As host_heap::free_fast and free_by do it. False when p is free already.
  bool free(unsigned thread, mcache* c, void* p) {
    mspan* s = span_of(p);
    const std::uintptr_t status = s->seen_status();
    if (last(thread).is(status)) {
      own(s);
      if (reinterpret_cast<mcache*>(status)->free_own(s, p)) return true;
    }
    const unsigned slot = slot_of(p);
    for (;;) {
      const span_status seen = s->status();
      if (seen.place() == span_place::full && (c == nullptr || c->takes_at_once(s, seen))) {
        if (c == nullptr) {
          central()[seen.span_class()].take_full(s);
        } else if (c->adopt(s, seen)) {
          own(s);
          if (c->free_own(s, p)) return true;
        }
        continue;
      }
      const bool mine = c != nullptr && seen.is_owned_by(c);
      if (mine) own(s);
      if (mine && seen.is_pending()) c->collect(s);
      if (mine) return c->free_own_slot(s, slot);
      const unsigned nelems = s->nelems();
      const remote_free done = s->free_remote(slot);
      if (done == remote_free::was_free) return false;
      after_remote_free(s, nelems, done, c);
      return true;
    }
  }
  void after_remote_free(mspan* s, unsigned nelems, remote_free done, mcache* c) {
    const span_status now = s->status();
    if (now.place() == span_place::full) {
      if (c != nullptr)
        c->take_left(s, nelems, done);
      else if (now.is_pending())
        central()[now.span_class()].take_full(s);
    } else if (now.place() == span_place::partial && s->may_be_empty(nelems)) {
      central()[now.span_class()].became_empty(s);
    }
  }
  /// As host_heap::free_tiny_object does it, in a span that is never full.
  bool free_tiny(mcache* c, void* p) {
    mspan* s = span_of(p);
    const bool own_span = s->status().is_owned_by(c);
    if (own_span) own(s);
    if (own_span && s->status().is_pending()) c->collect(s);
    auto* masks = s->tiny_masks.load(std::memory_order_relaxed);
    const auto at = static_cast<unsigned>(static_cast<std::byte*>(p) - s->first());
    const unsigned block = at / tiny_size, offset = at % tiny_size;
    const std::uint32_t freed = masks->freed[block].load(std::memory_order_acquire);
    const std::uint32_t mask = masks->mask[block].load(std::memory_order_relaxed);
    if ((freed & tiny_mask::live(offset)) != 0 || !tiny_mask::is_live(mask, offset)) return false;
    if (own_span) return c->free_own_tiny(s, p);
    const unsigned nelems = s->nelems();
    const remote_free done = s->free_remote_tiny(*masks, block, offset);
    if (done == remote_free::was_free) return false;
    after_remote_free(s, nelems, done, c);
    return true;
  }
  /// A write as the span's owner does many, to words that are not atomic.
  void own(mspan* s) {
    the_memory.store(&parts_->owners[heap().index_of(s)], 4, 0, rl::mo_relaxed, {});
  }

  /// Hands an object to another thread, which may find none.
  void pass(void* p) {
    if (parts_->passed.exchange(p, std::memory_order_acq_rel) != nullptr) fail("passed twice");
  }
  void* receive() { return parts_->passed.exchange(nullptr, std::memory_order_acq_rel); }

  /// Second frees that were told so far, at once or late.
  unsigned all_told() {
    return told_ + static_cast<unsigned>(central().late_double_frees()[size_class]);
  }
  /// Before the first mark, as host_heap::begin_marks does it.
  void begin_marks() {
    central().marks.begin(heap().sweepgen() + 2, [&] {
      for (mcache& c : parts_->caches) c.note_all_births();
    });
  }
  /// After it, as host_heap::set_mark does it.
  void mark(void* p) {
    mspan* s = span_of(p);
    span_marks* m = central().marks.of(*s, s->base(), s->span_class(), [] { return true; });
    (void)m->set(slot_of(p));
  }
  bool is_marked(void* p) {
    const span_marks* m = marks_of(*span_of(p));
    return m != nullptr && m->get(slot_of(p));
  }
  /// As take, of an object that has to be noted if marks have begun before.
  void* take_born(unsigned thread) {
    const bool begun = central().marks.has_begun();
    void* p = take(thread);
    if (begun && p != nullptr && !is_born(*span_of(p), slot_of(p)))
      fail("an object that was made after the first mark is not noted");
    return p;
  }
  /// No later one goes by unnoticed: slots that their owners take without another look are noted.
  void check_births() {
    for (unsigned i = 0; i < mheap::most_spans; ++i) {
      const mspan& s = heap().span(i);
      for (unsigned slot = 0; slot < slots; ++slot)
        if ((s.sets(0).ready >> slot & 1) != 0 && !is_born(s, slot))
          fail("a slot that is ready is not noted");
    }
  }
  /// Whoever is to find what others have freed finds it, by the mark; and nobody has left a full
  /// span in which others have freed a quarter.
  void check_noticed() {
    for (unsigned i = 0; i < mheap::most_spans; ++i) {
      const mspan& s = heap().span(i);
      if (s.state() == span_state::dead) continue;
      // In a tiny span, the bit of a block may stay as long as objects of it live.
      const auto* masks = s.tiny_masks.load(std::memory_order_relaxed);
      if (masks == nullptr ? s.remote_set(0) == 0
                           : masks->freed[0].load(std::memory_order_relaxed) == 0) {
        continue;
      }
      if (!s.status().is_pending()) fail("a free was not noticed");
      if (s.place() == span_place::full
          && (masks != nullptr || s.count_remote(s.nelems()) * 4 >= s.nelems()))
        fail("a full span was left to nobody");
    }
  }
  /// Nothing is live: all caches end, and all pages go back.
  void check_all_free() {
    for (mcache& c : parts_->caches) c.flush();
    if (central()[class_].set_sizes().partial != 0)
      fail("a span without objects is among those that have some");
    for (const unsigned sc : {class_, other_class}) central()[sc].release_empty();
    if (heap().spans() != 0) fail("a free was lost: a span did not go back");
  }
  /// Frees what is left; then each slot can be had once, and all pages go back.
  void finish(std::span<void* const> left) {
    for (void* q : left) give(0, q);
    check_each_slot_once();
    check_all_free();
  }
  /// Takes all slots of the spans there may be: each once.
  void check_each_slot_once() {
    void* all[mheap::most_spans * slots + 1];
    unsigned n = 0;
    while ((all[n] = take(0)) != nullptr) ++n;
    while (n > 0) give(0, all[--n]);
  }

  user_bytes bytes;

 private:
  static constexpr unsigned no_thread = 3;
  struct parts {
    explicit parts(unsigned of_class)
        : heap(host_span_pages(host_span_size_class(of_class))), central(heap) {}
    mheap heap;
    mcentral_set central;
    mcache caches[3] = {{heap, central}, {heap, central}, {heap, central}};
    last_cache last[no_thread + 1];
    span_atomic<void*> passed{nullptr};
    std::uint32_t owners[mheap::most_spans] = {};
  };

  void build() {
    set_memory_used = 0;
    new (parts_) parts(class_);
    for (unsigned i = 0; i < no_thread; ++i) last(i).set(&cache(i));
  }
  /// Those that the next sweep finds.
  const span_marks* marks_of(const mspan& s) const {
    const span_marks* m = s.marks();
    const bool found =
        m != nullptr && m->is_of(s.base(), s.span_class(), parts_->heap.sweepgen() + 2);
    return found ? m : nullptr;
  }
  bool is_born(const mspan& s, unsigned slot) const {
    const span_marks* m = marks_of(s);
    return m != nullptr && m->is_born(slot);
  }
  unsigned slot_of(void* p) {
    mspan* s = span_of(p);
    return s->slot_of(static_cast<std::size_t>(static_cast<std::byte*>(p) - s->first()));
  }
  static std::uint64_t offset_of(void* p) {
    return static_cast<std::uint64_t>(static_cast<std::byte*>(p) - mheap::base());
  }

  static std::byte* last_line(mcache& c) {
    return reinterpret_cast<std::byte*>(&c) + sizeof(mcache) - 64;
  }

  unsigned class_;
  parts* parts_;
  unsigned told_ = 0;
  rl::var_data_impl<max_threads> lists_[no_thread] = {};
};

}  // namespace
}  // namespace weak
}  // namespace warpheap
