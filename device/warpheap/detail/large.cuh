// Objects above 32 KiB: whole pages, one object, one lane at a time. And what kernels do with
// pointers that are not the device's.
#pragma once

#include <warpheap/detail/span_search.cuh>

namespace warpheap {
inline namespace WARPHEAP_BACKEND_NS {
namespace core {

/// Runs up to this many pages come by way of the stock, longer ones straight from the host.
inline constexpr std::uint32_t stock_run_limit = chunk_pages;

/// Makes n pages that the caller owns into one object. Inner pages keep the entry of a free page,
/// so that a pointer into the object is never taken for an object.
__device__ inline void* make_large(const heap_view& h, page_index p, std::uint32_t n) {
  atomic::store<order::relaxed>(h.entry + p, page_entry::make(large_class, n).bits);
  count(h.state->large_objects);
  count(h.state->large_pages, n);
  return h.base + (std::uint64_t{p} << page_shift);
}

/// Whole pages for `size` bytes, nullptr when there are none.
WARPHEAP_SLOW_PATH void* malloc_pages(const heap_view& h, std::uint64_t size) {
  const std::uint64_t pages = size / page_size + (size % page_size != 0);
  if (pages >= h.pages || pages > page_entry::max_value) return nullptr;
  const auto n = static_cast<std::uint32_t>(pages);
  std::uint64_t seen = gives_so_far(h);
  page_index p = n <= stock_run_limit ? get_pages(h, n) : take_pages(h, n);
  if (p == 0 && n > stock_run_limit) {
    const page_run run = request_run(h, n);
    mark_device_pages(h, run);
    count(h.state->device_pages, run.count);
    p = run.count != 0 ? run.first : scan_stock(h, n);
  }
  for (unsigned i = 0; p == 0 && i < max_reclaims && reclaim_or_await(h, seen); ++i)
    if ((p = take_pages(h, n)) == 0) p = scan_stock(h, n);
  return p != 0 ? make_large(h, p, n) : nullptr;
}

/// The same with the first byte at a multiple of `align`, a power of two above a page: a longer
/// run, whose ends go to the stock.
WARPHEAP_SLOW_PATH void* malloc_pages_aligned(const heap_view& h, std::uint64_t size,
                                              std::uint64_t align) {
  if (align > h.bytes || size > h.bytes) return nullptr;
  std::byte* const run = static_cast<std::byte*>(malloc_pages(h, size + align - page_size));
  if (run == nullptr) return nullptr;
  const std::uint64_t address = reinterpret_cast<std::uint64_t>(run);
  const auto head =
      static_cast<std::uint32_t>((bits::align_up(address, align) - address) >> page_shift);
  const auto first =
      static_cast<page_index>(static_cast<std::uint64_t>(run - h.base) >> page_shift);
  const page_entry e{atomic::load<order::relaxed>(h.entry + first)};
  const auto n = static_cast<std::uint32_t>(bits::ceil_div(size, page_size));
  const page_index p = first + head;
  // The caller owns the whole run, and nobody knows its address yet.
  atomic::store<order::relaxed>(h.entry + p, page_entry::make(large_class, n).bits);
  atomic::fetch_add<order::relaxed>(&h.state->large_pages.value, 0 - std::uint64_t{e.value() - n});
  if (head != 0) release_pages(h, {first, head});
  if (head + n < e.value()) release_pages(h, {p + n, e.value() - head - n});
  return h.base + (std::uint64_t{p} << page_shift);
}

/// Makes the large object with head p and entry e one of n pages where it lies; false when the
/// pages behind it are not free. Nothing else may use the object meanwhile. `rest`: the pages that
/// the object has no more, for the caller to release.
WARPHEAP_SLOW_PATH bool resize_large(const heap_view& h, page_index p, page_entry e,
                                     std::uint32_t n, page_run& rest) {
  const std::uint32_t old = e.value();
  if (n > old) {
    if (h.pages - p < n || !claim_run(h, p + old, n - old)) return false;
    atomic::fetch_add<order::relaxed>(&h.state->stock_pages.value, 0 - std::uint64_t{n - old});
  }
  std::uint32_t expected = e.bits;
  // Fails only when another thread frees the object in the middle of this call.
  if (!atomic::compare_exchange<order::relaxed>(h.entry + p, expected,
                                                page_entry::make(large_class, n).bits)) {
    if (n > old) release_pages(h, {p + old, n - old});
    return false;
  }
  count(h.state->large_pages, std::uint64_t{n} - old);
  if (n < old) rest = {p + n, old - n};
  return true;
}

/// Frees the large object whose first page is p. The entry's compare-and-swap has one winner, who
/// gets true.
WARPHEAP_SLOW_PATH bool free_large(const heap_view& h, page_index p, page_entry e,
                                   std::uint64_t address) {
  std::uint32_t expected = e.bits;
  // Release: the owner's writes come before the pages' next use (with give_pages' release).
  if (!atomic::compare_exchange<order::release>(h.entry + p, expected,
                                                page_entry::make(stock_class, 0).bits)) {
    report(h, error_kind::double_free, address);
    return false;
  }
  atomic::fetch_add<order::relaxed>(&h.state->large_objects.value, ~std::uint64_t{0});
  atomic::fetch_add<order::relaxed>(&h.state->large_pages.value, 0 - std::uint64_t{e.value()});
  release_pages(h, {p, e.value()});
  return true;
}

/// A pointer into pages that are the host's, or nobody's: the host decides what it is. The free
/// becomes a bit, one for each byte address, in the mask words that the page does not use as it is
/// not a device span; list 0 says which pages have such bits. No queue, so no free is ever refused
/// or waits, and a second one is seen at once as long as the first has not been collected: false.
/// What is not told apart: a free of a dead object that finds the page the host's and sets its bit
/// when the page is one of tiny objects already. A block of these is then not used again, and the
/// next free of the same address passes for one of an object.
WARPHEAP_SLOW_PATH bool free_host_object(const heap_view& h, std::uint64_t offset) {
  const auto page = static_cast<page_index>(offset >> page_shift);
  const std::uint32_t bit = 1u << (offset & 31);
  // Release: the kernel's writes to the object come before the host's next use of it.
  const std::uint32_t old = atomic::fetch_or<order::release>(h.tiny_mask + offset / 32, bit);
  if ((old & bit) != 0) {
    report(h, error_kind::double_free, reinterpret_cast<std::uint64_t>(h.base) + offset);
    return false;
  }
  summary(h.has_free_of(no_class), h.pages).set(page);
  // The mark first and then the look at the flag, as the host clears the flag first and then looks
  // for marks. Without both fences each could miss what the other does.
  atomic::fence();
  std::uint32_t* pending = &h.queue->host_frees_pending;
  if (atomic::load<order::relaxed, scope::system>(pending) == 0)
    atomic::store<order::relaxed, scope::system>(pending, 1u);
  return true;
}

/// The host's part, before it looks for pages with marks: from here on a free sets the flag again.
WARPHEAP_HD inline void begin_collecting(const heap_view& h) {
  atomic::store<order::relaxed, scope::system>(&h.queue->host_frees_pending, 0u);
  atomic::fence();
}

}  // namespace core
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap
