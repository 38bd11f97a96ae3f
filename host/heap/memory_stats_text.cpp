// A heap's figures as text for people, and as JSON.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <utility>
#include <warpheap/memory_stats.hpp>
#include <warpheap/options.hpp>

namespace warpheap {

namespace {

struct memory_figure {
  const char* name;
  std::uint64_t memory_stats::*figure;
};

// In the order of the struct.
constexpr memory_figure figures[] = {
    {"sys", &memory_stats::sys},
    {"heap_sys", &memory_stats::heap_sys},
    {"heap_inuse", &memory_stats::heap_inuse},
    {"heap_idle", &memory_stats::heap_idle},
    {"heap_released", &memory_stats::heap_released},
    {"quarantined", &memory_stats::quarantined},
    {"device_sys", &memory_stats::device_sys},
    {"stacks_sys", &memory_stats::stacks_sys},
    {"stacks_inuse", &memory_stats::stacks_inuse},
    {"regions_sys", &memory_stats::regions_sys},
    {"mspan_sys", &memory_stats::mspan_sys},
    {"mspan_inuse", &memory_stats::mspan_inuse},
    {"mcache_sys", &memory_stats::mcache_sys},
    {"mcache_inuse", &memory_stats::mcache_inuse},
    {"tiny_mask_sys", &memory_stats::tiny_mask_sys},
    {"buckhash_sys", &memory_stats::buckhash_sys},
    {"page_table_sys", &memory_stats::page_table_sys},
    {"device_table_sys", &memory_stats::device_table_sys},
    {"other_sys", &memory_stats::other_sys},
    {"reserved", &memory_stats::reserved},
    {"committed", &memory_stats::committed},
    {"memory_limit", &memory_stats::memory_limit},
    {"peak", &memory_stats::peak},
    {"scavenged_asked", &memory_stats::scavenged_asked},
    {"scavenged_growth", &memory_stats::scavenged_growth},
    {"scavenged_limit", &memory_stats::scavenged_limit},
    {"scavenged_background", &memory_stats::scavenged_background},
    {"heap_alloc", &memory_stats::heap_alloc},
    {"total_alloc", &memory_stats::total_alloc},
    {"mallocs", &memory_stats::mallocs},
    {"frees", &memory_stats::frees},
    {"live_objects", &memory_stats::live_objects},
    {"tiny_mallocs", &memory_stats::tiny_mallocs},
    {"tiny_frees", &memory_stats::tiny_frees},
    {"tiny_blocks", &memory_stats::tiny_blocks},
    {"large_alloc", &memory_stats::large_alloc},
    {"large_free", &memory_stats::large_free},
    {"large_mallocs", &memory_stats::large_mallocs},
    {"large_frees", &memory_stats::large_frees},
    {"out_of_memory", &memory_stats::out_of_memory},
    {"refused", &memory_stats::refused},
    {"thread_caches", &memory_stats::thread_caches},
};

/// Lines of a sum: each term has its sign in front, and so has the result.
class sum_text {
 public:
  void bytes(char sign, const char* name, std::uint64_t value, const char* what = "") {
    add("%c %-18s %20" PRIu64 "  %-9s %s\n", sign, name, value, format_bytes(value).c_str(), what);
  }
  template <class... Args>
  void add(const char* format, Args... args) {
    char line[200];
    std::snprintf(line, sizeof line, format, args...);
    lines_ += line;
  }
  std::string take() { return std::move(lines_); }

