#include "host/arena_map.hpp"

#include <new>

namespace warpheap {

namespace {

/// A table without entries; nullptr when the system has no memory.
template <class T>
T* make_table(persistentalloc& metadata, sys_counter& stat) {
  void* p = metadata.alloc(sizeof(T), alignof(T), stat);
  return p == nullptr ? nullptr : new (p) T{};
}

}  // namespace

bool arena_map::add(std::byte* base, std::size_t arenas, persistentalloc& metadata,
                    sys_counter& stat) {
  const auto first = reinterpret_cast<std::uintptr_t>(base);
  const std::size_t bytes = arenas * arena_bytes;
  if (arenas == 0 || arenas > room()) return false;
  if (first % arena_bytes != 0 || (first + bytes - 1) >> address_bits != 0) return false;
  if (bases_ == nullptr) {
    void* p = metadata.alloc(max_arenas_ * sizeof(std::byte*), alignof(std::byte*), stat);
    if (p == nullptr) return false;
    bases_ = new (p) std::byte* [max_arenas_] {};
  }
  level_1* l1 = root_.load(std::memory_order_relaxed);
  if (l1 == nullptr) {
    l1 = make_table<level_1>(metadata, stat);
    if (l1 == nullptr) return false;
    root_.store(l1, std::memory_order_release);
  }
  // All tables first, so that a failure leaves nothing to undo.
  for (std::uintptr_t at = first >> l1_shift; at <= (first + bytes - 1) >> l1_shift; ++at) {
    if (l1->tables[at].load(std::memory_order_relaxed) != nullptr) continue;
    level_2* const l2 = make_table<level_2>(metadata, stat);
    if (l2 == nullptr) return false;
    l1->tables[at].store(l2, std::memory_order_release);
  }
  for (std::size_t i = 0; i < arenas; ++i) {
    const std::uintptr_t address = first + i * arena_bytes;
    bases_[arenas_] = base + i * arena_bytes;
    ++arenas_;
    level_2* const l2 = l1->tables[address >> l1_shift].load(std::memory_order_relaxed);
    // Release: a thread that finds the number also sees all that was done before, to the heap's
    // other tables too.
    l2->numbers[address >> arena_shift & (entries - 1)].store(static_cast<std::uint32_t>(arenas_),
                                                              std::memory_order_release);
  }
  return true;
}

}  // namespace warpheap
