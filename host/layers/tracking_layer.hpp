#pragma once

// The common part of layers that keep track of the objects they handed out.

#include <cstddef>

#include "host/layers/held_back.hpp"
#include "host/layers/object_layer.hpp"
#include "host/layers/pointer_table.hpp"

namespace warpheap {

/// A layer with a record of each object, which reveals a second free for as long as it is kept.
/// Each Record has `std::size_t bytes`, the usable bytes, and `bool live`, initially true.
template <class Record>
class tracking_layer : public object_layer {
 public:
  using object_layer::object_layer;

  free_status free(void* p) final {
    Record o{};
    // Marked first, so that only one of two simultaneous frees goes on.
    const free_status status = objects_.change(p, free_status::not_allocated, [&](Record& known) {
      if (!known.live) return free_status::double_free;
      o = known;
      known.live = false;
      return free_status::ok;
    });
    if (status == free_status::not_allocated) return below().free(p);
    return status == free_status::ok ? free_live(p, o) : status;
  }
  std::size_t usable_size(const void* p) final {
    const auto o = objects_.get(p);
    if (!o) return below().usable_size(p);
    return o->live ? o->bytes : 0;
  }
  void forget() override {
    objects_.clear();
    below().forget();
  }

 protected:
  /// Records p and returns it. Without memory for the record, returns nullptr, and gives `block`,
  /// which was taken from below for p, back.
  void* track(void* p, const Record& o, void* block) {
    if (objects_.put(p, o)) return p;
    (void)below().free(block);
    return nullptr;
  }
  /// Frees an object that was live and has been marked as freed.
  virtual free_status free_live(void* p, const Record& o) = 0;

  void lock_this() override { objects_.lock(); }
  void unlock_this() override { objects_.unlock(); }

  pointer_table<Record> objects_;
};

/// A tracking layer that keeps the memory of freed objects from being reused until `budget` bytes
/// have been freed after them.
template <class Record>
class delaying_layer : public tracking_layer<Record> {
 public:
  delaying_layer(object_layer* below, std::size_t budget)
      : tracking_layer<Record>(below), held_(budget) {}

  void drain() override {
    held_.empty([this](const held_back::object& o) { let_go(o); });
    this->below().drain();
  }
  void forget() override {
    held_.clear();
    tracking_layer<Record>::forget();
  }

 protected:
  void hold(const held_back::object& o) {
    held_.hold(o, [this](const held_back::object& old) { let_go(old); });
  }
  /// Gives what was held back to the layer below.
  virtual void let_go(const held_back::object& o) = 0;

  void lock_this() override {
    held_.lock();
    tracking_layer<Record>::lock_this();
  }
  void unlock_this() override {
    tracking_layer<Record>::unlock_this();
    held_.unlock();
  }

  held_back held_;
};

}  // namespace warpheap
