#pragma once

// What layers know about objects, by address.

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

#include "host/sys_pool.hpp"

namespace warpheap {

/// Hash table from addresses to records of type T, which are copied bytewise. Thread-safe: each
/// shard has a lock of its own, held during one look-up.
template <class T>
class pointer_table {
 public:
  pointer_table() = default;
  ~pointer_table() { clear(); }
  pointer_table(const pointer_table&) = delete;
  pointer_table& operator=(const pointer_table&) = delete;

  /// Replaces any record of p. False when there is no memory.
  bool put(const void* p, const T& value) {
    const std::uint64_t h = hash(p);
    shard& s = shard_of(h);
    const std::scoped_lock lock(s.mutex);
    if ((s.count + 1) * 2 > s.capacity && !grow(s)) return false;
    slot* at = find(s, h, p);
    s.count += at->key == nullptr;
    *at = {p, value};
    return true;
  }
  std::optional<T> get(const void* p) {
    const std::uint64_t h = hash(p);
    shard& s = shard_of(h);
    const std::scoped_lock lock(s.mutex);
    if (s.capacity == 0) return std::nullopt;
    const slot* at = find(s, h, p);
    if (at->key == nullptr) return std::nullopt;
    return at->value;
  }
  /// Removes and returns the record of p.
  std::optional<T> take(const void* p) {
    const std::uint64_t h = hash(p);
    shard& s = shard_of(h);
    const std::scoped_lock lock(s.mutex);
    if (s.capacity == 0) return std::nullopt;
    slot* at = find(s, h, p);
    if (at->key == nullptr) return std::nullopt;
    const T value = at->value;
    close_gap(s, static_cast<std::size_t>(at - s.slots));
    --s.count;
    return value;
  }
  /// Calls f(T&) on the record of p under its lock, and returns f's result, or `otherwise` when
  /// there is no record.
  template <class R, class F>
  R change(const void* p, R otherwise, F&& f) {
    const std::uint64_t h = hash(p);
    shard& s = shard_of(h);
    const std::scoped_lock lock(s.mutex);
    if (s.capacity == 0) return otherwise;
    slot* at = find(s, h, p);
    return at->key == nullptr ? otherwise : f(at->value);
  }
  /// f(p, record) for each; f must not use the table.
  template <class F>
  void for_each(F&& f) {
    for (shard& s : shards_) {
      const std::scoped_lock lock(s.mutex);
      for (std::size_t i = 0; i < s.capacity; ++i) {
        if (s.slots[i].key != nullptr) f(s.slots[i].key, s.slots[i].value);
      }
    }
  }
  std::size_t size() {
    std::size_t n = 0;
    for (shard& s : shards_) {
      const std::scoped_lock lock(s.mutex);
      n += s.count;
    }
    return n;
  }
  void clear() {
    for (shard& s : shards_) {
      const std::scoped_lock lock(s.mutex);
      sys_pool::free(s.slots, s.capacity * sizeof(slot));
      s.slots = nullptr;
      s.capacity = s.count = 0;
    }
  }
  void lock() {
    for (shard& s : shards_) s.mutex.lock();
  }
  void unlock() {
    for (shard& s : shards_) s.mutex.unlock();
  }

 private:
  struct slot {
    const void* key;  // nullptr: empty
    T value;
  };
  struct shard {
    std::mutex mutex;
    slot* slots = nullptr;
    std::size_t capacity = 0;  // a power of two, or 0
    std::size_t count = 0;
  };

  static std::uint64_t hash(const void* p) {
    // Fibonacci hashing: the upper bits of the product depend on all of the address.
    return (reinterpret_cast<std::uintptr_t>(p) ^ (reinterpret_cast<std::uintptr_t>(p) >> 32))
           * 0x9e3779b97f4a7c15;
  }
  shard& shard_of(std::uint64_t h) { return shards_[h >> 58]; }
  static std::size_t home(const shard& s, std::uint64_t h) { return h >> 20 & (s.capacity - 1); }

  static slot* find(shard& s, std::uint64_t h, const void* p) {
    std::size_t i = home(s, h);
    while (s.slots[i].key != nullptr && s.slots[i].key != p) i = (i + 1) & (s.capacity - 1);
    return &s.slots[i];
  }
  /// Moves up the records that the emptied slot had displaced, so that no search ends early.
  static void close_gap(shard& s, std::size_t gap) {
    const std::size_t mask = s.capacity - 1;
    for (std::size_t i = (gap + 1) & mask; s.slots[i].key != nullptr; i = (i + 1) & mask) {
      const std::size_t distance = (i - home(s, hash(s.slots[i].key))) & mask;
      if (distance < ((i - gap) & mask)) continue;
      s.slots[gap] = s.slots[i];
      gap = i;
    }
    s.slots[gap].key = nullptr;
  }
  static bool grow(shard& s) {
    shard bigger;
    bigger.capacity = s.capacity == 0 ? 64 : 2 * s.capacity;
    bigger.slots = static_cast<slot*>(sys_pool::alloc(bigger.capacity * sizeof(slot)));
    if (bigger.slots == nullptr) return false;
    for (std::size_t i = 0; i < bigger.capacity; ++i) bigger.slots[i].key = nullptr;
    for (std::size_t i = 0; i < s.capacity; ++i) {
      if (s.slots[i].key != nullptr)
        *find(bigger, hash(s.slots[i].key), s.slots[i].key) = s.slots[i];
    }
    sys_pool::free(s.slots, s.capacity * sizeof(slot));
    s.slots = bigger.slots;
    s.capacity = bigger.capacity;
    return true;
  }

  std::array<shard, 64> shards_;
};

}  // namespace warpheap
