// The C functions on heaps and objects, each a thin wrapper of warpheap::heap.
#include <fcntl.h>
#include <unistd.h>
#include <cstdio>
#include <optional>
#include <warpheap/backend.hpp>
#include <warpheap/bits.hpp>

#include "host/c_api/heap.hpp"

namespace warpheap::c_api {

namespace {
// An array, so that a message about a lack of memory needs no memory.
thread_local char last_error[512];
}  // namespace

void fail(int number, const char* text) noexcept {
  std::snprintf(last_error, sizeof last_error, "%s", text);
  errno = number;
}

}  // namespace warpheap::c_api

namespace {

using namespace warpheap;
using namespace warpheap::c_api;

void* or_no_memory(void* p) {
  if (p == nullptr) fail(ENOMEM, "the heap has no memory for this object");
  return p;
}

void* aligned(warpheap_heap* heap, size_t alignment, size_t size, contents kind) {
  if (no_heap(heap)) return nullptr;
  if (!bits::is_power_of_two(alignment)) {
    fail(EINVAL, "the alignment is no power of two");
    return nullptr;
  }
  return or_no_memory(heap->heap.aligned_alloc(alignment, size, kind));
}

std::string name_of(const char* file) { return file == nullptr ? std::string() : file; }

/// The system's errno if a file cannot be written; 0 if it can.
int why_not_written(const std::string& file) {
  if (file.empty()) return 0;
  const int opened = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK, 0666);
  return opened < 0 ? errno : (close(opened), 0);
}

std::optional<heap_options> converted(const warpheap_options* given) {
  warpheap_options o;
  warpheap_options_init(&o);
  if (given != nullptr) {
    if (given->struct_size < sizeof(std::size_t)) {
      fail(EINVAL, "warpheap_options::struct_size was not set: call warpheap_options_init");
      return std::nullopt;
    }
    std::memcpy(&o, given, common_size<warpheap_options>(given->struct_size));
  }
  heap_options options;
  switch (o.backend) {
    case WARPHEAP_BACKEND_AUTOMATIC: options.backend = backend_kind::automatic; break;
    case WARPHEAP_BACKEND_CUDA: options.backend = backend_kind::cuda; break;
    case WARPHEAP_BACKEND_SIMT: options.backend = backend_kind::simt; break;
    default: fail(EINVAL, "warpheap_options::backend is none of WARPHEAP_BACKEND_..."); return {};
  }
  options.reserve_bytes = o.reserve_bytes;
  options.initial_stock_bytes = o.initial_stock_bytes;
  options.refill_timeout_ns = o.refill_timeout_ns;
  options.refill_service = o.refill_service != 0;
  options.report_leaks = o.report_leaks != 0;
  if (o.on_report != nullptr) {
    options.on_report = [call = o.on_report, context = o.report_context](const std::string& line) {
      call(context, line.c_str());
    };
  }
  options.memory_limit = o.memory_limit;
  options.scavenge = o.scavenge != 0;
  options.device_events = o.device_events;
  options.print_state_file = name_of(o.print_state_file);
  options.profile_file = name_of(o.profile_file);
  options.trace_file = name_of(o.trace_file);
  options.profile_rate = o.profile_rate;
  options.quarantine_bytes = o.quarantine_bytes;
  options.annotate = o.annotate != 0;
  options.red_zones = o.red_zones != 0;
  options.clobber_free = o.clobber_free != 0;
  options.efence = o.efence != 0;
  options.sbrk = o.sbrk != 0;
  options.least_reserve_bytes = o.least_reserve_bytes;
  return options;
}

}  // namespace

