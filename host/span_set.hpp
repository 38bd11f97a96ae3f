#pragma once

// One of mcentral's four sets of spans. (Go: spanSet.)
//
// A spine of blocks of pointers, first in first out. A span knows the set that it is in, and its
// place there, so that it can be taken out of the middle; explicit free needs that. Two sets swap
// roles without a look at their spans.
//
// Go's set is lock-free. This one is guarded by mcentral's lock, which its callers hold for the
// sake of the span's place anyway: a child of a fork has to find sets whole, and a push left
// unfinished by a lost thread would block a set for ever. Threads that fill and empty spans push
// only once per sweep cycle, since a span stays in the set of full ones when it gets an owner
// again.

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "host/mspan.hpp"
#include "host/sys_vector.hpp"

namespace warpheap {

/// A span is in at most one set. Not thread-safe.
class span_set {
 public:
  /// Go's blocks have 512 entries; most heaps have few spans in many classes.
  static constexpr std::uint32_t block_entries = 64;

  span_set() = default;
  /// start: the first index, a multiple of block_entries, so that tests can make indices wrap.
  explicit span_set(std::uint32_t start) : first_(start), end_(start) {}
  ~span_set() {
    while (pop() != nullptr) {
    }
    if (end_ % block_entries != 0) sys_pool::free(block_of(end_), sizeof(block));
    if (spare_ != nullptr) sys_pool::free(spare_, sizeof(block));
  }
  span_set(const span_set&) = delete;
  span_set& operator=(const span_set&) = delete;

  std::size_t size() const { return end_ - first_; }
  bool empty() const { return first_ == end_; }

  /// Makes sure that the next insert succeeds; false when the system has no memory.
  [[nodiscard]] bool reserve() {
    if (end_ % block_entries != 0 || spare_ != nullptr) return true;
    const std::uint32_t blocks = end_ / block_entries - first_ / block_entries;
    // The mask handles wrapped indices: a difference of block numbers has as many bits as a block
    // number.
    if ((blocks & (~std::uint32_t{0} / block_entries)) == spine_.size() && !grow()) return false;
    spare_ = static_cast<block*>(sys_pool::alloc(sizeof(block)));
    return spare_ != nullptr;
  }
  /// Takes in a span that is in no set (else aborts). False, with nothing done, when the system has
  /// no memory.
  [[nodiscard]] bool insert(mspan* s) {
    if (s->set_ != nullptr) fatal("span is in a set");
    if (!reserve()) return false;
    if (end_ % block_entries == 0) block_of(end_) = std::exchange(spare_, nullptr);
    s->set_ = this;
    s->set_index_ = end_;
    entry(end_++) = s;
    return true;
  }
  /// Takes out the span that came first; nullptr when there is none.
  mspan* pop() {
    if (empty()) return nullptr;
    mspan* s = entry(first_);
    s->set_ = nullptr;
    drop_first();
    return s;
  }
  /// Calls f(span) for each span, in order; f may take that span out, and must put nothing in.
  template <class F>
  void for_each(F&& f) {
    for (std::uint32_t i = first_; i != end_; ++i) f(entry(i));
  }
  /// Takes out a span of this set (else aborts). The first span moves to its place.
  void remove(mspan* s) {
    if (s->set_ != this) fatal("span is not in this set");
    mspan* first = entry(first_);
    first->set_index_ = s->set_index_;
    entry(s->set_index_) = first;
    s->set_ = nullptr;
    drop_first();
  }

 private:
  struct block {
    std::array<mspan*, block_entries> spans;
  };

  // Indices grow and wrap; the spine's size is a power of two, and a block's place in it is the
  // block's number modulo that size.
  block*& block_of(std::uint32_t i) { return spine_[i / block_entries & (spine_.size() - 1)]; }
  mspan*& entry(std::uint32_t i) { return block_of(i)->spans[i % block_entries]; }

  bool grow() {
    const std::size_t old = spine_.size();
    sys_vector<block*> longer;
    if (!longer.reserve(old == 0 ? 1 : 2 * old)) return false;
    for (std::size_t i = 0; i < (old == 0 ? 1 : 2 * old); ++i) (void)longer.push_back(nullptr);
    longer.swap(spine_);
    for (std::size_t i = 0; i < old; ++i) {
      const auto at = first_ + static_cast<std::uint32_t>(i) * block_entries;
      block_of(at) = longer[at / block_entries & (old - 1)];
    }
    return true;
  }
  void drop_first() {
    if (++first_ % block_entries == 0) sys_pool::free(block_of(first_ - 1), sizeof(block));
  }

  sys_vector<block*> spine_;
  block* spare_ = nullptr;  // for the block that the next insert begins
  std::uint32_t first_ = 0;
  std::uint32_t end_ = 0;
};

}  // namespace warpheap
