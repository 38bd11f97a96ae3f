#pragma once

// Memory for the allocator's own records. It never lies in the heap's pages, and is given back only
// when its owner goes. (Go: persistentalloc, sysReserve, throw.)

#include <atomic>
#include <cstddef>
#include <mutex>

#include "host/sys_vector.hpp"

namespace warpheap {

/// Bytes taken from the system for one kind of record.
using sys_counter = std::atomic<std::size_t>;

/// Reports a broken invariant of the allocator on stderr and aborts.
[[noreturn]] void fatal(const char* what);

/// Zeroed pages from the system, nullptr if it has none. They cost memory only once touched, so a
/// table for the largest possible heap is cheap. Neither function changes errno.
void* sys_reserve(std::size_t bytes);
void sys_release(void* p, std::size_t bytes);
/// Makes the system provide memory for its pages that contain these bytes, before they are touched.
/// Where the system refuses, as before Linux 5.14, the memory comes by touch as usual.
void sys_populate(void* p, std::size_t bytes);

/// A table of n zeroed T in pages of its own, touched lazily. T must be valid when all bytes are 0.
template <class T>
class lazy_table {
 public:
  /// Throws std::bad_alloc if the system refuses the address range.
  explicit lazy_table(std::size_t n);
  ~lazy_table() { sys_release(data_, n_ * sizeof(T)); }
  lazy_table(const lazy_table&) = delete;
  lazy_table& operator=(const lazy_table&) = delete;

  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  std::size_t size() const { return n_; }
  /// sys_populate for n entries; concurrently with any use of the table.
  void populate(std::size_t first, std::size_t n) { sys_populate(data_ + first, n * sizeof(T)); }
  T* data() { return data_; }
  const T* data() const { return data_; }

 private:
  T* data_;
  std::size_t n_;
};

/// Bump allocator for records that live as long as it does. Thread-safe.
class persistentalloc {
 public:
  static constexpr std::size_t chunk_bytes = std::size_t{256} << 10;
  static constexpr std::size_t direct_bytes = std::size_t{64} << 10;
  static constexpr std::size_t max_align = 8192;

  persistentalloc() = default;
  ~persistentalloc();
  persistentalloc(const persistentalloc&) = delete;
  persistentalloc& operator=(const persistentalloc&) = delete;

  /// size zeroed bytes, aligned to align (a power of two up to max_align; 0 stands for 8), added to
  /// stat. nullptr when the system has no memory. Sizes from direct_bytes on get pages of their
  /// own. Aborts on size 0 or another alignment.
  void* alloc(std::size_t size, std::size_t align, sys_counter& stat);

  /// For a fork: no other thread is in here between the two.
  void lock() const { mutex_.lock(); }
  void unlock() const { mutex_.unlock(); }

  /// Bytes taken from the system.
  std::size_t sys_bytes() const { return sys_bytes_.load(std::memory_order_relaxed); }

 private:
  struct block {
    void* start;
    std::size_t bytes;
  };
  void* take_block(std::size_t bytes);

  mutable std::mutex mutex_;
  std::byte* chunk_ = nullptr;
  std::size_t offset_ = 0;
  sys_vector<block> blocks_;
  std::atomic<std::size_t> sys_bytes_{0};  // relaxed: a figure, nothing is published by it
};

void* table_or_throw(std::size_t n, std::size_t size);

template <class T>
lazy_table<T>::lazy_table(std::size_t n)
    : data_(static_cast<T*>(table_or_throw(n, sizeof(T)))), n_(n) {}

}  // namespace warpheap
