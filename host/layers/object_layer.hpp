#pragma once

// Layers around the host allocator: profile and debug modes. A heap without any calls the allocator
// directly; one that has some calls the topmost, chosen when the heap is made.

#include <cstddef>
#include <warpheap/error.hpp>

#include "host/host_heap.hpp"

namespace warpheap {

/// Where layers report what they detect.
struct layer_reports {
  void* context = nullptr;
  void (*report)(void* context, error_kind kind, const void* p) = nullptr;

  void operator()(error_kind kind, const void* p) const {
    if (report != nullptr) report(context, kind, p);
  }
};

/// What is asked of a layer.
struct object_request {
  std::size_t bytes = 0;
  std::size_t align = 1;  ///< a power of two; at least what malloc gives for so many bytes is meant
  bool zeroed = false;
  contents kind = contents::no_pointers;
};

/// A layer passes everything on to the one below, but for what it is there for. Thread-safe.
/// Nothing in a layer calls malloc while it holds a lock.
class object_layer {
 public:
  explicit object_layer(object_layer* below) : below_(below) {}
  virtual ~object_layer() = default;
  object_layer(const object_layer&) = delete;
  object_layer& operator=(const object_layer&) = delete;

  /// The object, nullptr when there is no memory. 0 bytes: the address of all such objects.
  virtual void* take(const object_request& r) { return below_->take(r); }
  virtual free_status free(void* p) { return below_->free(p); }
  /// Bytes that may be used at p, 0 for what is no live object.
  virtual std::size_t usable_size(const void* p) { return below_->usable_size(p); }
  /// Looks whether an object was damaged, and reports.
  virtual void check(const void* p) { below_->check(p); }
  /// Checks all there is and gives back what was held back of freed objects. At rest only.
  virtual void drain() { below_->drain(); }
  /// All objects are gone. At rest only.
  virtual void forget() { below_->forget(); }
  /// For a fork: nobody else is in this layer and those below between the two.
  void lock() {
    lock_this();
    if (below_ != nullptr) below_->lock();
  }
  void unlock() {
    if (below_ != nullptr) below_->unlock();
    unlock_this();
  }

 protected:
  object_layer& below() const { return *below_; }

  /// The layer's own locks.
  virtual void lock_this() {}
  virtual void unlock_this() {}

 private:
  object_layer* const below_;
};

/// The bottom: the allocator itself, which cares for its own locks at a fork.
class heap_layer final : public object_layer {
 public:
  explicit heap_layer(host_heap& heap) : object_layer(nullptr), heap_(heap) {}

  void* take(const object_request& r) override;
  free_status free(void* p) override { return heap_.free(p); }
  std::size_t usable_size(const void* p) override { return heap_.usable_size(p); }
  void check(const void*) override {}
  void drain() override {}
  void forget() override {}

 private:
  host_heap& heap_;
};

/// In place of all others where the memory of the heap's pages has been taken away: objects have
/// sizes, but none can be had, and frees are ignored. Nothing touches a page.
class lost_layer final : public object_layer {
 public:
  explicit lost_layer(host_heap& heap) : object_layer(nullptr), heap_(heap) {}

  void* take(const object_request&) override { return nullptr; }
  free_status free(void*) override { return free_status::null; }
  std::size_t usable_size(const void* p) override { return heap_.usable_size(p); }
  void check(const void*) override {}
  void drain() override {}
  void forget() override {}

 private:
  host_heap& heap_;
};

// malloc's family over a layer, with the answers of host_heap.
void* layer_malloc(object_layer& top, std::size_t n, contents kind);
void* layer_calloc(object_layer& top, std::size_t count, std::size_t size, contents kind);
void* layer_aligned_alloc(object_layer& top, std::size_t align, std::size_t n, contents kind);

}  // namespace warpheap
