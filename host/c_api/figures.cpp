// The C functions for a heap's figures, texts and errors.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "host/c_api/heap.hpp"

namespace {

using namespace warpheap;
using namespace warpheap::c_api;

static_assert(WARPHEAP_CLASSES == num_classes);
static_assert(WARPHEAP_RESETS_KEPT == epoch_stats::ring_slots);
static_assert(sizeof(warpheap_stats::errors) / sizeof(std::uint64_t) == error_kinds);

constexpr bool is(error_kind kind, int number) { return static_cast<int>(kind) == number; }
static_assert(is(error_kind::foreign_pointer, WARPHEAP_ERROR_FOREIGN_POINTER)
              && is(error_kind::interior_pointer, WARPHEAP_ERROR_INTERIOR_POINTER)
              && is(error_kind::double_free, WARPHEAP_ERROR_DOUBLE_FREE)
              && is(error_kind::late_double_free, WARPHEAP_ERROR_LATE_DOUBLE_FREE)
              && is(error_kind::not_allocated, WARPHEAP_ERROR_NOT_ALLOCATED)
              && is(error_kind::out_of_memory, WARPHEAP_ERROR_OUT_OF_MEMORY)
              && is(error_kind::write_outside, WARPHEAP_ERROR_WRITE_OUTSIDE)
              && is(error_kind::use_after_free, WARPHEAP_ERROR_USE_AFTER_FREE));

warpheap_stats converted(const heap_stats& s) {
  warpheap_stats to{};
  to.reserve_bytes = s.reserve_bytes;
  to.bytes_in_use = s.bytes_in_use;
  to.page_bytes = s.page_bytes;
  to.peak_bytes = s.peak_bytes;
  to.host_live_objects = s.host.live_objects;
  to.host_live_bytes = s.host.live_bytes;
  to.host_mallocs = s.host_mallocs;
  to.host_frees = s.host_frees;
  to.device_live_objects = s.device.live_objects;
  to.device_live_bytes = s.device.live_bytes;
  to.host_span_bytes = s.host.span_bytes;
  to.host_spans = s.host.spans;
  to.device_span_bytes = s.device.span_bytes;
  to.device_spans = s.device.spans;
  to.device_tiny_objects = s.device_tiny_objects;
  to.device_large_objects = s.device_large_objects;
  to.stock_bytes = s.stock_bytes;
  to.device_grows = s.device_grows;
  to.device_retires = s.device_retires;
  to.device_pages_home = s.device_pages_home;
  to.host_requests = s.host_requests;
  to.host_waits = s.host_waits;
  to.longest_wait_ns = s.longest_wait_ns;
  for (unsigned kind = 0; kind < error_kinds; ++kind) {
    to.errors[kind] = s.errors[kind];
    (kind == WARPHEAP_ERROR_OUT_OF_MEMORY ? to.out_of_memory : to.wrong_frees) += s.errors[kind];
  }
  to.unreachable_words = s.unreachable_words;
  to.phantom_words = s.phantom_words;
  return to;
}

struct same_figure {
  uint64_t warpheap_memory::*c;
  std::uint64_t memory_stats::*cpp;
};

constexpr same_figure same_figures[] = {
#define WARPHEAP_SAME(name) \
  { &warpheap_memory::name, &memory_stats::name }
    WARPHEAP_SAME(sys),
    WARPHEAP_SAME(heap_sys),
    WARPHEAP_SAME(heap_inuse),
    WARPHEAP_SAME(heap_idle),
    WARPHEAP_SAME(heap_released),
    WARPHEAP_SAME(quarantined),
    WARPHEAP_SAME(device_sys),
    WARPHEAP_SAME(stacks_sys),
    WARPHEAP_SAME(stacks_inuse),
    WARPHEAP_SAME(regions_sys),
    WARPHEAP_SAME(mspan_sys),
    WARPHEAP_SAME(mspan_inuse),
    WARPHEAP_SAME(mcache_sys),
    WARPHEAP_SAME(mcache_inuse),
    WARPHEAP_SAME(tiny_mask_sys),
    WARPHEAP_SAME(buckhash_sys),
    WARPHEAP_SAME(page_table_sys),
    WARPHEAP_SAME(device_table_sys),
    WARPHEAP_SAME(other_sys),
    WARPHEAP_SAME(reserved),
    WARPHEAP_SAME(committed),
    WARPHEAP_SAME(memory_limit),
    WARPHEAP_SAME(peak),
    WARPHEAP_SAME(scavenged_asked),
    WARPHEAP_SAME(scavenged_growth),
    WARPHEAP_SAME(scavenged_limit),
    WARPHEAP_SAME(scavenged_background),
    WARPHEAP_SAME(heap_alloc),
    WARPHEAP_SAME(total_alloc),
    WARPHEAP_SAME(mallocs),
    WARPHEAP_SAME(frees),
    WARPHEAP_SAME(live_objects),
    WARPHEAP_SAME(tiny_mallocs),
    WARPHEAP_SAME(tiny_frees),
    WARPHEAP_SAME(tiny_blocks),
    WARPHEAP_SAME(large_alloc),
    WARPHEAP_SAME(large_free),
    WARPHEAP_SAME(large_mallocs),
    WARPHEAP_SAME(large_frees),
    WARPHEAP_SAME(out_of_memory),
    WARPHEAP_SAME(refused),
    WARPHEAP_SAME(thread_caches),
#undef WARPHEAP_SAME
};

// Checks that the tables cover all members of both structs, also new ones.
static_assert(sizeof(memory_stats)
              == sizeof same_figures / sizeof *same_figures * sizeof(std::uint64_t)
                     + sizeof(memory_stats::by_class) + sizeof(epoch_stats));
static_assert(sizeof(warpheap_memory) == sizeof(memory_stats) + sizeof(std::size_t));

warpheap_memory converted(const memory_stats& s) {
  warpheap_memory to{};
  for (const same_figure& f : same_figures) to.*f.c = s.*f.cpp;
  for (unsigned c = 0; c < num_classes; ++c) {
    to.by_class[c].slot_bytes = s.by_class[c].slot_bytes;
    to.by_class[c].mallocs = s.by_class[c].mallocs;
    to.by_class[c].frees = s.by_class[c].frees;
  }
  to.resets = s.epochs.count;
  to.resets_total_ns = s.epochs.total_ns;
  std::copy(s.epochs.duration_ns.begin(), s.epochs.duration_ns.end(), to.reset_duration_ns);
  std::copy(s.epochs.end_unix_ns.begin(), s.epochs.end_unix_ns.end(), to.reset_end_unix_ns);
  return to;
}

/// The result of make() as a string that C can free(); nullptr when it fails.
template <class F>
char* text(const warpheap_heap* heap, F&& make) noexcept {
  if (no_heap(heap)) return nullptr;
  return guarded<char*>(nullptr, EIO, [&] {
    const std::string made = make();
    auto* const copy = static_cast<char*>(std::malloc(made.size() + 1));
    if (copy == nullptr) throw std::bad_alloc();
    std::memcpy(copy, made.c_str(), made.size() + 1);
    return copy;
  });
}

/// One of a heap's names, whose addresses do not change.
const char* name(const warpheap_heap* heap, std::string warpheap_heap::*which) noexcept {
  if (no_heap(heap)) return nullptr;
  return guarded<const char*>(nullptr, ENOMEM, [&] {
    auto& mine = *const_cast<warpheap_heap*>(heap);
    std::call_once(mine.named, [&] {
      mine.backend_name = mine.heap.backend_name();
      mine.backend_reason = mine.heap.backend_reason();
      mine.device_name = mine.heap.device_name();
    });
    return (heap->*which).c_str();
  });
}

}  // namespace

