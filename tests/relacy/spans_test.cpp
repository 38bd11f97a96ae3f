// Spans of the host under a weak memory model: the product's own span, cache and mcentral
// (mspan.hpp is the protocol), with a few records in place of the heap's pages.
//
// What is checked: no object has two owners and all uses of its bytes are ordered; whoever owns a
// span comes after the owner before; no free is lost: when all objects are freed and all caches
// given up, every span has gone back to the heap; and a second free of an object is told.
#include <algorithm>
#include <span>
#include <utility>

#include "host/mcache.cpp"
#include "host/mcentral.cpp"
#include "host/span_check.cpp"
#include "host/sweep.cpp"
#include "relacy/scenario.hpp"

namespace warpheap {

void fatal(const char* what) {
  weak::fail(what);
  std::abort();
}

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

/// Objects of 8 KiB and more have spans of eight slots.
constexpr unsigned size_class = num_classes - 1;
constexpr unsigned span_class = size_class << 1 | 1;
constexpr std::size_t object_size = class_to_size(size_class);
constexpr unsigned slots = host_span_objects(size_class);
static_assert(slots == 8);

/// Objects of 8 bytes, two to a tiny block. Spans of their class and of others have one page.
constexpr std::size_t tiny_bytes = 8;
constexpr unsigned other_class = tiny_class << 1 | 1;
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
      auto* s = reinterpret_cast<std::byte*>(&parts_->heap.span(i));
      const std::size_t remote = mspan::max_words * sizeof(std::uint64_t);
      the_memory.silence(s + 8, remote - 8);
      the_memory.silence(s + remote + 8, remote - 8);
      the_memory.silence(s + sizeof(mspan) - remote + 8, remote - 8);
      the_memory.hand_over(&parts_->owners[i], 4);
    }
  }

  /// All is new. `prepare` is what is done by one thread before the others begin.
  std::function<void()> prepare = {};
  void begin_execution() {
    the_memory.begin_execution();  // forgets the one before
    the_memory.end_execution();
    build();
    bytes.begin_execution();
    told_ = 0;
    if (prepare) prepare();
    the_memory.begin_execution();
  }

  mcache& cache(unsigned i) { return parts_->caches[i]; }
  mcentral_set& central() { return parts_->central; }
  mheap& heap() { return parts_->heap; }
  unsigned told() const { return told_; }
  mspan* span_of(void* p) { return heap().span_of(p); }

  /// An object of the thread's cache, nullptr when there are no more spans.
  void* take(unsigned thread) {
    void* p = cache(thread).alloc(span_class);
    if (p == nullptr) return nullptr;
    own(span_of(p));
    bytes.take(offset_of(p), object_size);
    return p;
  }
  void give(unsigned thread, void* p) {
    if (p == nullptr) return;
    bytes.give(offset_of(p), object_size);
    if (!free(&cache(thread), p)) fail("a free was taken for a second one");
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
    if (!free(&cache(thread), p)) fail("a free was taken for a second one");
  }
  /// The same by a thread that has no cache.
  void give_without_cache(void* p) {
    bytes.give(offset_of(p), object_size);
    if (!free(nullptr, p)) fail("a free was taken for a second one");
  }
  /// The bytes of an object that will be freed more than once.
  void not_in_use(void* p) { bytes.give(offset_of(p), object_size); }
  /// One of several frees of it; those that are told are counted.
  void give_again(unsigned thread, void* p) {
    if (!free(&cache(thread), p)) ++told_;
  }

  /// As host_heap::free_object does it. False when p is free already.
  bool free(mcache* c, void* p) {
    mspan* s = span_of(p);
    const unsigned slot =
        s->slot_of(static_cast<std::size_t>(static_cast<std::byte*>(p) - s->base()));
    if (c != nullptr && s->is_own(c)) {
      own(s);
      if (c->free_own(s, p)) return true;
    }
    for (;;) {
      const span_status seen = s->status();
      if (seen.place() == span_place::full) {
        if (c != nullptr)
          c->adopt(s, seen);
        else
          central()[seen.span_class()].take_full(s);
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
    if (done == remote_free::left_full) {
      if (c != nullptr)
        c->take_left(s);
      else if (now.place() == span_place::full)
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
    const auto at = static_cast<unsigned>(static_cast<std::byte*>(p) - s->base());
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
  /// Whoever is to find what others have freed finds it: an owner by the mark, and nobody looks for
  /// a full span.
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
      if (!s.status().is_pending() || s.place() == span_place::full) fail("a free was not noticed");
    }
  }
  /// Nothing is live: all caches end, and all pages go back.
  void check_all_free() {
    for (mcache& c : parts_->caches) c.flush();
    if (central()[class_].set_sizes().partial != 0)
      fail("a span without objects is among those that have some");
    central().release_empty();
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
  struct parts {
    explicit parts(unsigned of_class)
        : heap(host_span_pages(host_span_size_class(of_class))), central(heap) {}
    mheap heap;
    mcentral_set central;
    mcache caches[3] = {{heap, central}, {heap, central}, {heap, central}};
    span_atomic<void*> passed{nullptr};
    std::uint32_t owners[mheap::most_spans] = {};
  };

  void build() {
    set_memory_used = 0;
    new (parts_) parts(class_);
  }
  static std::uint64_t offset_of(void* p) {
    return static_cast<std::uint64_t>(static_cast<std::byte*>(p) - mheap::base());
  }

  unsigned class_;
  parts* parts_;
  unsigned told_ = 0;
};

TEST(Spans, OthersFreeWhileTheOwnerAllocatesAndCollects) {
  for (const unsigned before : {6u, 8u}) {
    weak_spans w;
    void* p[8] = {};
    w.prepare = [&] {
      for (unsigned i = 0; i < before; ++i) p[i] = w.take(0);
    };
    const auto owner = [&] {
      void* mine[4];
      for (void*& q : mine) q = w.take(0);
      w.give(0, p[4]);
      for (void* q : mine) w.give(0, q);
    };
    explore(20'000, {w,
                     {owner, [&] { w.give(1, p[0]), w.give(1, p[1]); },
                      [&] { w.give(2, p[2]), w.give(2, p[3]); }},
                     [&] {
                       w.check_noticed();
                       w.finish({p + 5, p + std::max(before, 5u)});
                     }});
  }
}

TEST(Spans, TheOwnerDiesAndOthersTakeItsSpansOver) {
  for (const unsigned before : {7u, 8u}) {
    weak_spans w;
    void* p[8] = {};
    w.prepare = [&] {
      for (unsigned i = 0; i < before; ++i) p[i] = w.take(0);
    };
    const auto other = [&](unsigned thread, unsigned first) {
      return [&w, &p, thread, first] {
        w.give(thread, p[first]);
        void* q = w.take(thread);
        w.give(thread, p[first + 1]);
        w.give(thread, q);
      };
    };
    const auto owner = [&] {
      w.give(0, p[0]);
      w.cache(0).flush();
    };
    explore(20'000, {w, {owner, other(1, 1), other(2, 3)}, [&] {
                       w.check_noticed();
                       w.finish({p + 5, p + std::max(before, 5u)});
                     }});
  }
}

