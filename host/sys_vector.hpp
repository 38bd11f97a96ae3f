#pragma once

// A vector for use inside the allocator.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

#include "host/sys_pool.hpp"

namespace warpheap {

/// Like std::vector, over sys_pool, for values that are copied by their bytes. An operation that
/// cannot grow the vector returns false and leaves it unchanged: an exception would be allocated by
/// malloc, perhaps under the locks that malloc takes.
template <class T>
class sys_vector {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= sys_pool::smallest);

 public:
  constexpr sys_vector() = default;
  ~sys_vector() { sys_pool::free(data_, capacity_ * sizeof(T)); }
  sys_vector(sys_vector&& other) noexcept { swap(other); }
  sys_vector& operator=(sys_vector&& other) noexcept {
    swap(other);
    return *this;
  }

  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  T& back() { return data_[size_ - 1]; }

  /// Makes room for n values. Grows by at least half, so that n push_backs copy O(n) values.
  [[nodiscard]] bool reserve(std::size_t n) {
    if (n <= capacity_) return true;
    n = std::max({n, capacity_ + capacity_ / 2, sys_pool::smallest / sizeof(T)});
    if (n > static_cast<std::size_t>(-1) / sizeof(T)) return false;
    T* fresh = static_cast<T*>(sys_pool::alloc(n * sizeof(T)));
    if (fresh == nullptr) return false;
    if (size_ != 0) std::memcpy(static_cast<void*>(fresh), data_, size_ * sizeof(T));
    sys_pool::free(data_, capacity_ * sizeof(T));
    data_ = fresh;
    capacity_ = n;
    return true;
  }
  [[nodiscard]] bool push_back(const T& value) { return insert(end(), value) != nullptr; }
  /// Returns the place of the new value; nullptr when there is no room for it.
  [[nodiscard]] T* insert(const T* before, const T& value) {
    const std::size_t at = static_cast<std::size_t>(before - data_);
    const T copy = value;
    if (!reserve(size_ + 1)) return nullptr;
    std::move_backward(data_ + at, data_ + size_, data_ + size_ + 1);
    data_[at] = copy;
    ++size_;
    return data_ + at;
  }
  /// Returns the place of the value after it.
  T* erase(T* at) {
    std::move(at + 1, end(), at);
    --size_;
    return at;
  }
  template <class F>
  void erase_if(F&& f) {
    size_ = static_cast<std::size_t>(std::remove_if(begin(), end(), f) - begin());
  }
  void clear() { size_ = 0; }
  void swap(sys_vector& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  friend bool operator==(const sys_vector& a, const sys_vector& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace warpheap