extern "C" {

int warpheap_version(void) { return WARPHEAP_VERSION; }

void warpheap_options_init(warpheap_options* options) {
  if (options == nullptr) return;
  const heap_options defaults;
  *options = {};
  options->struct_size = sizeof *options;
  options->reserve_bytes = defaults.reserve_bytes;
  options->initial_stock_bytes = defaults.initial_stock_bytes;
  options->refill_timeout_ns = defaults.refill_timeout_ns;
  options->backend = WARPHEAP_BACKEND_AUTOMATIC;
  options->refill_service = defaults.refill_service ? 1 : 0;
  options->report_leaks = defaults.report_leaks ? 1 : 0;
  options->scavenge = defaults.scavenge ? 1 : 0;
}

warpheap_heap* warpheap_create(const warpheap_options* given) {
  return guarded<warpheap_heap*>(nullptr, EINVAL, [&]() -> warpheap_heap* {
    std::optional<heap_options> options = converted(given);
    if (!options) return nullptr;
    const heap_options effective = options->with_environment();
    effective.validate();
    if (effective.backend == backend_kind::cuda) {
      if (const std::string reason = why_no_cuda(); !reason.empty()) {
        fail(ENODEV, reason.c_str());
        return nullptr;
      }
    }
    auto* const made = guarded<warpheap_heap*>(
        nullptr, ENOMEM, [&] { return new warpheap_heap(std::move(*options)); });
    if (made == nullptr) {
      if (const int reason = why_not_written(effective.trace_file); reason != 0) errno = reason;
    }
    return made;
  });
}

void warpheap_destroy(warpheap_heap* heap) { delete heap; }

void* warpheap_malloc(warpheap_heap* heap, size_t size) {
  return no_heap(heap) ? nullptr : or_no_memory(heap->heap.malloc(size));
}

void* warpheap_malloc_pointers(warpheap_heap* heap, size_t size) {
  return no_heap(heap) ? nullptr : or_no_memory(heap->heap.malloc(size, contents::pointers));
}

void* warpheap_calloc(warpheap_heap* heap, size_t count, size_t size) {
  return no_heap(heap) ? nullptr : or_no_memory(heap->heap.calloc(count, size));
}

void* warpheap_calloc_pointers(warpheap_heap* heap, size_t count, size_t size) {
  return no_heap(heap) ? nullptr : or_no_memory(heap->heap.calloc(count, size, contents::pointers));
}

void* warpheap_aligned_alloc(warpheap_heap* heap, size_t alignment, size_t size) {
  return aligned(heap, alignment, size, contents::no_pointers);
}

void* warpheap_aligned_alloc_pointers(warpheap_heap* heap, size_t alignment, size_t size) {
  return aligned(heap, alignment, size, contents::pointers);
}

void* warpheap_realloc(warpheap_heap* heap, void* p, size_t size) {
  if (no_heap(heap)) return nullptr;
  void* moved = heap->heap.realloc(p, size);
  if (moved != nullptr) return moved;
  if (p != nullptr && heap->heap.usable_size(p) == 0)
    fail(EINVAL, "realloc of what is no live object of the host");
  else
    (void)or_no_memory(nullptr);
  return nullptr;
}

void warpheap_free(warpheap_heap* heap, void* p) {
  if (no_heap(heap)) return;
  const int before = errno;
  heap->heap.free(p);
  errno = before;
}

size_t warpheap_usable_size(const warpheap_heap* heap, const void* p) {
  return no_heap(heap) ? 0 : heap->heap.usable_size(p);
}

int warpheap_synchronize(warpheap_heap* heap) {
  if (no_heap(heap)) return -1;
  return guarded(-1, EIO, [&] {
    heap->heap.synchronize();
    return 0;
  });
}

size_t warpheap_trim(warpheap_heap* heap) {
  if (no_heap(heap)) return 0;
  return guarded(std::size_t{0}, EIO, [&] { return heap->heap.trim(); });
}

int warpheap_set_memory_limit(warpheap_heap* heap, size_t bytes) {
  if (no_heap(heap)) return -1;
  heap->heap.set_memory_limit(bytes);
  return 0;
}

int warpheap_reset(warpheap_heap* heap) {
  if (no_heap(heap)) return -1;
  return guarded(-1, EIO, [&] {
    heap->heap.reset();
    return 0;
  });
}

const char* warpheap_last_error(void) { return c_api::last_error; }

}  // extern "C"
