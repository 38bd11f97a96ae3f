// Statistics as text for people.
#include <cstdio>
#include <warpheap/heap.hpp>

namespace warpheap {

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
