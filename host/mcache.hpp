#pragma once

// One thread's spans: allocation and freeing without a lock. (Go: mcache.)

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <warpheap/size_classes.hpp>

#include "host/alloc_counters.hpp"
#include "host/fork_gate.hpp"
#include "host/last_cache.hpp"
#include "host/mcentral.hpp"
#include "host/mheap.hpp"
#include "host/mspan.hpp"
#include "host/span_list.hpp"
#include "host/span_sync.hpp"
#include "host/stack_pool.hpp"
#include "host/tiny_mask.hpp"

namespace warpheap {

/// Belongs to one thread; any thread may read its counters.
///
/// For each span class a cache has a current span, from which it takes slots, and other spans with
/// free slots. A span that runs full loses its owner. The last owner adopts it again with its own
/// next free there (adopt). Another thread adopts it once threads other than the last owner have
/// freed a quarter of it, or at its first free there if most of the full spans in which it frees
/// are other threads' (balance); in exchange it gives up a span that is a quarter free (give_for).
/// So nearly all frees are in the thread's own spans, or in a span from which another thread is
/// taking slots.
class alignas(64) mcache {
 public:
  mcache(mheap& heap, mcentral_set& central);

  // --- small objects ----------------------------------------------------------------------------

  /// A slot of a small-object class from the current span; null when the current word of that span
  /// has none.
  void* take(unsigned size_class, contents kind) {
    void* p = current_of(size_class, kind)->take();
    if (p == nullptr) [[unlikely]]
      return nullptr;
    counters.mallocs[size_class].increment();
    return p;
  }
  /// The same for an object of n bytes, which are zero.
  void* take_zeroed(unsigned size_class, std::size_t n, contents kind) {
    mspan* const s = current_of(size_class, kind);
    void* p = s->take();
    if (p == nullptr) [[unlikely]]
      return nullptr;
    counters.mallocs[size_class].increment();
    // Memory that was never used is not touched here.
    if (s->takes_fresh()) return p;
    counters.cleared_bytes.add(n);
    return std::memset(p, 0, n);
  }
  /// Called after take has found none: takes a slot of the current word, or of a later one, that
  /// was freed since. nullptr when there is none or the case is not simple; take_more handles
  /// those. Calls no function, or it would have to save more registers first. (Few large slots are
  /// ready at a time, so a thread that frees one and takes it again comes here every time, or every
  /// second time. Pairs of 8 and 32 KiB took 10.5 and 13.8 ns without this function, and take 9.4
  /// and 10.9 with it.)
  void* take_next(unsigned size_class, contents kind) {
    const brief_call guard(*this);
    if (!guard) [[unlikely]]
      return nullptr;
    mspan* const s = current_of(size_class, kind);
    const std::uint64_t ready = s->advance_behind();
    // In a mark phase births are noted once the word is filled: the slots stay ready, and take_more
    // notes them.
    if (ready == 0 || central_->marks.is_on()) return nullptr;
    counters.mallocs[size_class].increment();
    return s->take_of(ready);
  }
  /// The same from any word of the span, or from another span. Null when there is no room.
  void* take_more(unsigned size_class, contents kind) {
    const call guard(*this);
    mspan* const s = refill(make_span_class(size_class, kind == contents::no_pointers));
    if (s == nullptr) [[unlikely]]
      return nullptr;
    counters.mallocs[size_class].increment();
    return s->take();
  }
  /// Size class for n bytes, 1 <= n <= fine_limit.
  unsigned fine_class(std::size_t n) const { return fine_class_[(n + 7) >> 3]; }

  /// A slot of a small-object class; nullptr when there is no room.
  void* alloc(unsigned span_class) { return take_slot(span_class).address; }
  /// The same; is_zero is set when the slot's memory was never used and so reads as zero.
  void* alloc(unsigned span_class, bool& is_zero) {
    const slot_ref slot = take_slot(span_class);
    is_zero = slot.span != nullptr && slot.span->takes_fresh();
    return slot.address;
  }
  /// n bytes without pointers, 1 <= n < tiny_size, in the open block; nullptr when it has no room.
  void* take_tiny(unsigned n) {
    const unsigned at = tiny_.place(n);
    if (at == tiny_rule::none) return nullptr;
    // Relaxed: while a block is open, its span is this cache's, and so are the span's masks.
    const std::uint32_t old = tiny_mask_->load(std::memory_order_relaxed);
    tiny_mask_->store(tiny_mask::with_object(old, at, n), std::memory_order_relaxed);
    counters.tiny_mallocs.increment();
    return tiny_block_ + at;
  }
  /// The same in a new block; nullptr when there is no room.
  void* alloc_tiny_block(unsigned n);
  void* alloc_tiny(unsigned n) {
    void* p = take_tiny(n);
    return p != nullptr ? p : alloc_tiny_block(n);
  }

