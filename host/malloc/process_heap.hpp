#pragma once

// The heap that serves as a process's malloc: the host allocator alone, on the CPU, without a
// thread of its own, so that memory of free pages is not given back in the background.
//
// Its reservation is 1 TiB, or what WARPHEAP=reserve=64G says, or half of what `ulimit -v` leaves;
// where the system refuses that, the largest half, quarter, ... that it grants. Address space that
// is refused or left out at first is requested in arenas of 64 MiB when it is needed, wherever they
// lie. Under vm.overcommit_memory=2 pages are counted as they come into use. Objects of 9 bytes and
// more lie at multiples of 16, smaller ones at multiples of 8. As everywhere, malloc in a signal
// handler is not safe; without debug modes, one that interrupts a malloc or free beyond its fast
// path ends the process with a message. Where the system's pages are larger than the heap's, no
// memory goes back: a system page may hold live objects beside free pages.

#include <array>
#include <atomic>
#include <cstddef>

#include "host/host_heap.hpp"
#include "host/layers/object_layer.hpp"

namespace warpheap {

/// Made by the first call of any function of malloc's family, before any constructor of the program
/// has run, and never destroyed. All its memory and records come from mmap.
class process_heap {
 public:
  /// The heap, for calls that need nothing else; null before there is one, and always null if the
  /// environment asked for layers around it.
  static host_heap* direct() { return direct_.load(std::memory_order_acquire); }
  /// direct() in the form that host_heap::free_fast takes; where that is null, a view with which it
  /// does nothing.
  static const free_view& direct_view() { return *direct_view_.load(std::memory_order_acquire); }
  /// Where calls go when direct() is null. The first call makes the heap; aborts when there is no
  /// address space for one, or when making it calls malloc.
  static object_layer& front() {
    object_layer* top = front_.load(std::memory_order_acquire);
    return top != nullptr ? *top : make();
  }
  /// Gives all unused memory back to the system. Returns its bytes.
  static std::size_t trim();

  /// The largest object: a request for more than the system could ever back is refused, as the C
  /// library does under the default overcommit mode.
  static std::size_t max_object() { return max_object_; }

  /// Reports on standard error why a free of p was wrong, if it was; only the first few times.
  static void report(free_status status, const void* p);
  static void report(error_kind kind, const void* p);

 private:
  static object_layer& make();

  static std::atomic<host_heap*> direct_;
  static std::atomic<const free_view*> direct_view_;
  static std::atomic<object_layer*> front_;
  static std::size_t max_object_;
};

/// What is requested from the heap for n bytes, so that every object that could hold 16 bytes lies
/// at a multiple of 16, and each has an address and a slot of its own: only slots of 8 and 24 bytes
/// are not aligned so, and other objects below 16 bytes would share a slot.
constexpr std::size_t slot_request(std::size_t n) {
  if (n <= 8) return 8;
  if (n - 17 < 8) return 32;
  return n < 16 ? 16 : n;
}

/// The classes of these requests, by multiples of 8.
inline constexpr auto slot_classes = [] {
  std::array<std::uint8_t, detail::fine_limit / 8 + 1> classes{};
  for (std::size_t i = 0; i < classes.size(); ++i)
    classes[i] = static_cast<std::uint8_t>(size_to_class(slot_request(8 * i)));
  return classes;
}();

}  // namespace warpheap
