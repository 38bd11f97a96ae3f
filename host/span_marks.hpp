#pragma once

// Marks on the objects of one span, for a sweep on request. (Go: gcmarkBits.)

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include <warpheap/bits.hpp>

#include "host/span_classes.hpp"
#include "host/sys_pool.hpp"

namespace warpheap {

/// One bit for each slot, or for each byte of a page of tiny objects, and a second one that says
/// that the object there was made since the marks began (mark_phase.hpp). Belongs to the cycle that
/// begins with the sweep, and to the span's first slot and class at the time: marks of other ones
/// mean nothing. Made under a lock, set by any thread. A thread that sets a mark may hold the
/// pointer while another frees everything in the span, so no span_marks is freed before the cycle
/// ends.
class span_marks {
 public:
  /// All that were made in a cycle. Guarded by its user's lock; the user says when none is in use.
  class list {
   public:
    list() = default;
    ~list() { drop(); }
    list(const list&) = delete;
    list& operator=(const list&) = delete;
    void drop() {
      while (span_marks* m = first_) {
        first_ = m->next_;
        sys_pool::free(m, bytes_for(m->words_));
      }
    }

   private:
    friend class span_marks;
    span_marks* first_ = nullptr;
  };

  /// nullptr when the system has no memory.
  static span_marks* make(list& all, const std::byte* first, unsigned span_class,
                          std::uint32_t cycle) {
    const std::uint32_t words = (bits_of(span_class) + 63) / 64;
    void* p = sys_pool::alloc(bytes_for(words));
    if (p == nullptr) return nullptr;
    return all.first_ = new (p) span_marks(all.first_, first, span_class, cycle, words);
  }

  bool is_of(const std::byte* first, unsigned span_class, std::uint32_t cycle) const {
    return cycle_ == cycle && span_class_ == span_class && first_slot_ == first;
  }
  bool get(unsigned i) const {
    return (word(i / 64).load(std::memory_order_relaxed) >> (i % 64) & 1) != 0;
  }
  /// True when it was set before. Relaxed: the sweep's caller orders the sweep after all marks.
  bool set(unsigned i) {
    const std::uint64_t bit = std::uint64_t{1} << (i % 64);
    return (word(i / 64).fetch_or(bit, std::memory_order_relaxed) & bit) != 0;
  }
  /// Notes the slots of a word as those of newborn objects. Relaxed, as for marks. A word past the
  /// last is ignored: the span may have become one with more words since these marks were found.
  void set_born(unsigned w, std::uint64_t slots) {
    if (w >= words_) return;
    word(words_ + w).fetch_or(slots, std::memory_order_relaxed);
  }
  /// The same for bytes of a tiny block, by its number.
  void set_born_bytes(unsigned block, std::uint32_t bytes) {
    set_born(block / 4, std::uint64_t{bytes} << block % 4 * 16);
  }
  bool is_born(unsigned i) const {
    return (word(words_ + i / 64).load(std::memory_order_relaxed) >> (i % 64) & 1) != 0;
  }
  /// f(i) for each mark.
  template <class F>
  void for_each(F&& f) const {
    for (unsigned w = 0; w < words_; ++w) {
      for (std::uint64_t rest = word(w).load(std::memory_order_relaxed); rest != 0;
           rest &= rest - 1) {
        f(w * 64 + bits::lowest_bit(rest));
      }
    }
  }

 private:
  using word_type = std::atomic<std::uint64_t>;
  span_marks(span_marks* next, const std::byte* first, unsigned span_class, std::uint32_t cycle,
             std::uint32_t words)
      : next_(next), first_slot_(first), span_class_(span_class), cycle_(cycle), words_(words) {
    for (std::uint32_t w = 0; w < 2 * words; ++w) new (&word(w)) word_type(0);
  }
  static unsigned bits_of(unsigned span_class) {
    if (span_class == tiny_span_class) return page_size;
    const unsigned c = host_span_size_class(span_class);
    return c == 0 ? 1 : host_span_objects(c);
  }
  static std::size_t bytes_for(std::uint32_t words) {
    return sizeof(span_marks) + 2 * words * sizeof(word_type);
  }
  // The words follow the record in its block: marks first, then births.
  word_type& word(unsigned w) { return reinterpret_cast<word_type*>(this + 1)[w]; }
  const word_type& word(unsigned w) const {
    return reinterpret_cast<const word_type*>(this + 1)[w];
  }

  span_marks* next_;
  const std::byte* first_slot_;
  std::uint32_t span_class_;
  std::uint32_t cycle_;
  std::uint32_t words_;
};

}  // namespace warpheap