  /// Frees the object at p in s, which is this cache's. False, with nothing done, when the case
  /// needs a closer look (free_own_slot).
  bool free_own(mspan* s, const void* p) {
    if (!s->free_own(p)) [[unlikely]]
      return false;
    counters.frees[s->size_class()].increment();
    return true;
  }
  /// Frees slot i of a span of this cache, with that closer look; false if it is already free.
  bool free_own_slot(mspan* s, unsigned i);
  enum class tiny_free : std::uint8_t { refused, done, emptied };
  /// free_own for a span of tiny blocks. emptied: the caller has to call free_tiny_block next.
  tiny_free drop_own_tiny(mspan* s, const void* p) {
    const auto at = static_cast<std::size_t>(static_cast<const std::byte*>(p) - s->first());
    auto& mask = s->tiny_masks.load(std::memory_order_relaxed)->mask[at / tiny_size];
    const std::uint32_t old = mask.load(std::memory_order_relaxed);
    if (!tiny_mask::is_live(old, at % tiny_size)) [[unlikely]]
      return tiny_free::refused;
    const std::uint32_t rest = old & ~tiny_mask::live(at % tiny_size);
    mask.store(rest, std::memory_order_relaxed);
    counters.tiny_frees.increment();
    return tiny_mask::holds_nothing(rest) ? tiny_free::emptied : tiny_free::done;
  }
  /// Frees the block whose last object was the one at p.
  void free_tiny_block(mspan* s, const void* p);
  bool free_own_tiny(mspan* s, const void* p) {
    const tiny_free done = drop_own_tiny(s, p);
    if (done == tiny_free::emptied) free_tiny_block(s, p);
    return done != tiny_free::refused;
  }

  /// Whether this thread is to adopt a full span before it frees in it, instead of leaving it to
  /// the last owner.
  bool takes_at_once(const mspan* s, span_status seen) const {
    const void* const last = s->last_owner();
    return last == this || last == nullptr || others_objects_[seen.span_class()].are_most()
           || seen.span_class() == tiny_span_class;
  }
  /// Becomes the owner of a full span that has none, if its status is still `seen`.
  bool adopt(mspan* s, span_status seen);
  /// Takes over what other threads have freed in s, which is this cache's.
  void collect(mspan* s);
  /// After a free by this thread in a full span of nelems slots: adopts the span if this thread is
  /// to have it, unless another thread did.
  void take_left(mspan* s, unsigned nelems, remote_free done);

  // --- large objects ----------------------------------------------------------------------------

  /// A large object in a kept span; nullptr when none of them fits.
  void* take_kept_large(std::size_t n, contents kind);
  /// The same by pages, without the counts; only within a call.
  mspan* take_large(std::size_t npages, unsigned span_class);
  /// Counts a large object that this thread has taken, and notes its birth.
  void note_large(mspan& s);
  /// Keeps a large object's span, whose slot is free, or gives it back to the heap.
  void keep_large(mspan* s);
  /// Called before npages pages are taken from the heap: gives back as many kept pages, so that the
  /// heap does not grow while runs of other lengths lie idle here.
  void give_kept(std::size_t npages);

  // ----------------------------------------------------------------------------------------------

  /// Gives back all spans, the open tiny block, pages and span records.
  void flush();
  /// Called before all objects are freed in bulk: leaves the spans to the sweeper as they are, and
  /// gives back pages and span records. Touches at most one span per class. Afterwards the cache
  /// must not be used, nor its address reused before all spans are swept: their status words still
  /// hold it.
  void retire();

  /// Called by the thread that begins a mark phase, while this cache's thread goes on: notes as
  /// born all slots that this thread may hand out without checking for the phase.
  void note_all_births();

  /// Through which last_cache the cache is found, until forget_user. Guarded by the heap's lock on
  /// its list of caches.
  void set_user(last_cache* user) { user_ = user; }
  void forget_user() {
    if (user_ != nullptr) user_->forget(this);
    user_ = nullptr;
  }
  /// In the child of a fork, whose only thread has `mine`: the other threads' thread-local storage
  /// is gone.
  void keep_user(const last_cache* mine) {
    if (user_ != mine) user_ = nullptr;
  }