TEST(Spans, TheLastObjectGoesWhileTheOwnerGivesTheSpanBack) {
  for (const bool with_cache : {true, false}) {
    weak_spans w;
    void* p[2] = {};
    w.prepare = [&] {
      for (void*& q : p) q = w.take(0);
    };
    const auto last = [&](unsigned thread) {
      return [&w, &p, thread, with_cache] {
        if (with_cache)
          w.give(thread, p[thread - 1]);
        else
          w.give_without_cache(p[thread - 1]);
      };
    };
    explore(20'000, {w, {[&] { w.cache(0).flush(); }, last(1), last(2)}, [&] {
                       w.check_noticed();
                       if (w.central()[span_class].set_sizes().partial != 0)
                         fail("a span without objects is among those that have some");
                       w.check_all_free();
                     }});
  }
}

TEST(Spans, AFullSpanIsLetGoWhileOthersFreeInIt) {
  for (const bool with_cache : {true, false}) {
    weak_spans w;
    void *p[slots] = {}, *q[2] = {};
    w.prepare = [&] {
      for (void*& object : p) object = w.take(0);
    };
    const auto other = [&](unsigned thread) {
      return [&w, &p, thread, with_cache] {
        if (with_cache)
          w.give(thread, p[thread]);
        else
          w.give_without_cache(p[thread]);
      };
    };
    const auto owner = [&] {
      w.own(w.span_of(p[0]));
      // Of slots that came back, or else of another span.
      for (void*& object : q) object = w.take(0);
    };
    explore(20'000, {w, {owner, other(1), other(2)}, [&] {
                       w.check_noticed();
                       for (void* object : q) w.give(0, object);
                       w.give(0, p[0]);
                       w.finish({p + 3, p + slots});
                     }});
  }
}

