#pragma once

// How the two sides share the heap's address space. Kernels take pages from the bottom and host
// code from the top, in arenas of 64 MiB each, so that memory which a GPU and the host write lies
// apart: a managed page that both write goes back and forth.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <warpheap/bits.hpp>
#include <warpheap/layout.hpp>

#include "host/page_allocator.hpp"
#include "host/page_cache.hpp"

namespace warpheap {

/// Who uses pages.
enum class page_user : std::uint8_t { device, host };

/// Page numbers of the whole heap, for both users. Beyond the first `pages`, there may be runs of
/// further ones that the host alone uses: of arenas that came later and lie elsewhere. Each has a
/// page allocator of its own, which covers the arenas that are its. When the arenas that nobody has
/// are used up, those change hands in which all pages are free; only after that does one user get
/// pages in an arena of the other. Hence no request fails for the division alone, unless a run
/// would have to cross from an arena with pages of one user into one with pages of the other.
///
/// Not thread-safe: mheap's lock guards it. Keeps the books only, as page_allocator does.
class heap_arenas {
 public:
  /// For the pages [1, pages); page 0 is never handed out. Pages from first_far_page up to
  /// most_pages may be added; most_pages of 0: none.
  explicit heap_arenas(std::size_t pages, std::size_t most_pages = 0);
  /// Number of the first page that may be added, of a heap of so many pages.
  static constexpr std::size_t first_far_page(std::size_t pages) {
    return bits::align_up(pages, arena_bytes / page_size);
  }

  /// n free pages in a row, n >= 1. Nothing if there are none, or none without pages in an arena of
  /// the other user when those are not wanted.
  page_allocation alloc(page_user user, std::size_t n, bool from_the_other = true);
  /// The n pages behind an allocated one, n >= 1, if they are free, or were not in use so far and
  /// can be had now. Else nothing.
  page_allocation alloc_behind(std::size_t page, std::size_t n);
  /// The free pages among 64 aligned ones; empty when no page is free.
  page_cache alloc_to_cache(page_user user);

  /// Adds whole arenas of pages for the host, which follow the last that were added, or are the
  /// first. No run of pages leads into them from those before, whose addresses are elsewhere,
  /// unless it is said to continue them: their first page is never handed out then. There must be
  /// room for the note of that, which is made before.
  void add_far(std::size_t pages, bool continues);
  [[nodiscard]] bool make_room_for_far() { return far_fixed_.reserve(far_fixed_.size() + 1); }
  /// Pages that nobody is ever given, for the sake of runs and of the object of size 0, or because
  /// there is no such page.
  bool is_fixed(std::size_t page) const;

  /// Frees pages, all allocated before, in whatever pieces (else aborts). scavenged: they have no
  /// memory.
  void free(std::size_t first, std::size_t n, bool scavenged = false);
  /// Gives what is left in a page cache back; it becomes empty.
  void flush(page_cache& cache);

  /// page_allocator::scavenge, on the host's pages first: kernels that want pages do not wait for
  /// their memory then.
  template <class F>
  std::size_t scavenge(F&& decommit, std::size_t most = page_allocation::npos) {
    std::size_t released = far_ ? far_->scavenge(decommit, most) : 0;
    released += of(page_user::host).scavenge(decommit, most - released);
    return released + of(page_user::device).scavenge(decommit, most - released);
  }

  /// page_allocator::populate, for both users of the reservation.
  void populate(std::size_t first, std::size_t n) {
    for (page_allocator& pages : allocators_) pages.populate(first, n);
  }

  std::size_t free_pages() const {
    return of(page_user::device).free_pages() + of(page_user::host).free_pages()
           + (far_ ? far_->free_pages() : 0);
  }
  std::size_t scavenged_pages() const {
    return of(page_user::device).scavenged_pages() + of(page_user::host).scavenged_pages()
           + (far_ ? far_->scavenged_pages() : 0);
  }
  std::size_t idle_pages() const { return free_pages() - scavenged_pages(); }
  /// Pages of all chunks taken into use, but for the fixed ones.
  std::size_t grown_pages() const { return grown_pages_; }
  /// f(chunk, its bits) for each chunk taken into use.
  template <class F>
  void for_each_chunk(F&& f) const {
    const auto visit = [&](const page_allocator& pages) {
      for (const page_allocator::chunk_range range : pages.in_use()) {
        for (std::size_t c = range.first; c < range.last; ++c) f(c, pages.chunk(c));
      }
    };
    for (const page_allocator& pages : allocators_) visit(pages);
    if (far_) visit(*far_);
  }
  /// Arenas that a user has.
  std::size_t arenas(page_user user) const;
  /// Pages of an arena; the last one may have fewer.
  std::size_t arena_pages() const { return arena_chunks_ * chunk_pages; }
  /// Whose arena the page is in; false when nobody has taken that arena yet.
  bool is_in_arena_of(page_user user, std::size_t page) const {
    return owner_[page / arena_pages()] == code(user);
  }

  /// Arenas in a row of one user.
  struct arena_run {
    std::size_t first = 0;  ///< page
    std::size_t pages = 0;
    page_user user = page_user::device;
  };
  /// The lowest arenas that have come to a user since calls of this told of them; no pages when
  /// there are none any more. O(1) then, else O(arenas).
  arena_run take_new_arenas();

 private:
  // An arena of nobody's is 0, as are the bytes of a new table.
  static constexpr std::uint8_t nobody = 0;
  static constexpr std::uint8_t code(page_user user) {
    return static_cast<std::uint8_t>(static_cast<unsigned>(user) + 1);
  }
  static constexpr page_user other(page_user user) {
    return user == page_user::device ? page_user::host : page_user::device;
  }
  page_allocator& of(page_user user) { return allocators_[static_cast<unsigned>(user)]; }
  const page_allocator& of(page_user user) const {
    return allocators_[static_cast<unsigned>(user)];
  }
  page_allocator& owner_of_page(std::size_t page);

  std::size_t first_chunk(std::size_t arena) const { return arena * arena_chunks_; }
  std::size_t end_chunk(std::size_t arena) const;
  page_summary fresh(std::size_t chunk) const;
  bool all_free(std::size_t arena) const;

  void grow_chunks(page_user user, std::size_t first, std::size_t n);
  void grow_rest(page_user user);
  void claim(page_user user, std::size_t first_arena, std::size_t n);
  bool grow(page_user user, std::size_t n);
  bool gather(page_user user, std::size_t n);

  const std::size_t pages_;
  const std::size_t chunks_;
  const std::size_t arena_chunks_;
  std::array<page_allocator, 2> allocators_;
  lazy_table<std::uint8_t> owner_;  // by arena
  lazy_table<std::uint8_t> told_;   // the owner that take_new_arenas told of
  bool untold_ = false;             // they may differ
  // Arenas of nobody: [low_, high_).
  std::size_t low_ = 0;
  std::size_t high_;
  // Chunks of arenas that a user has and has not taken into use.
  struct {
    std::size_t next = 0;
    std::size_t end = 0;
  } rest_[2];
  std::size_t grown_pages_ = 0;
  // Of the pages that were added. Their numbers are those of an allocator of its own, so that they
  // are the last that the host takes, and none that the device does.
  const std::size_t most_pages_;
  std::optional<page_allocator> far_;
  std::size_t far_end_;
  sys_vector<std::size_t> far_fixed_;  // the first pages of runs
};

}  // namespace warpheap