  page_stock& stock() { return stock_; }
  /// The cache's thread does not exist in this process, a child of a fork. All but the counters may
  /// be in whatever state the fork caught them in, and must not be looked at.
  bool lost = false;
  /// Whether its thread is in a slow path; asked around a fork.
  bool in_call() const {
    // Acquire, pairs with the release in end_call: the thread's lists are as it left them.
    return in_call_.load(std::memory_order_acquire);
  }
  alloc_counters counters;
  stack_cache stacks;  // flush leaves them: host_heap has to give them back

  /// While an object of this class lives, the thread is in a slow path. The constructor waits while
  /// another thread forks. It aborts if the thread is already in a slow path: a signal handler, or
  /// the page source, has called the heap. (Go: mp.mallocing.)
  class call {
   public:
    explicit call(mcache& c) : call(&c) {
      if (cache_ == nullptr) __builtin_unreachable();  // spares the destructor the test
    }
    /// Does nothing for null, which stands for a thread that has ended.
    explicit call(mcache* c) : cache_(c) {
      if (c == nullptr) return;
      if (c->is_in_call()) [[unlikely]]
        fatal("malloc deadlock: malloc during signal, or called by what malloc calls");
      c->begin_call();
      if (fork_gate::is_closed()) [[unlikely]]
        c->wait_for_fork();
    }
    ~call() {
      if (cache_ != nullptr) cache_->end_call();
    }
    call(const call&) = delete;
    call& operator=(const call&) = delete;

   private:
    mcache* cache_;
  };

  /// The same without calling any function: where `call` would wait or abort, it is false and has
  /// no effect.
  class brief_call {
   public:
    explicit brief_call(mcache& c) : cache_(c) {
      if (c.is_in_call()) [[unlikely]]
        return;
      c.begin_call();
      is_on_ = !fork_gate::is_closed();
      if (!is_on_) [[unlikely]]
        c.end_call();
    }
    ~brief_call() {
      if (is_on_) cache_.end_call();
    }
    brief_call(const brief_call&) = delete;
    brief_call& operator=(const brief_call&) = delete;
    explicit operator bool() const { return is_on_; }

   private:
    mcache& cache_;
    bool is_on_ = false;
  };

