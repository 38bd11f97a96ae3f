#pragma once

// What the C functions share: the heap behind the handle; exceptions turned into errno and a
// message.

#include <warpheap/warpheap.h>
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>
#include <warpheap/heap.hpp>

struct warpheap_heap {
  explicit warpheap_heap(warpheap::heap_options options) : heap(std::move(options)) {}
  warpheap::heap heap;

  std::once_flag named;  // guards the making of these, which C gets by pointer
  std::string backend_name, backend_reason, device_name;
  std::vector<warpheap::error_record> errors;  // taken from the heap, but not yet by the program
  warpheap::device_events events;              // likewise
};

namespace warpheap::c_api {

/// Sets errno and the thread's message.
void fail(int number, const char* text) noexcept;

/// Returns f(); if that throws, sets errno and the message, and returns `otherwise`.
template <class T, class F>
T guarded(T otherwise, int number, F&& f) noexcept {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    fail(ENOMEM, "out of memory");
  } catch (const std::exception& error) {
    fail(number, error.what());
  } catch (...) {
    fail(number, "unknown error");
  }
  return otherwise;
}

inline bool no_heap(const warpheap_heap* heap) noexcept {
  if (heap != nullptr) return false;
  fail(EINVAL, "the heap is NULL");
  return true;
}

/// The bytes that the caller's version of a struct and this one have in common.
template <class T>
std::size_t common_size(std::size_t callers) noexcept {
  return std::min(callers, sizeof(T));
}

/// Whether a struct is NULL or lacks its size.
template <class T>
bool no_struct(const T* given) noexcept {
  if (given != nullptr && given->struct_size >= sizeof(std::size_t)) return false;
  fail(EINVAL, "the struct is NULL or its struct_size was not set");
  return true;
}

/// Copies as much of our struct as the caller's version of it has.
template <class T>
void copy_out(T* to, const T& from) noexcept {
  const std::size_t size = to->struct_size;
  std::memcpy(static_cast<void*>(to), &from, common_size<T>(size));
  to->struct_size = size;
}

}  // namespace warpheap::c_api
