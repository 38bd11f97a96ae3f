#include "host/malloc/options.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include <warpheap/heap_profile.hpp>
#include <warpheap/layout.hpp>

#include "host/read_size.hpp"

namespace warpheap {

const char* early_environment(const char* name) {
  if (environ != nullptr) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
  }
  static char value[1025];
  value[0] = 0;
  const int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return value;
  // NAME=value strings, each ended by a zero byte, read piece by piece: `matched` characters of
  // "NAME=" have been found; npos inside another variable.
  constexpr std::size_t npos = static_cast<std::size_t>(-1);
  const std::size_t length = std::strlen(name) + 1;
  std::size_t matched = 0;
  std::size_t stored = 0;
  char piece[512];
  for (ssize_t n; (n = read(fd, piece, sizeof piece)) > 0;) {
    for (ssize_t i = 0; i < n; ++i) {
      const char c = piece[i];
      if (c == 0) {
        if (matched == length) {
          value[stored] = 0;
          close(fd);
          return value;
        }
        matched = 0;
      } else if (matched == length) {
        if (stored + 1 < sizeof value) value[stored++] = c;
      } else if (matched != npos) {
        matched = c == (matched + 1 == length ? '=' : name[matched]) ? matched + 1 : npos;
      }
    }
  }
  close(fd);
  value[0] = 0;
  return value;
}

namespace {

/// Options that only heaps have which a program makes; they read the same variable.
constexpr std::string_view of_other_heaps[] = {"least_reserve", "stock",   "backend",
                                               "timeout_us",    "service", "scavenge",
                                               "leaks",         "events",  "print_state"};

static_assert(min_reserve_bytes == std::size_t{8} << 20
              && max_reserve_bytes == std::size_t{1} << 40);  // as the messages say

/// Sets a number of bytes. Returns what is wrong with the text, or null.
const char* set_bytes(std::size_t& bytes, std::string_view text, std::size_t least = 0) {
  const std::optional<std::size_t> given = read_size(text);
  if (!given) return "expected a size such as 64M or 1.5G";
  if (*given < least) return "the least is 8M";
  if (*given > max_reserve_bytes) return "the most is 1T";
  bytes = *given;
  return nullptr;
}

const char* set_flag(bool& flag, std::string_view text) {
  if (text != "0" && text != "1") return "expected 0 or 1";
  flag = text == "1";
  return nullptr;
}

}  // namespace

bool process_options::read(void (*warn)(const char* part, const char* why)) {
  const char* const value = early_environment("WARPHEAP");
  const std::size_t length = std::strlen(value);
  // Cut off, the variable could end in another value than the one given.
  if (length >= sizeof text_) return false;
  std::memcpy(text_, value, length + 1);
  for (char* part = text_; part != nullptr && *part != 0;) {
    char* const comma = std::strchr(part, ',');
    if (comma != nullptr) *comma = 0;
    char* const equals = std::strchr(part, '=');
    if (equals != nullptr) *equals = 0;
    const char* const wrong = equals != nullptr ? set(part, equals + 1)
                              : *part != 0      ? "expected key=value"
                                                : nullptr;
    if (wrong != nullptr) {
      if (equals != nullptr) *equals = '=';
      warn(part, wrong);
    }
    part = comma != nullptr ? comma + 1 : nullptr;
  }
  if (*profile_file != 0 && layers.profile_rate == 0) layers.profile_rate = default_profile_rate;
  layers.profile_started = false;
  return true;
}

const char* process_options::set(std::string_view key, const char* value) {
  if (key == "reserve") return set_bytes(reserve_bytes, value, min_reserve_bytes);
  if (key == "memory_limit") return set_bytes(memory_limit, value);
  if (key == "profile") return set_bytes(layers.profile_rate, value);
  if (key == "quarantine") return set_bytes(layers.quarantine_bytes, value);
  if (key == "annotate") return set_flag(layers.annotate, value);
  if (key == "red_zones") return set_flag(layers.red_zones, value);
  if (key == "clobberfree") return set_flag(layers.clobber_free, value);
  if (key == "efence") return set_flag(layers.efence, value);
  if (key == "sbrk") return set_flag(layers.sbrk, value);
  if (key == "profile_file") {
    profile_file = value;
  } else if (key == "trace") {
    layers.trace_file = value;
  } else if (std::ranges::find(of_other_heaps, key) == std::ranges::end(of_other_heaps)) {
    return "unknown key; known are reserve, memory_limit, profile, profile_file, trace, annotate, "
           "quarantine, red_zones, clobberfree, efence, sbrk";
  }
  return nullptr;
}

}  // namespace warpheap
