// The figures of kernels' objects and calls, as JSON.
#include <iterator>
#include <warpheap/heap.hpp>

namespace warpheap {

namespace {

/// Members of an object, in the order in which they are added.
class object {
 public:
  void add(const char* name, const std::string& json) {
    json_ += (json_.empty() ? "{\"" : ",\"") + std::string(name) + "\":" + json;
  }
  void add(const char* name, std::uint64_t value) { add(name, std::to_string(value)); }
  std::string take() { return json_ + (json_.empty() ? "{}" : "}"); }

 private:
  std::string json_;
};

struct class_figure {
  const char* name;
  std::uint64_t class_stats::*figure;
};
constexpr class_figure class_figures[] = {
    {"spans", &class_stats::spans},           {"empty_spans", &class_stats::empty_spans},
    {"full_spans", &class_stats::full_spans}, {"live_slots", &class_stats::live_slots},
    {"free_slots", &class_stats::free_slots}, {"live_objects", &class_stats::live_objects},
    {"grows", &class_stats::grows},           {"retires", &class_stats::retires},
    {"failures", &class_stats::failures},     {"words_scanned", &class_stats::words_scanned},
    {"mallocs", &class_stats::mallocs},       {"frees", &class_stats::frees},
};

std::string classes_json(const std::vector<class_stats>& classes) {
  std::string json;
  for (std::size_t cls = 0; cls < classes.size(); ++cls) {
    std::uint64_t any = 0;
    for (const auto& [name, figure] : class_figures) any |= classes[cls].*figure;
    if (any == 0) continue;
    object c;
    c.add("class", cls);
    c.add("slot_bytes", classes[cls].slot_bytes);
    for (const auto& [name, figure] : class_figures) c.add(name, classes[cls].*figure);
    json += (json.empty() ? "" : ",") + c.take();
  }
  return "[" + json + "]";
}

std::string histogram_json(const latency_histogram& h) {
  unsigned n = latency_buckets;
  while (n != 0 && h.buckets[n - 1] == 0) --n;
  std::string json;
  for (unsigned b = 0; b < n; ++b) json += (b == 0 ? "" : ",") + std::to_string(h.buckets[b]);
  return "[" + json + "]";
}

}  // namespace

std::string to_json(const heap_stats& s) {
  object all;
  all.add("schema", heap_stats_schema);
  all.add("live_objects", s.device.live_objects);
  all.add("live_bytes", s.device.live_bytes);
  all.add("span_bytes", s.device.span_bytes);
  all.add("spans", s.device.spans);
  all.add("tiny_objects", s.device_tiny_objects);
  all.add("large_objects", s.device_large_objects);
  all.add("stock_bytes", s.stock_bytes);
  all.add("grows", s.device_grows);
  all.add("retires", s.device_retires);
  all.add("pages_home", s.device_pages_home);
  all.add("host_requests", s.host_requests);
  all.add("host_waits", s.host_waits);
  all.add("longest_wait_ns", s.longest_wait_ns);
  all.add("unreachable_words", s.unreachable_words);
  all.add("phantom_words", s.phantom_words);
  all.add("classes", classes_json(s.device_classes));
  object latency;
  latency.add("malloc", histogram_json(s.device_malloc_latency));
  latency.add("free", histogram_json(s.device_free_latency));
  latency.add("failure", histogram_json(s.device_failure_latency));
  all.add("latency", latency.take());
  object errors;
  for (unsigned kind = 0; kind < error_kinds; ++kind)
    errors.add(to_string(static_cast<error_kind>(kind)), s.errors[kind]);
  all.add("errors", errors.take());
  return all.take();
}

}  // namespace warpheap