 private:
  std::string lines_;
};

void add_memory(sum_text& t, const memory_stats& s) {
  t.bytes('+', "heap_inuse", s.heap_inuse, "pages of host objects");
  t.bytes('+', "heap_idle", s.heap_idle, "free pages");
  t.bytes('=', "heap_sys", s.heap_sys);
  t.bytes('+', "device_sys", s.device_sys, "lent to kernels");
  t.bytes('+', "stacks_sys", s.stacks_sys, "scratch stacks");
  t.bytes('+', "regions_sys", s.regions_sys, "regions");
  t.bytes('+', "mspan_sys", s.mspan_sys, "records of spans");
  t.bytes('+', "mcache_sys", s.mcache_sys, "caches of threads");
  t.bytes('+', "tiny_mask_sys", s.tiny_mask_sys, "records of tiny objects");
  t.bytes('+', "buckhash_sys", s.buckhash_sys, "profile");
  t.bytes('+', "page_table_sys", s.page_table_sys, "tables of pages");
  t.bytes('+', "device_table_sys", s.device_table_sys, "tables of kernels");
  t.bytes('+', "other_sys", s.other_sys, "other records");
  t.bytes('=', "sys", s.sys);
  t.bytes('-', "heap_released", s.heap_released, "free pages without memory");
  t.bytes('=', "", s.sys - s.heap_released, "that may hold memory");
  t.add("given back so far: %s asked for, %s for growth, %s for the limit, %s unused\n",
        format_bytes(s.scavenged_asked).c_str(), format_bytes(s.scavenged_growth).c_str(),
        format_bytes(s.scavenged_limit).c_str(), format_bytes(s.scavenged_background).c_str());
  t.add("peak %s of %s, memory limit %s, out of memory %" PRIu64 " times\n\n",
        format_bytes(s.peak).c_str(), format_bytes(s.reserved).c_str(),
        s.memory_limit == 0 ? "none" : format_bytes(s.memory_limit).c_str(), s.out_of_memory);
}

void add_objects(sum_text& t, const memory_stats& s) {
  constexpr const char* row = "%-9s %16" PRIu64 " %16" PRIu64 " %16" PRIu64 "\n";
  t.add("%-9s %16s %16s %16s\n", "bytes", "mallocs", "- frees", "= live");
  const auto add = [&](const std::string& name, std::uint64_t mallocs, std::uint64_t frees) {
    if (mallocs != 0) t.add(row, name.c_str(), mallocs, frees, mallocs - frees);
  };
  add("1..15", s.tiny_mallocs, s.tiny_frees);
  for (unsigned c = 1; c < num_classes; ++c)
    add(std::to_string(s.by_class[c].slot_bytes), s.by_class[c].mallocs, s.by_class[c].frees);
  add("large", s.by_class[0].mallocs, s.by_class[0].frees);
  t.add(row, "sum", s.mallocs, s.frees, s.live_objects);
  t.add("live bytes %" PRIu64 " (%s) of %" PRIu64 " ever; resets %" PRIu64 "\n", s.heap_alloc,
        format_bytes(s.heap_alloc).c_str(), s.total_alloc, s.epochs.count);
}

}  // namespace

std::string to_string(const memory_stats& s) {
  sum_text t;
  add_memory(t, s);
  add_objects(t, s);
  return t.take();
}

std::string to_json(const memory_stats& s) {
  std::string json = "{\"schema\":" + std::to_string(memory_stats_schema);
  const auto member = [&](const char* name) { json += std::string(",\"") + name + "\":"; };
  for (const auto& [name, figure] : figures) {
    member(name);
    json += std::to_string(s.*figure);
  }
  member("by_class");
  char separator = '[';
  for (const memory_stats::class_figures& c : s.by_class) {
    json += separator;
    json += "{\"slot_bytes\":" + std::to_string(c.slot_bytes) + ",\"mallocs\":"
            + std::to_string(c.mallocs) + ",\"frees\":" + std::to_string(c.frees) + "}";
    separator = ',';
  }
  const epoch_stats& e = s.epochs;
  json += "]";
  member("epochs");
  json += "{\"count\":" + std::to_string(e.count) + ",\"total_ns\":" + std::to_string(e.total_ns);
  const std::uint64_t shown = std::min<std::uint64_t>(e.count, epoch_stats::ring_slots);
  const auto ring = [&](const char* name, const auto& values) {
    member(name);
    json += '[';
    for (std::uint64_t i = e.count - shown; i < e.count; ++i) {
      if (i != e.count - shown) json += ',';
      json += std::to_string(values[i % epoch_stats::ring_slots]);
    }
    json += ']';
  };
  ring("duration_ns", e.duration_ns);
  ring("end_unix_ns", e.end_unix_ns);
  return json + "}}";
}

}  // namespace warpheap