TEST(Spans, TwoFreesAtOnceOfOneObjectAreToldOnce) {
  for (const unsigned second : {0u, 2u}) {
    weak_spans w;
    void *twice = nullptr, *other = nullptr;
    w.prepare = [&] {
      twice = w.take(0);
      other = w.take(0);
      w.not_in_use(twice);
    };
    explore(20'000, {w,
                     {[&] {
                        if (second == 0) w.give_again(0, twice);
                        w.cache(0).collect(w.span_of(other));
                        w.span_of(other)->advance();
                      },
                      [&] { w.give_again(1, twice); },
                      [&] {
                        if (second == 2) w.give_again(2, twice);
                      }},
                     [&] {
                       w.finish({&other, 1});
                       if (w.all_told() != 1) fail("of two frees, one has to be told");
                     }});
  }
}

TEST(Spans, AFreeThatComesLaterIsToldAtOnce) {
  // The object is freed, by the owner or another; a third thread hears of it, and frees it too. The
  // owner moves free bits from set to set meanwhile.
  for (const bool by_owner : {true, false}) {
    weak_spans w;
    void *twice = nullptr, *other = nullptr;
    w.prepare = [&] {
      twice = w.take(0);
      other = w.take(0);
      w.not_in_use(twice);
    };
    const auto first = [&](unsigned thread) {
      w.give_again(thread, twice);
      w.pass(twice);
    };
    explore(20'000, {w,
                     {[&] {
                        if (by_owner) first(0);
                        for (unsigned i = 0; i < 3; ++i) {
                          w.cache(0).collect(w.span_of(other));
                          w.span_of(other)->advance();
                        }
                      },
                      [&] {
                        if (!by_owner) first(1);
                      },
                      [&] {
                        void* p = w.receive();
                        if (p == nullptr) return;
                        w.give_again(2, p);
                        if (w.told() != 1) fail("a second free was not told at once");
                      }},
                     [&] {
                       w.finish({&other, 1});
                     }});
  }
}

TEST(Spans, TheLastTinyObjectsOfASpanGoAtOnce) {
  // Whose free was the last gives the span back; its record is then one of another class.
  for (const bool by_owner : {true, false}) {
    weak_spans w(tiny_span_class);
    void* p[2] = {};
    void* q = nullptr;
    w.prepare = [&] {
      for (void*& object : p) object = w.take_tiny(0);
      if (!by_owner) w.cache(0).flush();
      q = nullptr;
    };
    const auto first = [&] {
      w.give_tiny(0, p[0]);
      if (by_owner) w.cache(0).flush();
      w.central()[tiny_span_class].release_empty();
      q = w.take_other(0);
    };
    const auto at_end = [&] {
      w.check_noticed();
      w.cache(0).collect(w.span_of(q));
      w.give_other(0, q);
      w.check_all_free();
    };
    const auto second = [&] { w.give_tiny(1, p[1]); };
    for (const unsigned pause_within : {0u, 16u})
      explore(2'000, {w, {first, second}, at_end, {}, pause_within});
  }
}

TEST(Spans, TheLastTinyObjectsGoWhileTheOwnerGivesTheSpanBack) {
  weak_spans w(tiny_span_class);
  void* p[2] = {};
  w.prepare = [&] {
    for (void*& object : p) object = w.take_tiny(0);
  };
  const auto last = [&](unsigned thread) {
    return [&w, &p, thread] { w.give_tiny(thread, p[thread - 1]); };
  };
  explore(20'000, {w, {[&] { w.cache(0).flush(); }, last(1), last(2)}, [&] {
                     w.check_noticed();
                     w.check_all_free();
                   }});
}

TEST(Spans, OthersFreeTinyObjectsOfABlockWhileTheOwnerCollects) {
  for (const bool owner_frees : {true, false}) {
    weak_spans w(tiny_span_class);
    void* p[3] = {};
    w.prepare = [&] {
      for (void*& object : p) object = w.take_tiny(0);
    };
    const auto owner = [&] {
      w.cache(0).collect(w.span_of(p[0]));
      if (owner_frees) w.give_tiny(0, p[2]);
      w.cache(0).collect(w.span_of(p[0]));
    };
    const auto at_end = [&] {
      w.check_noticed();
      if (!owner_frees) w.give_tiny(0, p[2]);
      w.check_all_free();
    };
    const auto other = [&](unsigned thread) {
      return [&w, &p, thread] { w.give_tiny(thread, p[thread - 1]); };
    };
    for (const unsigned pause_within : {0u, 16u})
      explore(10'000, {w, {owner, other(1), other(2)}, at_end, {}, pause_within});
  }
}

}  // namespace
}  // namespace weak
}  // namespace warpheap
