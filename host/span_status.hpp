#pragma once

// Who owns a span, in one word.

#include <cstdint>

#include "host/span_classes.hpp"

namespace warpheap {

/// Who may take slots from a span.
enum class span_place : std::uint8_t {
  cached,   ///< its owner, a thread's cache
  none,     ///< dead, or held by nobody during a transition
  partial,  ///< mcentral, with free slots
  full,     ///< nobody: no free slot, or few that others than its last owner freed
  empty,    ///< mcentral, all slots free, kept for reuse
  large,    ///< nobody: one large object
};

/// The outcome of a free by a thread that does not own the span.
enum class remote_free : std::uint8_t { done, was_free, left_full };

/// Status of a span in one word: its owner, or its place and span class; and two marks.
class span_status {
 public:
  static constexpr std::uintptr_t pending = 1;  ///< others have freed slots
  static constexpr std::uintptr_t tiny = 2;     ///< with an owner: a span of tiny blocks

  constexpr explicit span_status(std::uintptr_t bits) : bits_(bits) {}
  static constexpr span_status in(span_place p, unsigned span_class) {
    return span_status(static_cast<std::uintptr_t>(p) << 2 | std::uintptr_t{span_class} << 8);
  }
  /// cache: an address aligned to at least 64 bytes.
  static span_status of(const void* cache, unsigned span_class) {
    return span_status(reinterpret_cast<std::uintptr_t>(cache)
                       | (span_class == tiny_span_class ? tiny : 0));
  }

  constexpr std::uintptr_t bits() const { return bits_; }
  constexpr bool is_pending() const { return (bits_ & pending) != 0; }
  constexpr bool is_cached() const { return bits_ >= std::uintptr_t{1} << 16; }
  bool is_owned_by(const void* cache) const {
    return (bits_ & ~(pending | tiny)) == reinterpret_cast<std::uintptr_t>(cache);
  }
  constexpr span_place place() const {
    return is_cached() ? span_place::cached : static_cast<span_place>(bits_ >> 2 & 0x3f);
  }
  /// Only for a span without an owner.
  constexpr unsigned span_class() const { return static_cast<unsigned>(bits_ >> 8); }

 private:
  std::uintptr_t bits_;
};

}  // namespace warpheap
