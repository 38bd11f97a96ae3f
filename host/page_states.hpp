#pragma once

// The state of each page of the reservation, as the system sees it. (Go: the states of mem.go.)
//
//   reserved --map--> prepared --used--> ready --unused--> prepared
//                                        ready --fault---> faulted --unfault--> prepared
//
// A reserved page is only an address, and touching it is a signal where the system can do that; a
// prepared page has no memory, as it was never used or gave its memory back; a ready page may be
// touched, and holds memory; a faulted page cannot be touched. Pages outside the reservation are in
// none of these states. Every change goes through here; one along another edge aborts.

#include <array>
#include <cstddef>
#include <cstdint>

#include "host/persistentalloc.hpp"

namespace warpheap {

enum class page_state : std::uint8_t { reserved, prepared, ready, faulted };
inline constexpr unsigned page_state_count = 4;

/// A page's state may be changed by the thread that allocated the page, or under mheap's lock,
/// which is also held for mapping.
class page_states {
 public:
  explicit page_states(std::size_t pages) : states_(pages) {}

  void map(std::size_t first, std::size_t n) {
    change(first, n, page_state::reserved, page_state::prepared);
  }
  /// Makes ready those of n pages that are not. Their number must be `fresh` (else aborts), which
  /// comes from the scavenged bits.
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
  /// The number of pages in each state. O(pages), while none changes.
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
