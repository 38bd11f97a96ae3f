#pragma once

// Freed objects that have not been given back yet.

#include <cstddef>
#include <mutex>

#include "host/sys_pool.hpp"

namespace warpheap {

/// A FIFO of freed objects, limited to `budget` bytes in total. Thread-safe.
class held_back {
 public:
  struct object {
    void* p;
    std::size_t bytes;
  };

  explicit held_back(std::size_t budget) : budget_(budget) {}
  ~held_back() {
    while (first_ != nullptr) (void)pop();
  }
  held_back(const held_back&) = delete;
  held_back& operator=(const held_back&) = delete;

  /// Holds the object back, and calls evict(object) for each one that has to leave, which may be
  /// this one.
  template <class F>
  void hold(object o, F&& evict) {
    auto* n = static_cast<node*>(sys_pool::alloc(sizeof(node)));
    if (n == nullptr) return evict(o);
    *n = {nullptr, o};
    {
      const std::scoped_lock lock(mutex_);
      (last_ != nullptr ? last_->next : first_) = n;
      last_ = n;
      bytes_ += o.bytes;
    }
    object old{};
    while (take_if_over(budget_, old)) evict(old);
  }
  /// Removes all, and calls evict(object) for each.
  template <class F>
  void empty(F&& evict) {
    object old{};
    while (take_if_over(0, old)) evict(old);
  }
  /// Forgets all.
  void clear() {
    const std::scoped_lock lock(mutex_);
    while (first_ != nullptr) (void)pop();
  }
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  struct node {
    node* next;
    object o;
  };

  bool take_if_over(std::size_t budget, object& o) {
    const std::scoped_lock lock(mutex_);
    if (first_ == nullptr || (budget != 0 && bytes_ <= budget)) return false;
    o = pop();
    return true;
  }
  object pop() {
    node* n = first_;
    first_ = n->next;
    if (first_ == nullptr) last_ = nullptr;
    const object o = n->o;
    bytes_ -= o.bytes;
    sys_pool::free(n, sizeof(node));
    return o;
  }

  const std::size_t budget_;
  std::mutex mutex_;
  node* first_ = nullptr;
  node* last_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace warpheap
