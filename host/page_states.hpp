#pragma once

// What the system knows of each page of the reservation. (Go: the states of mem.go.)
//
//   reserved --map--> prepared --used--> ready --unused--> prepared
//                                        ready --fault---> faulted --unfault--> prepared
//
// A reserved page is an address, and touching it is a signal where the system can do that; a
// prepared one has no memory, as it was never used or gave it back; a ready one may be touched, and
// holds memory; a faulted one cannot be touched. Pages outside of the reservation are none of
// these. Every change of a page goes through here, and one along another edge aborts.

#include <array>
#include <cstddef>
#include <cstdint>

#include "host/persistentalloc.hpp"

namespace warpheap {

enum class page_state : std::uint8_t { reserved, prepared, ready, faulted };
inline constexpr unsigned page_state_count = 4;

/// A page's state is its owner's to change: the thread that allocated it, or who holds mheap's
/// lock, as does who maps it.
class page_states {
 public:
  explicit page_states(std::size_t pages) : states_(pages) {}

  void map(std::size_t first, std::size_t n) {
    change(first, n, page_state::reserved, page_state::prepared);
  }
  /// Of n pages, those that are not ready become it. Their number must be as said (else aborts): it
  /// is what the scavenged bits have.
  void used(std::size_t first, std::size_t n, std::size_t fresh) {
    std::size_t changed = 0;
    for (std::size_t i = first; i < first + n; ++i) {
      if (get(i) != page_state::prepared && get(i) != page_state::ready) illegal();
      changed += get(i) != page_state::ready;
      set(i, page_state::ready);
    }
    if (changed != fresh) fatal("page states: the scavenged bits are not those of the pages");
  }
  /// Ready pages give their memory back.
  void unused(std::size_t first, std::size_t n) {
    change(first, n, page_state::ready, page_state::prepared);
  }
  void fault(std::size_t first, std::size_t n) {
    change(first, n, page_state::ready, page_state::faulted);
  }
  void unfault(std::size_t first, std::size_t n) {
    change(first, n, page_state::faulted, page_state::prepared);
  }

  void populate(std::size_t first, std::size_t n) { states_.populate(first, n); }

  page_state get(std::size_t page) const { return static_cast<page_state>(states_[page]); }
  /// Pages in each state. O(pages), while none changes.
  std::array<std::size_t, page_state_count> count() const {
    std::array<std::size_t, page_state_count> n{};
    for (std::size_t i = 0; i < states_.size(); ++i) ++n[states_[i]];
    return n;
  }

 private:
  [[noreturn]] static void illegal() { fatal("page states: illegal change"); }
  void set(std::size_t page, page_state to) { states_[page] = static_cast<std::uint8_t>(to); }
  void change(std::size_t first, std::size_t n, page_state from, page_state to) {
    for (std::size_t i = first; i < first + n; ++i) {
      if (get(i) != from) illegal();
      set(i, to);
    }
  }

  lazy_table<std::uint8_t> states_;
};

}  // namespace warpheap
