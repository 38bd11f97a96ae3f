#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <warpheap/layout.hpp>
#include <warpheap/options.hpp>

#include "host/read_size.hpp"

namespace warpheap {

const char* to_string(backend_kind kind) {
  switch (kind) {
    case backend_kind::automatic: return "automatic";
    case backend_kind::cuda: return "cuda";
    case backend_kind::simt: return "simt";
  }
  return "unknown";
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < units.size(); ++unit) value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, value == std::floor(value) ? "%.0f %s" : "%.1f %s", value,
                units[unit]);
  return text;
}

std::size_t parse_size(const std::string& text) {
  if (const std::optional<std::size_t> bytes = read_size(text)) return *bytes;
  throw heap_error("\"" + text + "\" is no size: expected a number with K, M, G or T, such as 64M "
                   "or 1.5G");
}

void heap_options::validate() const {
  if (backend != backend_kind::automatic && backend != backend_kind::cuda
      && backend != backend_kind::simt)
    throw heap_error("backend number " + std::to_string(static_cast<int>(backend))
                     + " was asked for; there is none of that number");
  if (reserve_bytes < min_reserve_bytes)
    throw heap_error("a heap of " + format_bytes(reserve_bytes) + " was asked for; the least is "
                     + format_bytes(min_reserve_bytes));
  if (reserve_bytes > max_reserve_bytes)
    throw heap_error("a heap of " + format_bytes(reserve_bytes) + " was asked for; the most is "
                     + format_bytes(max_reserve_bytes));
  if (least_reserve_bytes > reserve_bytes)
    throw heap_error("a heap of " + format_bytes(reserve_bytes) + " was asked for, and of "
                     + format_bytes(least_reserve_bytes) + " at least");
  if (device_events > max_device_events)
    throw heap_error("a ring of " + std::to_string(device_events)
                     + " device events was asked for; the most is "
                     + std::to_string(max_device_events));
}

namespace {

/// Sets one option; throws heap_error when the value is invalid.
void set_option(heap_options& options, const std::string& key, const std::string& value) {
  const auto flag = [&] {
    if (value != "0" && value != "1") throw heap_error("\"" + value + "\" is neither 0 nor 1");
    return value == "1";
  };
  if (key == "reserve") {
    options.reserve_bytes = parse_size(value);
  } else if (key == "least_reserve") {
    options.least_reserve_bytes = parse_size(value);
  } else if (key == "stock") {
    options.initial_stock_bytes = parse_size(value);
  } else if (key == "backend") {
    if (value == "auto" || value == "automatic")
      options.backend = backend_kind::automatic;
    else if (value == "cuda")
      options.backend = backend_kind::cuda;
    else if (value == "simt")
      options.backend = backend_kind::simt;
    else
      throw heap_error("\"" + value + "\" is no backend: expected auto, cuda or simt");
  } else if (key == "timeout_us") {
    std::uint64_t us = 0;
    const char* end = value.data() + value.size();
    const auto [rest, error] = std::from_chars(value.data(), end, us);
    if (error != std::errc{} || rest != end || us > 1'000'000'000'000)
      throw heap_error("\"" + value + "\" is no number of microseconds");
    options.refill_timeout_ns = us * 1000;
  } else if (key == "service") {
    options.refill_service = flag();
  } else if (key == "memory_limit") {
    options.memory_limit = parse_size(value);
  } else if (key == "scavenge") {
    options.scavenge = flag();
  } else if (key == "leaks") {
    options.report_leaks = flag();
  } else if (key == "profile") {
    options.profile_rate = parse_size(value);
  } else if (key == "profile_file") {
    options.profile_file = value;
  } else if (key == "events") {
    options.device_events = parse_size(value);
  } else if (key == "print_state") {
    options.print_state_file = value;
  } else if (key == "trace") {
    options.trace_file = value;
  } else if (key == "annotate") {
    options.annotate = flag();
  } else if (key == "quarantine") {
    options.quarantine_bytes = parse_size(value);
  } else if (key == "red_zones") {
    options.red_zones = flag();
  } else if (key == "clobberfree") {
    options.clobber_free = flag();
  } else if (key == "efence") {
    options.efence = flag();
  } else if (key == "sbrk") {
    options.sbrk = flag();
  } else {
    throw heap_error(
        "unknown key; known are reserve, least_reserve, stock, memory_limit, backend, timeout_us, "
        "service, scavenge, leaks, events, print_state, profile, profile_file, trace, annotate, "
        "quarantine, "
        "red_zones, clobberfree, efence, sbrk");
  }
}

void parse_into(heap_options& options, const std::string& text,
                const std::function<void(const std::string&)>& warn) {
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    begin = end + 1;
    if (part.empty()) continue;
    const std::size_t equals = part.find('=');
    try {
      if (equals == part.npos) throw heap_error("expected key=value");
      set_option(options, part.substr(0, equals), part.substr(equals + 1));
    } catch (const heap_error& error) {
      warn("WARPHEAP: \"" + part + "\" is ignored: " + error.what());
    }
  }
}

}  // namespace

heap_options heap_options::parse(const std::string& text,
                                 const std::function<void(const std::string&)>& warn) {
  heap_options options;
  parse_into(options, text, warn);
  return options;
}

heap_options heap_options::from_environment() { return heap_options{}.with_environment(); }

heap_options heap_options::with_environment() const {
  heap_options options = *this;
  const char* text = std::getenv("WARPHEAP");
  if (text == nullptr) return options;
  // One warning for any number of heaps: the process prints it once.
  static std::once_flag warned;
  std::string warnings;
  parse_into(options, text, [&](const std::string& line) { warnings += line + "\n"; });
  if (!warnings.empty())
    std::call_once(warned, [&] { std::fprintf(stderr, "%s", warnings.c_str()); });
  return options;
}

}  // namespace warpheap
