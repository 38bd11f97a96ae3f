#include "host/heap_arenas.hpp"

#include <algorithm>
#include <warpheap/bits.hpp>

namespace warpheap {

heap_arenas::heap_arenas(std::size_t pages, std::size_t most_pages)
    : pages_(pages),
      chunks_(bits::ceil_div(pages, chunk_pages)),
      arena_chunks_(warpheap::arena_chunks(chunks_)),
      allocators_{page_allocator(chunks_), page_allocator(chunks_)},
      owner_(bits::ceil_div(chunks_, arena_chunks_)),
      told_(owner_.size()),
      high_(owner_.size()),
      most_pages_(most_pages),
      far_end_(first_far_page(pages)) {
  if (most_pages > far_end_) far_.emplace(bits::ceil_div(most_pages, chunk_pages));
}

page_allocator& heap_arenas::owner_of_page(std::size_t page) {
  if (page >= pages_) {
    if (page < first_far_page(pages_) || page >= far_end_) fatal("a page freed is none");
    return *far_;
  }
  const std::uint8_t owner = owner_[page / arena_pages()];
  if (owner == nobody) fatal("a page freed lies in an arena that nobody has");
  return allocators_[owner - 1];
}

std::size_t heap_arenas::end_chunk(std::size_t arena) const {
  return std::min(chunks_, first_chunk(arena + 1));
}

std::size_t heap_arenas::arenas(page_user user) const {
  return static_cast<std::size_t>(
      std::count(owner_.data(), owner_.data() + owner_.size(), code(user)));
}

page_allocation heap_arenas::alloc(page_user user, std::size_t n, bool from_the_other) {
  page_allocation got = of(user).alloc(n);
  if (!got && (grow(user, n) || gather(user, n))) got = of(user).alloc(n);
  if (!got && far_ && user == page_user::host) got = far_->alloc(n);
  if (!got && from_the_other) got = of(other(user)).alloc(n);
  return got;
}

page_allocation heap_arenas::alloc_behind(std::size_t page, std::size_t n) {
  page_allocator& pages = owner_of_page(page);
  const std::size_t first = page + 1;
  const bool is_far = page >= pages_;
  const std::size_t end = is_far ? far_end_ : pages_;
  if (first > end || n > end - first) return {};
  if (!is_far) {
    // The pages have to be free as far as the owner's chunks are in use; beyond that, the owner
    // takes as many chunks as needed into use, from the unused rest of its arenas.
    const auto user = static_cast<page_user>(owner_[page / arena_pages()] - 1);
    auto& rest = rest_[static_cast<unsigned>(user)];
    const std::size_t grown = rest.next * chunk_pages;
    const std::size_t end_chunk = bits::ceil_div(first + n, chunk_pages);
    if (first <= grown && rest.next < end_chunk && end_chunk <= rest.end) {
      if (first < grown && !pages.is_free(first, grown - first)) return {};
      grow_chunks(user, rest.next, end_chunk - rest.next);
      rest.next = end_chunk;
    }
  }
  if (!pages.is_free(first, n)) return {};
  return {first, pages.allocate_range(first, n)};
}

page_cache heap_arenas::alloc_to_cache(page_user user) {
  if (of(user).free_pages() != 0 || grow(user, 1) || gather(user, 1))
    return of(user).alloc_to_cache();
  if (far_ && user == page_user::host && far_->free_pages() != 0) return far_->alloc_to_cache();
  return of(other(user)).alloc_to_cache();
}

void heap_arenas::free(std::size_t first, std::size_t n, bool scavenged) {
  // The device may give back in one piece what came in several, from arenas of either user.
  while (n > 0) {
    page_allocator& owner = owner_of_page(first);
    if (far_ && &owner == &*far_) return owner.free(first, n, scavenged);
    std::size_t end = first;
    do {
      end = (end / arena_pages() + 1) * arena_pages();
    } while (end < first + n && &owner_of_page(end) == &owner);
    const std::size_t here = std::min(n, end - first);
    owner.free(first, here, scavenged);
    first += here;
    n -= here;
  }
}

void heap_arenas::flush(page_cache& cache) {
  if (!cache.empty()) cache.flush(owner_of_page(cache.base()));
}

void heap_arenas::add_far(std::size_t pages, bool continues) {
  const std::size_t first = far_end_;
  if (pages % (arena_bytes / page_size) != 0 || first + pages > most_pages_)
    fatal("no such pages can be added");
  if (!continues && !far_fixed_.push_back(first)) fatal("no room was made for pages");
  far_end_ += pages;
  far_->grow(first / chunk_pages, pages / chunk_pages);
  grown_pages_ += pages;
  if (continues) return;
  far_->allocate_range(first, 1);
  --grown_pages_;
}

bool heap_arenas::is_fixed(std::size_t page) const {
  if (page < pages_) return page == 0;
  return page < first_far_page(pages_) || page >= far_end_
         || std::find(far_fixed_.begin(), far_fixed_.end(), page) != far_fixed_.end();
}

/// The summary of a chunk without objects.
page_summary heap_arenas::fresh(std::size_t chunk) const {
  const std::size_t fixed = chunk == 0 ? 1 : 0;
  const std::size_t end = std::min<std::size_t>(pages_ - chunk * chunk_pages, chunk_pages);
  return page_summary::pack(fixed == 0 ? end : 0, end - fixed,
                            end == chunk_pages ? end - fixed : 0);
}

/// Whether an owned arena has no page in use. All its chunks must have been taken into use.
bool heap_arenas::all_free(std::size_t arena) const {
  const page_allocator& owner = allocators_[owner_[arena] - 1];
  for (std::size_t c = first_chunk(arena); c < end_chunk(arena); ++c)
    if (!(owner.summary(page_allocator::levels - 1, c) == fresh(c))) return false;
  return true;
}

heap_arenas::arena_run heap_arenas::take_new_arenas() {
  if (!untold_) return {};
  std::size_t first = 0;
  while (first < owner_.size() && told_[first] == owner_[first]) ++first;
  std::size_t end = first;
  for (; end < owner_.size() && told_[end] != owner_[end] && owner_[end] == owner_[first]; ++end)
    told_[end] = owner_[end];
  untold_ = end < owner_.size();
  if (first == end) return {};
  const std::size_t page = first * arena_pages();
  return {page, std::min(end * arena_pages(), pages_) - page,
          owner_[first] == code(page_user::device) ? page_user::device : page_user::host};
}

void heap_arenas::grow_chunks(page_user user, std::size_t first, std::size_t n) {
  if (n == 0) return;
  const std::size_t page = first * chunk_pages;
  const std::size_t end = page + n * chunk_pages;
  of(user).grow(first, n);
  grown_pages_ += std::min(end, pages_) - page;
  if (first == 0) {
    of(user).allocate_range(0, 1);  // the address of objects of size 0
    --grown_pages_;
  }
  if (end > pages_) of(user).allocate_range(pages_, end - pages_);
}

void heap_arenas::grow_rest(page_user user) {
  auto& rest = rest_[static_cast<unsigned>(user)];
  grow_chunks(user, rest.next, rest.end - rest.next);
  rest.next = rest.end;
}

/// Takes arenas at either end of the unowned ones.
void heap_arenas::claim(page_user user, std::size_t first_arena, std::size_t n) {
  std::fill_n(owner_.data() + first_arena, n, code(user));
  untold_ = true;
  if (first_arena == low_)
    low_ += n;
  else
    high_ -= n;
}

/// Takes chunks for n pages into use, in the user's own or unowned arenas. The rest of an arena is
/// taken into use before a run begins elsewhere. (Go: mheap.grow.)
bool heap_arenas::grow(page_user user, std::size_t n) {
  auto& rest = rest_[static_cast<unsigned>(user)];
  const std::size_t wanted = bits::ceil_div(n, chunk_pages);
  if (rest.end - rest.next < wanted) {
    const bool upwards = user == page_user::device;
    const bool continues = upwards && rest.end == std::min(chunks_, first_chunk(low_));
    const std::size_t missing = continues ? wanted - (rest.end - rest.next) : wanted;
    const std::size_t most = high_ - low_;
    std::size_t count = bits::ceil_div(missing, arena_chunks_);
    if (count > most) return false;
    std::size_t first = upwards ? low_ : high_ - count;
    // The last arena of the heap may be a short one.
    if (end_chunk(first + count - 1) - first_chunk(first) < missing) {
      if (++count > most) return false;
      if (!upwards) --first;
    }
    if (!continues) {
      grow_rest(user);
      rest.next = first_chunk(first);
    }
    claim(user, first, count);
    rest.end = end_chunk(first + count - 1);
  }
  grow_chunks(user, rest.next, wanted);
  rest.next += wanted;
  return true;
}

/// Finds the first run of n pages that consists of the user's free pages, unowned arenas, and
/// arenas of the other user in which all pages are free, and makes all of it the user's.
bool heap_arenas::gather(page_user user, std::size_t n) {
  grow_rest(page_user::device);
  grow_rest(page_user::host);
  const std::uint8_t mine = code(user);
  std::size_t run = 0;  // free pages just before the current chunk
  std::size_t first = 0;
  std::size_t last = 0;
  bool to_be_had = false;
  for (std::size_t c = 0; c < chunks_ && last == 0; ++c) {
    const std::size_t arena = c / arena_chunks_;
    if (c == first_chunk(arena)) to_be_had = owner_[arena] == nobody || all_free(arena);
    const page_summary s = to_be_had               ? fresh(c)
                           : owner_[arena] == mine ? of(user).summary(page_allocator::levels - 1, c)
                                                   : page_summary();
    if (run + s.start() >= n) {
      first = (c * chunk_pages - run) / arena_pages();
      last = arena + 1;
    } else if (s.longest() >= n) {
      first = arena;
      last = arena + 1;
    }
    run = s.end() == chunk_pages ? run + chunk_pages : s.end();
  }
  for (std::size_t arena = first; arena < last; ++arena) {
    const std::size_t chunk = first_chunk(arena);
    const std::size_t count = end_chunk(arena) - chunk;
    if (owner_[arena] == nobody) {
      claim(user, arena, 1);
      grow_chunks(user, chunk, count);
    } else if (owner_[arena] != mine) {
      of(other(user)).hand_over(chunk, count, of(user));
      owner_[arena] = mine;
      untold_ = true;
    }
  }
  return last != 0;
}

}  // namespace warpheap
