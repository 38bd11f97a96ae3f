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

/// Belongs to one thread; figures may be read by all.
///
/// For each span class it has the current span, from which it takes slots, and others with free
/// slots. A span that runs full is nobody's. The thread has it again with its own next free in it
/// (adopt). Another thread takes it when a quarter of it was freed by others than its last owner,
/// or at once, if most of the full spans that it frees in are not its own (balance), and gives one
/// for it that is a quarter free (give_for). So nearly all frees are in spans of the thread's own,
/// or in one that another thread takes slots from.
class alignas(64) mcache {
 public:
  mcache(mheap& heap, mcentral_set& central);

  // --- small objects ----------------------------------------------------------------------------

  /// A slot of a small-object class from the current span; null when that has none in its current
  /// word.
  void* take(unsigned size_class, contents kind) {
    void* p = current_[size_class + (kind == contents::pointers ? num_classes : 0)]->take();
    if (p == nullptr) [[unlikely]]
      return nullptr;
    counters.mallocs[size_class].increment();
    return p;
  }
  /// The same of a slot for n bytes, which are zero.
  void* take_zeroed(unsigned size_class, std::size_t n, contents kind) {
    mspan* const s = current_[size_class + (kind == contents::pointers ? num_classes : 0)];
    void* p = s->take();
    if (p == nullptr) [[unlikely]]
      return nullptr;
    counters.mallocs[size_class].increment();
    // What was never used stays untouched.
    if (s->takes_fresh()) return p;
    counters.cleared_bytes.add(n);
    return std::memset(p, 0, n);
  }
  /// take after that found none, of slots of this word or one behind it that were freed since;
  /// nullptr when there are none, or it is not as simple: that is for take_more. Calls nothing, or
  /// else it would save more registers first. (Of large slots few are ready at a time: who frees
  /// one and takes it again is here each time, or every second. Pairs of 8 and 32 KiB took 10.5 and
  /// 13.8 ns without, and take 9.4 and 10.9.)
  void* take_next(unsigned size_class, contents kind) {
    const brief_call guard(*this);
    if (!guard) [[unlikely]]
      return nullptr;
    mspan* const s = current_[size_class + (kind == contents::pointers ? num_classes : 0)];
    const std::uint64_t ready = s->advance_behind();
    // Births are noted after the word is filled: the slots are ready, and take_more notes them.
    if (ready == 0 || central_->marks.is_on()) return nullptr;
    counters.mallocs[size_class].increment();
    return s->take_of(ready);
  }
  /// The same in any word of the span, or in another span. Null when there is no room.
  void* take_more(unsigned size_class, contents kind) {
    const call guard(*this);
    mspan* const s = refill(make_span_class(size_class, kind == contents::no_pointers));
    if (s == nullptr) [[unlikely]]
      return nullptr;
    counters.mallocs[size_class].increment();
    return s->take();
  }
  /// Class for 1 <= n <= fine_limit.
  unsigned fine_class(std::size_t n) const { return fine_class_[(n + 7) >> 3]; }

