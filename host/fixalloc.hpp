#pragma once

// Free-list allocator of records of one size. (Go: fixalloc.)

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "host/persistentalloc.hpp"

namespace warpheap {

/// Hands out records of a fixed size; the record freed last is handed out first. Memory comes in
/// chunks from a persistentalloc and holds records of this kind for good (it is type-stable), so a
/// late reader of a freed record still reads a record. Not thread-safe: guarded by the owner's
/// lock.
class fixalloc {
 public:
  static constexpr std::size_t max_size = 16384;
  /// Called once for each new record, before it is handed out for the first time.
  using first_fn = void (*)(void* arg, void* record);

  /// Records of `size` bytes (8..max_size, else aborts), aligned to `align`. With zero, a reused
  /// record is cleared before it is handed out again.
  void init(persistentalloc& source, std::size_t size, std::size_t align, sys_counter& stat,
            first_fn first = nullptr, void* arg = nullptr, bool zero = true) {
    if (size < sizeof(link) || size > max_size) fatal("runtime: fixalloc size out of range");
    source_ = &source;
    size_ = bits_up(size, align);
    align_ = align;
    stat_ = &stat;
    first_ = first;
    arg_ = arg;
    zero_ = zero;
    chunk_bytes_ = max_size / size_ * size_;  // no tail too short for a record
  }

  /// A record, or nullptr when the system has no memory.
  void* alloc() {
    if (size_ == 0) fatal("runtime: use of FixAlloc_Alloc before FixAlloc_Init");
    if (list_ != nullptr) {
      link* p = list_;
      list_ = p->next;
      inuse_ += size_;
      if (zero_) std::memset(static_cast<void*>(p), 0, size_);
      return p;
    }
    if (left_ < size_) {
      chunk_ = static_cast<std::byte*>(source_->alloc(chunk_bytes_, align_, *stat_));
      if (chunk_ == nullptr) {
        left_ = 0;
        return nullptr;
      }
      left_ = chunk_bytes_;
    }
    void* p = chunk_;
    chunk_ += size_;
    left_ -= size_;
    inuse_ += size_;
    if (first_ != nullptr) first_(arg_, p);
    return p;
  }

  /// Takes a record back; its first word is overwritten.
  void free(void* p) {
    link* l = static_cast<link*>(p);
    l->next = list_;
    list_ = l;
    inuse_ -= size_;
  }

  /// Bytes of the records that are handed out.
  std::size_t inuse() const { return inuse_; }
  /// Bytes of a chunk.
  std::size_t chunk_size() const { return chunk_bytes_; }

 private:
  struct link {
    link* next;
  };
  static constexpr std::size_t bits_up(std::size_t n, std::size_t align) {
    return (n + align - 1) / align * align;
  }

  persistentalloc* source_ = nullptr;
  std::size_t size_ = 0;
  std::size_t align_ = 8;
  sys_counter* stat_ = nullptr;
  first_fn first_ = nullptr;
  void* arg_ = nullptr;
  bool zero_ = true;
  link* list_ = nullptr;
  std::byte* chunk_ = nullptr;
  std::size_t left_ = 0;
  std::size_t chunk_bytes_ = 0;
  std::size_t inuse_ = 0;
};

}  // namespace warpheap
