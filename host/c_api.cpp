// The C functions, each a thin cover over warpheap::heap.
#include <warpheap/warpheap.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <optional>
#include <string>
#include <warpheap/backend.hpp>
#include <warpheap/heap.hpp>

struct warpheap_heap {
  explicit warpheap_heap(warpheap::heap_options options) : heap(std::move(options)) {}
  warpheap::heap heap;
};

namespace {

using namespace warpheap;

// An array, so that saying why there is no memory needs none.
thread_local char last_error[512];

void fail(int number, const char* text) {
  std::snprintf(last_error, sizeof last_error, "%s", text);
  errno = number;
}

/// f(); an exception becomes errno and a text, and the answer `otherwise`.
template <class T, class F>
T guarded(T otherwise, int number, F&& f) noexcept {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    fail(ENOMEM, "out of memory");
  } catch (const std::exception& error) {
    fail(number, error.what());
  } catch (...) {
    fail(number, "unknown error");
  }
  return otherwise;
}

bool no_heap(const warpheap_heap* heap) {
  if (heap != nullptr) return false;
  fail(EINVAL, "the heap is NULL");
  return true;
}

void* or_no_memory(void* p) {
  if (p == nullptr) fail(ENOMEM, "the heap has no memory for this object");
  return p;
}

/// The bytes that a caller's version of a struct has and this one, too.
template <class T>
std::size_t common_size(std::size_t callers) {
  return std::min(callers, sizeof(T));
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
  return options;
}

}  // namespace

extern "C" {

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
    return guarded<warpheap_heap*>(nullptr, ENOMEM,
                                   [&] { return new warpheap_heap(std::move(*options)); });
  });
}

void warpheap_destroy(warpheap_heap* heap) { delete heap; }

void* warpheap_malloc(warpheap_heap* heap, size_t size) {
  return no_heap(heap) ? nullptr : or_no_memory(heap->heap.malloc(size));
}

void* warpheap_calloc(warpheap_heap* heap, size_t count, size_t size) {
  return no_heap(heap) ? nullptr : or_no_memory(heap->heap.calloc(count, size));
}

void* warpheap_aligned_alloc(warpheap_heap* heap, size_t alignment, size_t size) {
  if (no_heap(heap)) return nullptr;
  if (!bits::is_power_of_two(alignment)) {
    fail(EINVAL, "the alignment is no power of two");
    return nullptr;
  }
  return or_no_memory(heap->heap.aligned_alloc(alignment, size));
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

int warpheap_get_stats(warpheap_heap* heap, warpheap_stats* stats) {
  if (no_heap(heap)) return -1;
  if (stats == nullptr || stats->struct_size < sizeof(std::size_t)) {
    fail(EINVAL, "warpheap_stats is NULL or its struct_size was not set");
    return -1;
  }
  return guarded(-1, EIO, [&] {
    const heap_stats s = heap->heap.stats();
    warpheap_stats all{};
    all.struct_size = stats->struct_size;
    all.reserve_bytes = s.reserve_bytes;
    all.bytes_in_use = s.bytes_in_use;
    all.page_bytes = s.page_bytes;
    all.peak_bytes = s.peak_bytes;
    all.host_live_objects = s.host.live_objects;
    all.host_live_bytes = s.host.live_bytes;
    all.host_mallocs = s.host_mallocs;
    all.host_frees = s.host_frees;
    all.device_live_objects = s.device.live_objects;
    all.device_live_bytes = s.device.live_bytes;
    for (unsigned kind = 0; kind < error_kinds; ++kind) {
      (static_cast<error_kind>(kind) == error_kind::out_of_memory ? all.out_of_memory
                                                                  : all.wrong_frees) +=
          s.errors[kind];
    }
    std::memcpy(stats, &all, common_size<warpheap_stats>(stats->struct_size));
    return 0;
  });
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

int warpheap_reset(warpheap_heap* heap) {
  if (no_heap(heap)) return -1;
  return guarded(-1, EIO, [&] {
    heap->heap.reset();
    return 0;
  });
}

const char* warpheap_last_error(void) { return last_error; }

}  // extern "C"