  /// A slot of a small-object class; nullptr when there is no room.
  void* alloc(unsigned span_class) { return take_slot(span_class).address; }
  /// The same; is_zero: its memory was never used, and reads as zero.
  void* alloc(unsigned span_class, bool& is_zero) {
    const slot_ref slot = take_slot(span_class);
    is_zero = slot.span != nullptr && slot.span->takes_fresh();
    return slot.address;
  }
  /// n bytes, 1 <= n < tiny_size, without pointers, in the open block; nullptr when it has no room.
  void* take_tiny(unsigned n) {
    const unsigned at = tiny_.place(n);
    if (at == tiny_rule::none) return nullptr;
    // The span is this cache's, and so are the masks, as long as a block of it is open.
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

  /// Frees the object at p in s, which is this cache's; false, and nothing done, when that needs a
  /// closer look.
  bool free_own(mspan* s, const void* p) {
    if (!s->free_own(p)) [[unlikely]]
      return false;
    counters.frees[s->size_class()].increment();
    return true;
  }
  /// Frees slot i of a span of this cache, with that closer look; false if it is free already.
  bool free_own_slot(mspan* s, unsigned i);
  enum class tiny_free : std::uint8_t { refused, done, emptied };
  /// The same for a span of tiny blocks. emptied: free_tiny_block is to follow.
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
  /// Frees the block that p was the last object in.
  void free_tiny_block(mspan* s, const void* p);
  bool free_own_tiny(mspan* s, const void* p) {
    const tiny_free done = drop_own_tiny(s, p);
    if (done == tiny_free::emptied) free_tiny_block(s, p);
    return done != tiny_free::refused;
  }

  /// This thread is to adopt a full span before it frees in it, rather than leave it to whoever had
  /// it last.
  bool takes_at_once(const mspan* s, span_status seen) const {
    const void* const last = s->last_owner();
    return last == this || last == nullptr || others_objects_[seen.span_class()].are_most()
           || seen.span_class() == tiny_span_class;
  }
  /// Becomes the owner of a span without one, if its status is still `seen`: full.
  bool adopt(mspan* s, span_status seen);
  /// s is this cache's: takes over what others have freed in it.
  void collect(mspan* s);
  /// After a free by this thread in a span of so many slots that was full: takes it over if it is
  /// to have it, unless another did.
  void take_left(mspan* s, unsigned nelems, remote_free done);

  // --- large objects ----------------------------------------------------------------------------

  /// A large object whose span is kept; nullptr when there is none.
  void* take_kept_large(std::size_t n, contents kind);
  /// The same without the counts, by pages; in a call.
  mspan* take_large(std::size_t npages, unsigned span_class);
  /// Counts a large object that this thread has taken.
  void note_large(mspan& s);
  /// Keeps a large object's span, all free, or gives it back to the heap.
  void keep_large(mspan* s);
  /// Before so many pages are taken from the heap: gives as many that are kept back, so that the
  /// heap does not grow by what lies idle here in runs of other lengths.
  void give_kept(std::size_t npages);

  // ----------------------------------------------------------------------------------------------

  /// Gives all spans, the open tiny block, pages and records back.
  void flush();
  /// Before all objects are freed in bulk: leaves the spans to the sweeper as they are, gives pages
  /// and records back. Touches one span for each class at most. The cache must not be used any
  /// more, and its address not be used again before all spans are swept: it is still their status.
  void retire();

  /// For who begins a phase of marks, while this thread goes on: notes as born what it may hand out
  /// without a look at the phase.
  void note_all_births();

  /// Whose cache it is: where it is found, until forget_user. Under the heap's lock of its caches.
  void set_user(last_cache* user) { user_ = user; }
  void forget_user() {
    if (user_ != nullptr) user_->forget(this);
    user_ = nullptr;
  }
  /// In the child of a fork, whose only thread has `mine`: the others' blocks are gone.
  void keep_user(const last_cache* mine) {
    if (user_ != mine) user_ = nullptr;
  }

  page_stock& stock() { return stock_; }
  /// Its thread is one that the child of a fork does not have: all but the counters may be as a
  /// fork cut it short, and is not to be looked at.
  bool lost = false;
  /// Its thread is in a slow path; for the child of a fork that does not have that thread.
  bool in_call() const {
    // Acquire: the thread's lists are as it left them.
    return in_call_.load(std::memory_order_acquire);
  }
  alloc_counters counters;
  stack_cache stacks;  // flush leaves them: they are host_heap's to give back

  /// While it lives, the thread is in a slow path; comes to life when no thread forks. Aborts when
  /// it is in one already: a signal handler, or the page source, called the heap. (Go:
  /// mp.mallocing.)
  class call {
   public:
    explicit call(mcache& c) : call(&c) {
      if (cache_ == nullptr) __builtin_unreachable();  // spares the end the test
    }
    /// Null, of a thread that has ended: nothing.
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

  /// The same without calling anything: where `call` would wait, or abort, it is false, and nothing
  /// but a look.
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
  // Relaxed: see fork_gate; for the thread itself, the fences of the compiler.
  bool is_in_call() const { return in_call_.load(std::memory_order_relaxed); }
  void begin_call() {
    in_call_.store(true, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  void end_call() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    // Release: who finds the call ended finds what it did.
    in_call_.store(false, std::memory_order_release);
  }

  struct slot_ref {
    mspan* span = nullptr;
    std::byte* address = nullptr;
  };

  // Spans by class, those without pointers first: so that the class alone is their index. By a
  // table, which is one load.
  static constexpr auto index_of = [] {
    std::array<std::uint8_t, host_span_classes> index{};
    for (unsigned sc = 0; sc < index.size(); ++sc)
      index[sc] = static_cast<std::uint8_t>(
          sc == tiny_span_class ? sc : (sc & 1 ? 0 : num_classes) + (sc >> 1));
    return index;
  }();
  mspan*& current(unsigned span_class) { return current_[index_of[span_class]]; }
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
  /// After a word of a span of this cache was filled, before a slot of it is taken.
  void note_births(mspan* s) {
    if (central_->marks.is_on()) [[unlikely]]
      central_->marks.note_births(*s);
  }
  // Who begins a phase of marks reads these while this thread goes on.
  void set_current(unsigned i, mspan* s) {
    std::atomic_ref(current_[i]).store(s, std::memory_order_release);
  }
  void set_tiny_span(mspan* s) { std::atomic_ref(tiny_span_).store(s, std::memory_order_release); }
  /// The current span with slots ready, or another one that is current now; null when there is
  /// none.
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

  std::array<std::uint8_t, 128> fine_class_;  // a copy, which a malloc finds without a further load
  std::array<mspan*, host_span_classes> current_;  // see index_of
  std::array<span_list, host_span_classes> others_;

  tiny_rule tiny_;
  // The open block, while tiny_ has one with room. Its span is this cache's.
  std::byte* tiny_block_ = nullptr;
  span_atomic<std::uint32_t>* tiny_mask_ = nullptr;
  mspan* tiny_span_ = nullptr;

  span_list large_;  // kept
  // Spans without objects, by their pages, for any class but that of tiny blocks, whose own are
  // first. As many pages are kept as this cache took for itself, so that a thread which only frees
  // what others allocate keeps none, and few that others took.
  std::array<span_list, max_host_span_pages + 1> kept_;
  std::size_t kept_pages_ = 0;
  std::size_t keepable_pages_ = 0;
  unsigned next_emptied_ = 0, next_idle_ = 0;
  std::uint32_t idle_turn_ = 0;
  std::size_t looked_at_ = 0;  // the heap's pages of spans then, or the fewest since
  /// When the current span of a class may be given back for being empty. One that is missed soon is
  /// spared for ever more looks: else a thread that allocates and frees an object of each of many
  /// classes in turn would give each span back before it allocates in it again.
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
    std::uint8_t spare_ = 0, spared_ = 0;  // looks: 1, 3, 7, ... 255; those that are left
    bool is_gone_ = false;
  };
  std::array<idle_class, host_span_classes> idle_;
  /// Whether of the full spans of a class in which this thread is the first to free, those that
  /// others let go are the most: how many more, up to a bound.
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
