#pragma once

// How the two sides share the heap's address space. Kernels take pages from the bottom and host
// code from the top, in arenas of 64 MiB, to keep memory that the GPU writes apart from memory that
// the host writes: a managed page that both write migrates back and forth.

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

/// Page numbers of the whole heap, for both users. Each user has a page allocator of its own, which
/// covers the arenas it owns. Beyond the first `pages` there may be runs of further pages, for the
/// host alone, in arenas that were added later and lie elsewhere; they have an allocator of their
/// own. When there are no unowned arenas left, arenas whose pages are all free change hands; only
/// after that does one user get pages in an arena of the other. Hence no request fails because of
/// the division alone, unless a run would have to cross from an arena with pages of one user into
/// one with pages of the other.
///
/// Not thread-safe: guarded by mheap's lock. Like page_allocator, it only does the bookkeeping.
class heap_arenas {
 public:
  /// For the pages [1, pages); page 0 is never handed out. Pages from first_far_page up to
  /// most_pages may be added later; with most_pages == 0, none.
  explicit heap_arenas(std::size_t pages, std::size_t most_pages = 0);
  /// The number of the first page that may be added to a heap of `pages` pages.
  static constexpr std::size_t first_far_page(std::size_t pages) {
    return bits::align_up(pages, arena_bytes / page_size);
  }

  /// n adjacent free pages, n >= 1; nothing if there are none. Unless from_the_other, none are
  /// taken from an arena of the other user that still has pages in use.
  page_allocation alloc(page_user user, std::size_t n, bool from_the_other = true);
  /// The n pages behind an allocated page, n >= 1, if they are free or can be taken into use now;
  /// otherwise nothing.
  page_allocation alloc_behind(std::size_t page, std::size_t n);
  /// The free pages of some aligned group of 64; empty when no page is free.
  page_cache alloc_to_cache(page_user user);

  /// Adds whole arenas of pages for the host, numbered after the last that were added. If
  /// `continues`, their addresses follow those of the pages before. Otherwise their first page is
  /// never handed out, so that no run of pages leads into them from the pages before, whose
  /// addresses are elsewhere. make_room_for_far must have made room to record that page.
  void add_far(std::size_t pages, bool continues);
  [[nodiscard]] bool make_room_for_far() { return far_fixed_.reserve(far_fixed_.size() + 1); }
  /// Whether a page is never handed out: because it separates runs, because it is the address of
  /// the object of size 0, or because there is no such page.
  bool is_fixed(std::size_t page) const;

  /// Frees pages that have been allocated, in whatever pieces (else aborts). scavenged: they have
  /// no memory.
  void free(std::size_t first, std::size_t n, bool scavenged = false);
  /// Gives back what is left in a page cache, which becomes empty.
  void flush(page_cache& cache);

  /// page_allocator::scavenge, on the host's pages first, so that kernels that want pages need not
  /// wait for their memory.
  template <class F>
  std::size_t scavenge(F&& decommit, std::size_t most = page_allocation::npos) {
    std::size_t released = far_ ? far_->scavenge(decommit, most) : 0;
    released += of(page_user::host).scavenge(decommit, most - released);
    return released + of(page_user::device).scavenge(decommit, most - released);
  }

  /// page_allocator::populate, in the allocators of both users.
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
  /// Pages of all chunks taken into use, except the fixed ones.
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
  /// Number of arenas that a user owns.
  std::size_t arenas(page_user user) const;
  /// Pages of an arena; the last one may have fewer.
  std::size_t arena_pages() const { return arena_chunks_ * chunk_pages; }
  /// Whether the user owns the page's arena; false if the arena is unowned.
  bool is_in_arena_of(page_user user, std::size_t page) const {
    return owner_[page / arena_pages()] == code(user);
  }

  /// Adjacent arenas of one user.
  struct arena_run {
    std::size_t first = 0;  ///< page
    std::size_t pages = 0;
    page_user user = page_user::device;
  };
  /// The lowest arenas that have changed owner and not yet been returned by this function; no pages
  /// when there are no more. O(1) in that case, else O(arenas).
  arena_run take_new_arenas();

 private:
  // An unowned arena is 0, as are the bytes of a new table.
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
  lazy_table<std::uint8_t> told_;   // the owner that take_new_arenas last returned
  bool untold_ = false;             // the two may differ
  // Unowned arenas: [low_, high_).
  std::size_t low_ = 0;
  std::size_t high_;
  // Chunks of a user's arenas that it has not taken into use yet.
  struct {
    std::size_t next = 0;
    std::size_t end = 0;
  } rest_[2];
  std::size_t grown_pages_ = 0;
  // The pages that were added. They have an allocator of their own, so that the host takes them
  // last, and the device never.
  const std::size_t most_pages_;
  std::optional<page_allocator> far_;
  std::size_t far_end_;
  sys_vector<std::size_t> far_fixed_;  // the first pages of runs
};

}  // namespace warpheap
