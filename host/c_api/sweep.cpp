// The C functions for mark and sweep.
#include "host/c_api/heap.hpp"

namespace {

using namespace warpheap;
using namespace warpheap::c_api;

static_assert(sweep_report::tiny_objects == WARPHEAP_CLASSES);
static_assert(static_cast<int>(mark_status::marked) == WARPHEAP_MARKED
              && static_cast<int>(mark_status::again) == WARPHEAP_MARK_AGAIN
              && static_cast<int>(mark_status::dangling) == WARPHEAP_MARK_DANGLING
              && static_cast<int>(mark_status::device) == WARPHEAP_MARK_DEVICE
              && static_cast<int>(mark_status::foreign) == WARPHEAP_MARK_FOREIGN);

/// Reads the part of the report that the caller fills in. False: it cannot be used.
bool read_lists(const warpheap_sweep_report* given, warpheap_sweep_report& lists) {
  if (given == nullptr) return true;
  if (no_struct(given)) return false;
  std::memcpy(&lists, given, common_size<warpheap_sweep_report>(given->struct_size));
  if ((lists.leaks != nullptr || lists.leaks_capacity == 0)
      && (lists.dangling_pointers != nullptr || lists.dangling_capacity == 0)) {
    return true;
  }
  fail(EINVAL, "a list of NULL has a capacity");
  return false;
}

/// The result of mark() as C gets it.
template <class F>
int marked(const warpheap_heap* heap, F&& mark) noexcept {
  if (no_heap(heap)) return -1;
  return guarded(-1, ENOTSUP, [&] {
    const mark_status status = mark();
    if (status != mark_status::no_memory) return static_cast<int>(status);
    fail(ENOMEM, "there is no memory for the mark: the next sweep frees nothing");
    return -1;
  });
}

void fill(warpheap_sweep_report& to, const sweep_report& from) {
  to.leaks_listed = std::min(to.leaks_capacity, from.leaks.size());
  for (std::size_t i = 0; i < to.leaks_listed; ++i)
    to.leaks[i] = {from.leaks[i].address, from.leaks[i].bytes, from.leaks[i].size_class};
  to.dangling_listed = std::min(to.dangling_capacity, from.dangling_pointers.size());
  std::copy_n(from.dangling_pointers.begin(), to.dangling_listed, to.dangling_pointers);
  to.kept_objects = from.kept.objects;
  to.kept_bytes = from.kept.bytes;
  to.leaked_objects = from.leaked.objects;
  to.leaked_bytes = from.leaked.bytes;
  to.dangling = from.dangling;
  for (unsigned c = 0; c <= WARPHEAP_CLASSES; ++c) {
    to.leaked_by_class[c].objects = from.leaked_by_class[c].objects;
    to.leaked_by_class[c].bytes = from.leaked_by_class[c].bytes;
  }
}

/// The result of a sweep as C gets it.
template <class F>
int swept(warpheap_heap* heap, warpheap_sweep_report* report, F&& sweep) noexcept {
  warpheap_sweep_report c{};
  // A heap in which even marking NULL fails cannot sweep either.
  if (no_heap(heap) || !read_lists(report, c) || warpheap_mark(heap, nullptr) < 0) return -1;
  return guarded(-1, EIO, [&] {
    const sweep_report found = sweep(c.leaks_capacity);
    if (!found.complete) {
      fail(EAGAIN, "there was no memory for a mark: nothing was freed");
      return -1;
    }
    fill(c, found);
    if (report != nullptr) copy_out(report, c);
    return 0;
  });
}

}  // namespace

extern "C" {

int warpheap_mark(warpheap_heap* heap, const void* p) {
  return marked(heap, [&] { return heap->heap.mark(p); });
}

int warpheap_mark_reachable(warpheap_heap* heap, const void* p) {
  return marked(heap, [&] { return heap->heap.mark_reachable(p); });
}

int warpheap_sweep(warpheap_heap* heap, warpheap_sweep_report* report) {
  return swept(heap, report, [&](std::size_t listed) { return heap->heap.sweep(listed); });
}

int warpheap_begin_device_marks(warpheap_heap* heap) {
  if (no_heap(heap) || warpheap_mark(heap, nullptr) < 0) return -1;
  return guarded(-1, EIO, [&] {
    heap->heap.begin_device_marks();
    return 0;
  });
}

int warpheap_sweep_device(warpheap_heap* heap, warpheap_sweep_report* report) {
  return swept(heap, report, [&](std::size_t listed) { return heap->heap.sweep_device(listed); });
}

}  // extern "C"
