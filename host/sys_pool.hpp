#pragma once

// Memory for the containers of the allocator itself. It comes from the system, never from malloc:
// where this heap is the process's malloc, a vector inside it that grew by malloc would call the
// function that it is part of.

#include <cstddef>
#include <functional>
#include <mutex>
#include <new>
#include <unordered_map>
#include <utility>
#include <vector>

namespace warpheap {

/// Blocks of powers of two from 16 bytes to a page, kept in a free list for each size; larger ones
/// have pages of their own. Thread-safe; its lock is the innermost of all.
class sys_pool {
 public:
  static constexpr std::size_t smallest = 16;
  static constexpr std::size_t largest = 4096;

  /// nullptr when the system has no memory. Aligned to the block's size, up to a page.
  static void* alloc(std::size_t bytes) noexcept;
  /// Takes a block back; `bytes` as in alloc. nullptr is ignored.
  static void free(void* p, std::size_t bytes) noexcept;
  /// Bytes taken from the system and not given back.
  static std::size_t sys_bytes() noexcept;

  /// For a fork: nobody else is in the pool between the two.
  static void lock() noexcept;
  static void unlock() noexcept;
};

/// The pool as a standard allocator. allocate throws std::bad_alloc.
template <class T>
class sys_allocator {
 public:
  using value_type = T;

  constexpr sys_allocator() noexcept = default;
  template <class U>
  constexpr sys_allocator(const sys_allocator<U>&) noexcept {}

  T* allocate(std::size_t n) {
    static_assert(alignof(T) <= sys_pool::smallest);
    void* p =
        n > static_cast<std::size_t>(-1) / sizeof(T) ? nullptr : sys_pool::alloc(n * sizeof(T));
    if (p == nullptr) throw std::bad_alloc();
    return static_cast<T*>(p);
  }
  void deallocate(T* p, std::size_t n) noexcept { sys_pool::free(p, n * sizeof(T)); }

  template <class U>
  friend constexpr bool operator==(const sys_allocator&, const sys_allocator<U>&) noexcept {
    return true;
  }
};

template <class T>
using sys_vector = std::vector<T, sys_allocator<T>>;
template <class K, class V>
using sys_map =
    std::unordered_map<K, V, std::hash<K>, std::equal_to<K>, sys_allocator<std::pair<const K, V>>>;

}  // namespace warpheap
