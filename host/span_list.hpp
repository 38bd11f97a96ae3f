#pragma once

// Doubly linked list through the records of spans. (Go: mSpanList.)

#include <cstddef>

#include "host/mspan.hpp"

namespace warpheap {

/// A span is in at most one list, guarded by the span's owner or by the list's lock.
class span_list {
 public:
  bool empty() const { return first_ == nullptr; }
  mspan* first() const { return first_; }
  mspan* last() const { return last_; }
  static mspan* next(const mspan* s) { return s->next_; }
  std::size_t size() const { return size_; }

  void insert_back(mspan* s) {
    check_new(s);
    s->prev_ = last_;
    (last_ != nullptr ? last_->next_ : first_) = s;
    last_ = s;
    ++size_;
  }
  void insert_front(mspan* s) {
    check_new(s);
    s->next_ = first_;
    (first_ != nullptr ? first_->prev_ : last_) = s;
    first_ = s;
    ++size_;
  }
  void remove(mspan* s) {
    if (s->prev_ == nullptr && first_ != s) fatal("span is not in this list");
    (s->prev_ != nullptr ? s->prev_->next_ : first_) = s->next_;
    (s->next_ != nullptr ? s->next_->prev_ : last_) = s->prev_;
    s->next_ = s->prev_ = nullptr;
    --size_;
  }
  /// Takes over all spans of another list, behind its own. O(1).
  void append(span_list& other) {
    if (other.first_ == nullptr) return;
    other.first_->prev_ = last_;
    (last_ != nullptr ? last_->next_ : first_) = other.first_;
    last_ = other.last_;
    size_ += other.size_;
    other.first_ = other.last_ = nullptr;
    other.size_ = 0;
  }
  /// For a span in no list whose links say otherwise: in the child of a fork, it was in the list of
  /// a thread that is lost.
  static void forget(mspan* s) { s->next_ = s->prev_ = nullptr; }
  /// Empties the list.
  void clear() {
    while (pop_front() != nullptr) {
    }
  }
  mspan* pop_front() {
    mspan* s = first_;
    if (s != nullptr) remove(s);
    return s;
  }

 private:
  void check_new(const mspan* s) const {
    if (s->next_ != nullptr || s->prev_ != nullptr || first_ == s) fatal("span is in a list");
  }

  mspan* first_ = nullptr;
  mspan* last_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace warpheap