extern "C" {

int warpheap_get_stats(warpheap_heap* heap, warpheap_stats* stats) {
  if (no_heap(heap) || no_struct(stats)) return -1;
  return guarded(-1, EIO, [&] {
    copy_out(stats, converted(heap->heap.stats()));
    return 0;
  });
}

char* warpheap_stats_text(warpheap_heap* heap) {
  return text(heap, [&] { return to_string(heap->heap.stats()); });
}

char* warpheap_stats_json(warpheap_heap* heap) {
  return text(heap, [&] { return to_json(heap->heap.stats()); });
}

int warpheap_get_memory(const warpheap_heap* heap, warpheap_memory* memory) {
  if (no_heap(heap) || no_struct(memory)) return -1;
  copy_out(memory, converted(heap->heap.memory()));
  return 0;
}

char* warpheap_memory_text(const warpheap_heap* heap) {
  return text(heap, [&] { return to_string(heap->heap.memory()); });
}

char* warpheap_memory_json(const warpheap_heap* heap) {
  return text(heap, [&] { return to_json(heap->heap.memory()); });
}

char* warpheap_state_text(warpheap_heap* heap) {
  return text(heap, [&] { return heap->heap.state_text(); });
}

int warpheap_print_state(warpheap_heap* heap, FILE* to) {
  if (no_heap(heap)) return -1;
  if (to == nullptr) {
    fail(EINVAL, "the file is NULL");
    return -1;
  }
  return guarded(-1, EIO, [&] {
    const std::string state = heap->heap.state_text();
    if (std::fwrite(state.data(), 1, state.size(), to) == state.size() && std::fflush(to) == 0)
      return 0;
    fail(EIO, "the state could not be written");
    return -1;
  });
}

size_t warpheap_take_errors(warpheap_heap* heap, warpheap_error* list, size_t capacity) {
  if (no_heap(heap)) return 0;
  if (list == nullptr) {
    fail(EINVAL, "the list is NULL");
    return 0;
  }
  return guarded(std::size_t{0}, EIO, [&] {
    auto& waiting = heap->errors;
    const auto recent = heap->heap.errors();
    waiting.insert(waiting.end(), recent.begin(), recent.end());
    const std::size_t n = std::min(capacity, waiting.size());
    for (std::size_t i = 0; i < n; ++i)
      list[i] = {static_cast<int>(waiting[i].kind), waiting[i].address};
    waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(n));
    return n;
  });
}