 private:
  // Relaxed: for the order against a forking thread, see fork_gate; within the thread itself,
  // compiler fences are enough.
  bool is_in_call() const { return in_call_.load(std::memory_order_relaxed); }
  void begin_call() {
    in_call_.store(true, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  void end_call() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    // Release, pairs with in_call: a thread that finds the call ended sees what it did.
    in_call_.store(false, std::memory_order_release);
  }

  struct slot_ref {
    mspan* span = nullptr;
    std::byte* address = nullptr;
  };

  // Spans are indexed by class, those without pointers first, so that for them the size class alone
  // is the index. The mapping is a table: one load.
  static constexpr auto index_of = [] {
    std::array<std::uint8_t, host_span_classes> index{};
    for (unsigned sc = 0; sc < index.size(); ++sc)
      index[sc] = static_cast<std::uint8_t>(
          sc == tiny_span_class ? sc : (sc & 1 ? 0 : num_classes) + (sc >> 1));
    return index;
  }();
  mspan*& current(unsigned span_class) { return current_[index_of[span_class]]; }
  mspan* current_of(unsigned size_class, contents kind) const {
    return current_[size_class + (kind == contents::pointers ? num_classes : 0)];
  }
  span_list& others(unsigned span_class) { return others_[index_of[span_class]]; }

  slot_ref take_slot(unsigned span_class) {
    mspan* s = current(span_class);
    std::byte* p = s->take();
    if (p == nullptr) [[unlikely]] {
      s = refill(span_class);
      if (s == nullptr) return {};
      p = s->take();
    }
    return {s, p};
  }
  /// Called after a word of a span of this cache was filled, before a slot of it is taken.
  void note_births(mspan* s) {
    if (central_->marks.is_on()) [[unlikely]]
      central_->marks.note_births(*s);
  }
  // Release: the thread that begins a mark phase reads these two (note_all_births) while this
  // thread goes on.
  void set_current(unsigned i, mspan* s) {
    std::atomic_ref(current_[i]).store(s, std::memory_order_release);
  }
  void set_tiny_span(mspan* s) { std::atomic_ref(tiny_span_).store(s, std::memory_order_release); }
  /// The current span, with slots ready, or another span made current; null when there is none.
  mspan* refill(unsigned span_class) {
    mspan* const s = current(span_class);
    if (s->advance() == 0) return change_current(span_class);
    note_births(s);
    return s;
  }
  [[gnu::noinline]] mspan* change_current(unsigned span_class);
  mspan* pop_worthwhile(span_list& list);
  [[gnu::noinline]] mspan* next_span(unsigned span_class);
  bool let_go_full(mspan* s);
  [[gnu::noinline]] mspan* make_current(unsigned i, mspan* s);
  mspan* set_entered(unsigned i, mspan* s);
  void note_free(mspan* s);
  bool keep(mspan* s);
  void release(mspan* s);
  [[gnu::cold]] void wait_for_fork();
  inline mspan* take_from_large(std::size_t npages, unsigned span_class);
  mspan* take_kept(unsigned span_class, std::size_t npages);
  std::size_t give_last_large();
  void give_emptied(unsigned classes);
  void give_idle();
  void release_unkept(mspan* s);
  void add_other(mspan* s);
  void hand_over(mspan* s);
  void give_for(const mspan* s);
  void close_tiny();

  std::array<std::uint8_t, 128> fine_class_;       // a copy, which saves a malloc a further load
  std::array<mspan*, host_span_classes> current_;  // see index_of
  std::array<span_list, host_span_classes> others_;

  tiny_rule tiny_;
  // The open block, valid while tiny_ has one with room. Its span is this cache's.
  std::byte* tiny_block_ = nullptr;
  span_atomic<std::uint32_t>* tiny_mask_ = nullptr;
  mspan* tiny_span_ = nullptr;

  span_list large_;  // kept spans of freed large objects
  // Spans without objects, by their number of pages, to be reused for any class; kept_[0] has those
  // of tiny blocks, which stay in their class. No more pages are kept than this cache took from the
  // heap itself, so that a thread which only frees what others allocate keeps none; and few of
  // those that other threads took.
  std::array<span_list, max_host_span_pages + 1> kept_;
  std::size_t kept_pages_ = 0;
  std::size_t keepable_pages_ = 0;
  unsigned next_emptied_ = 0, next_idle_ = 0;
  std::uint32_t idle_turn_ = 0;
  std::size_t looked_at_ = 0;  // span pages of the heap at the last look, or the fewest since
  /// Decides when an empty current span of a class may be given back. If the class needs a span
  /// again soon after, the next one is spared for more and more looks; otherwise a thread that
  /// allocates and frees an object of each of many classes in turn would give each span back before
  /// it allocates in it again.
  class idle_class {
   public:
    bool may_go() {
      if (spared_ == 0) return true;
      --spared_;
      return false;
    }
    void gone(std::uint32_t turn) {
      gone_at_ = turn;
      is_gone_ = true;
    }
    void missed(std::uint32_t turn) {
      if (!is_gone_) return;
      is_gone_ = false;
      spare_ = turn - gone_at_ < soon ? static_cast<std::uint8_t>(2 * spare_ + 1) : std::uint8_t{0};
      spared_ = spare_;
    }

   private:
    static constexpr std::uint32_t soon = 64;
    std::uint32_t gone_at_ = 0;
    std::uint8_t spare_ = 0, spared_ = 0;  // in looks: 1, 3, 7, ... 255; how many are left
    bool is_gone_ = false;
  };
  std::array<idle_class, host_span_classes> idle_;
  /// Whether, among the full spans of a class in which this thread is the first to free, those that
  /// other threads let go are the majority: counts how many more they are, up to a bound.
  class balance {
   public:
    bool are_most() const { return more_ >= most / 2; }
    void others() { more_ += more_ < most ? 1 : 0; }
    void own() { more_ -= more_ > 0 ? 1 : 0; }

   private:
    static constexpr std::uint8_t most = 128;
    std::uint8_t more_ = 0;
  };
  std::array<balance, host_span_classes> others_objects_;  // by span class
  std::size_t large_pages_ = 0;                            // of large_
  const std::size_t most_large_pages_;
  const std::size_t most_other_pages_;  // in each list of others_
  mheap* heap_;
  mcentral_set* central_;
  page_stock stock_;
  last_cache* user_ = nullptr;
  span_atomic<bool> in_call_{false};
};

}  // namespace warpheap
