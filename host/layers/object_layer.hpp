#pragma once

// Layers around the host allocator: profile and debug modes. A heap without layers calls the
// allocator directly; a heap with layers, chosen when it is made, calls the topmost.

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

/// A request for an object.
struct object_request {
  std::size_t bytes = 0;
  std::size_t align = 1;  ///< a power of two; malloc's alignment for so many bytes is implied
  bool zeroed = false;
  contents kind = contents::no_pointers;
};

/// A layer passes every call on to the one below, except those that it implements. Thread-safe. No
/// layer calls malloc while it holds a lock.
class object_layer {
 public:
  explicit object_layer(object_layer* below) : below_(below) {}
  virtual ~object_layer() = default;
  object_layer(const object_layer&) = delete;
  object_layer& operator=(const object_layer&) = delete;

  /// The object, nullptr when there is no memory. 0 bytes: the address of all such objects.
  virtual void* take(const object_request& r) { return below_->take(r); }
  virtual free_status free(void* p) { return below_->free(p); }
  /// Usable bytes at p, 0 if p is no live object.
  virtual std::size_t usable_size(const void* p) { return below_->usable_size(p); }
  /// Checks whether an object was damaged, and reports it if so.
  virtual void check(const void* p) { below_->check(p); }
  /// Checks all objects, and gives back the freed objects that were held back. At rest only.
  virtual void drain() { below_->drain(); }
  /// Called when all objects are gone. At rest only.
  virtual void forget() { below_->forget(); }
  /// For a fork: between the two, no other thread is in this layer or those below.
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

/// The bottom: the allocator itself, which takes its own locks at a fork.
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

/// Replaces all other layers when the memory of the heap's pages has been taken away: objects still
/// have sizes, but none can be allocated, and frees are ignored. It touches no page.
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

// malloc's family over a layer, with the results of host_heap.
void* layer_malloc(object_layer& top, std::size_t n, contents kind);
void* layer_calloc(object_layer& top, std::size_t count, std::size_t size, contents kind);
void* layer_aligned_alloc(object_layer& top, std::size_t align, std::size_t n, contents kind);

}  // namespace warpheap
