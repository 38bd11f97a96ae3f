// Statistics of both sides, counted, and as text for people.
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <mutex>
#include <numeric>
#include <warpheap/bits.hpp>

#include "host/heap/impl.hpp"

namespace warpheap {

heap_stats heap::impl::count() {
  heap_stats s;
  const host_heap_stats h = objects.stats();
  s.reserve_bytes = arrays.view().bytes;
  s.host = {h.live_objects, h.live_bytes, h.pages_in_use * page_size, h.spans};
  s.host_mallocs = h.mallocs;
  s.host_frees = h.frees;
  s.peak_bytes = h.peak_pages * page_size;
  errors.copy_counts(s.errors);
  s.errors[static_cast<unsigned>(error_kind::out_of_memory)] += h.out_of_memory;
  if (operations != nullptr) add_device(s);
  s.bytes_in_use = s.device.live_bytes + s.host.live_bytes;
  s.page_bytes = s.device.span_bytes + s.host.span_bytes;
  if (s.page_bytes != 0)
    s.utilisation = static_cast<double>(s.bytes_in_use) / static_cast<double>(s.page_bytes);
  return s;
}

void heap::impl::add_device(heap_stats& s) {
  const std::lock_guard lock(device_mutex);
  const device_counts c = operations->recount();
  const device_state state = operations->read_state();
  s.device_classes.resize(counted_classes);
  for (unsigned cls = 0; cls < counted_classes; ++cls) {
    class_stats& k = s.device_classes[cls];
    const class_counters& counted = state.classes[cls];
    k.grows = counted.grows;
    k.retires = counted.retires;
    k.failures = counted.failures;
    k.words_scanned = counted.words_scanned;
    k.mallocs = state.observed.mallocs[cls];
    k.frees = state.observed.frees[cls];
    s.device_grows += k.grows;
    s.device_retires += k.retires;
    s.errors[static_cast<unsigned>(error_kind::out_of_memory)] += k.failures;
  }
  for (unsigned cls = 1; cls < span_classes; ++cls) {
    class_stats& k = s.device_classes[cls];
    k.slot_bytes = slot_bytes(cls);
    k.spans = c.spans[cls];
    k.empty_spans = c.empty_spans[cls];
    k.full_spans = c.full_spans[cls];
    k.free_slots = c.free_slots[cls];
    k.live_slots = k.spans * span_words(cls) * 64 - k.free_slots;
    k.live_objects = cls == tiny_blocks ? c.tiny_objects : k.live_slots;
    s.device.spans += k.spans;
    s.device.span_bytes += k.spans * span_pages(cls) * page_size;
    s.device.live_bytes += k.live_slots * k.slot_bytes;
    s.device.live_objects += k.live_objects;
  }
  s.device_classes[large_class].live_objects = c.large_objects;
  s.device_tiny_objects = c.tiny_objects;
  s.device_large_objects = c.large_objects;
  s.device.live_objects += c.large_objects;
  s.device.live_bytes += c.large_pages * page_size;
  s.device.span_bytes += c.large_pages * page_size;
  s.stock_bytes = c.stock_pages * page_size;
  s.device_pages_home = state.home_pages.value;
  s.host_requests = state.host_requests.value;
  s.host_waits = state.host_waits.value;
  s.longest_wait_ns = state.longest_wait_ns.value;
  s.unreachable_words = c.unreachable_words;
  s.phantom_words = c.phantom_words;
  for (unsigned kind = 0; kind < error_kinds; ++kind) s.errors[kind] += state.errors[kind];
  latency_histogram* const histograms[latency_kinds] = {
      &s.device_malloc_latency, &s.device_free_latency, &s.device_failure_latency};
  for (unsigned kind = 0; kind < latency_kinds; ++kind)
    std::copy(std::begin(state.observed.latency[kind]), std::end(state.observed.latency[kind]),
              histograms[kind]->buckets);
}

std::uint64_t latency_histogram::calls() const {
  return std::accumulate(std::begin(buckets), std::end(buckets), std::uint64_t{0});
}

std::uint64_t latency_histogram::quantile(double q) const {
  const double wanted = q * static_cast<double>(calls());
  std::uint64_t so_far = 0;
  unsigned b = 0;
  for (; b + 1 < latency_buckets; ++b) {
    so_far += buckets[b];
    if (so_far != 0 && static_cast<double>(so_far) >= wanted) break;
  }
  return bits::low_mask(b);
}

std::string to_string(const heap_stats& s) {
  std::string text;
  char line[160];
  const auto add = [&](const char* what, std::uint64_t device, std::uint64_t host) {
    std::snprintf(line, sizeof line, "%-22s %16llu %16llu %16llu\n", what,
                  static_cast<unsigned long long>(device), static_cast<unsigned long long>(host),
                  static_cast<unsigned long long>(device + host));
    text += line;
  };
  std::snprintf(line, sizeof line, "%-22s %16s %16s %16s\n", "", "kernels", "host", "sum");
  text += line;
  add("live objects", s.device.live_objects, s.host.live_objects);
  add("live bytes", s.device.live_bytes, s.host.live_bytes);
  add("bytes in pages", s.device.span_bytes, s.host.span_bytes);
  add("spans", s.device.spans, s.host.spans);
  std::snprintf(line, sizeof line, "stock %s, peak %s of %s, utilisation %.1f %%\n",
                format_bytes(s.stock_bytes).c_str(), format_bytes(s.peak_bytes).c_str(),
                format_bytes(s.reserve_bytes).c_str(), 100 * s.utilisation);
  text += line;
  std::snprintf(line, sizeof line, "refill requests %llu, waits %llu, longest %.3f ms\n",
                static_cast<unsigned long long>(s.host_requests),
                static_cast<unsigned long long>(s.host_waits),
                static_cast<double>(s.longest_wait_ns) / 1e6);
  text += line;
  for (unsigned kind = 0; kind < error_kinds; ++kind) {
    if (s.errors[kind] == 0) continue;
    std::snprintf(line, sizeof line, "%s: %llu\n", to_string(static_cast<error_kind>(kind)),
                  static_cast<unsigned long long>(s.errors[kind]));
    text += line;
  }
  return text;
}

}  // namespace warpheap
