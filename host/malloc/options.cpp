#include "host/malloc/options.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <cstdlib>
#include <cstring>

#include <warpheap/heap_profile.hpp>
#include <warpheap/layout.hpp>

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

/// Reads "64M" and the like; false if the text is no size.
bool read_size(const char* text, std::size_t& bytes) {
  if (*text < '0' || *text > '9') return false;
  char* end = nullptr;
  const std::size_t number = std::strtoull(text, &end, 10);
  unsigned shift = 0;
  switch (*end & ~0x20) {
    case 'K': shift = 10; break;
    case 'M': shift = 20; break;
    case 'G': shift = 30; break;
    case 'T': shift = 40; break;
    default: break;
  }
  if (shift != 0) ++end;
  if (*end != 0 || number > max_reserve_bytes >> shift) return false;
  bytes = number << shift;
  return true;
}

}  // namespace

bool process_options::read() {
  const char* const value = early_environment("WARPHEAP");
  const std::size_t length = std::strlen(value);
  // Cut off, the variable could end in another value than the one given.
  if (length >= sizeof text_) return false;
  std::memcpy(text_, value, length + 1);
  for (char* part = text_; part != nullptr && *part != 0;) {
    char* const comma = std::strchr(part, ',');
    if (comma != nullptr) *comma = 0;
    if (char* const equals = std::strchr(part, '='); equals != nullptr) {
      *equals = 0;
      set(part, equals + 1);
    }
    part = comma != nullptr ? comma + 1 : nullptr;
  }
  if (*profile_file != 0 && layers.profile_rate == 0) layers.profile_rate = default_profile_rate;
  layers.profile_started = false;
  return true;
}

void process_options::set(const char* key, const char* value) {
  const auto is = [&](const char* name) { return std::strcmp(key, name) == 0; };
  const auto flag = [&](bool& on) {
    if ((*value == '0' || *value == '1') && value[1] == 0) on = *value == '1';
  };
  std::size_t bytes = 0;
  if (is("reserve")) {
    if (read_size(value, bytes) && bytes >= min_reserve_bytes) reserve_bytes = bytes;
  } else if (is("memory_limit")) {
    if (read_size(value, bytes)) memory_limit = bytes;
  } else if (is("profile")) {
    if (read_size(value, bytes)) layers.profile_rate = bytes;
  } else if (is("profile_file")) {
    profile_file = value;
  } else if (is("trace")) {
    layers.trace_file = value;
  } else if (is("annotate")) {
    flag(layers.annotate);
  } else if (is("quarantine")) {
    if (read_size(value, bytes)) layers.quarantine_bytes = bytes;
  } else if (is("red_zones")) {
    flag(layers.red_zones);
  } else if (is("clobberfree")) {
    flag(layers.clobber_free);
  } else if (is("efence")) {
    flag(layers.efence);
  } else if (is("sbrk")) {
    flag(layers.sbrk);
  }
}

}  // namespace warpheap