int warpheap_write_profile(const warpheap_heap* heap, const char* file) {
  if (no_heap(heap)) return -1;
  if (file == nullptr) {
    fail(EINVAL, "the name of the file is NULL");
    return -1;
  }
  if (heap->heap.options().profile_rate == 0) {
    fail(ENOTSUP, "the heap has no profile: its profile_rate is 0");
    return -1;
  }
  return guarded(-1, EIO, [&] {
    const heap_profile profile = heap->heap.profile();
    const std::string written =
        std::string_view(file).ends_with(".folded") ? profile.folded() : profile.pprof();
    errno = 0;
    std::FILE* const to = std::fopen(file, "wb");
    bool good = to != nullptr;
    good = good && std::fwrite(written.data(), 1, written.size(), to) == written.size();
    good = to != nullptr && std::fclose(to) == 0 && good;
    if (good) return 0;
    fail(errno != 0 ? errno : EIO, "the profile could not be written");
    return -1;
  });
}

int warpheap_backend(const warpheap_heap* heap) {
  if (no_heap(heap)) return -1;
  return heap->heap.backend() == backend_kind::cuda ? WARPHEAP_BACKEND_CUDA : WARPHEAP_BACKEND_SIMT;
}

const char* warpheap_backend_name(const warpheap_heap* heap) {
  return name(heap, &warpheap_heap::backend_name);
}

const char* warpheap_backend_reason(const warpheap_heap* heap) {
  return name(heap, &warpheap_heap::backend_reason);
}

const char* warpheap_device_name(const warpheap_heap* heap) {
  return name(heap, &warpheap_heap::device_name);
}

int warpheap_stop_refill_service(warpheap_heap* heap) {
  if (no_heap(heap)) return -1;
  return guarded(-1, EDEADLK, [&] {
    heap->heap.stop_refill_service();
    return 0;
  });
}

int warpheap_start_refill_service(warpheap_heap* heap) {
  if (no_heap(heap)) return -1;
  return guarded(-1, EAGAIN, [&] {
    heap->heap.start_refill_service();
    return 0;
  });
}

}  // extern "C"
