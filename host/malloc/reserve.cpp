#include "host/malloc/reserve.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <warpheap/bits.hpp>
#include <warpheap/layout.hpp>

namespace warpheap {

namespace {

/// The first number of a file of /proc, 0 if there is none.
std::size_t first_number(const char* file) {
  const int fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[64];
  const ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = 0;
  return std::strtoull(text, nullptr, 10);
}

std::byte* map(std::size_t bytes, int protection) {
  void* p = mmap(nullptr, bytes + arena_bytes, protection,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  const std::size_t head = bits::align_up(address, arena_bytes) - address;
  auto* base = static_cast<std::byte*>(p) + head;
  if (head != 0) munmap(p, head);
  if (head != arena_bytes) munmap(base + bytes, arena_bytes - head);
  return base;
}

}  // namespace

std::size_t process_reserve_bytes() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return max_reserve_bytes;
  const std::size_t used =
      first_number("/proc/self/statm") * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t left = limit.rlim_cur > used ? limit.rlim_cur - used : 0;
  const std::size_t half = left / 2 / chunk_bytes * chunk_bytes;
  return half < max_reserve_bytes ? half : max_reserve_bytes;
}

process_reservation reserve_process_heap(std::size_t bytes) {
  // Mode 2 counts every page that may be written, wanted or not.
  const bool counted = first_number("/proc/sys/vm/overcommit_memory") == 2;
  for (bytes = bytes / chunk_bytes * chunk_bytes; bytes >= min_reserve_bytes;
       bytes = bytes / 2 / chunk_bytes * chunk_bytes) {
    if (!counted) {
      if (std::byte* base = map(bytes, PROT_READ | PROT_WRITE); base != nullptr)
        return {base, bytes, false};
    }
    if (std::byte* base = map(bytes, PROT_NONE); base != nullptr) return {base, bytes, true};
  }
  return {};
}

std::size_t largest_backed_object() {
  struct sysinfo info {};
  if (first_number("/proc/sys/vm/overcommit_memory") == 1 || sysinfo(&info) != 0)
    return static_cast<std::size_t>(PTRDIFF_MAX);
  return (info.totalram + info.totalswap) * info.mem_unit;
}

const char* early_environment(const char* name) {
  if (environ != nullptr) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
  }
  static char value[1024];
  value[0] = 0;
  const int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return value;
  // NAME=value, each ended by a zero, in pieces of a buffer: `matched` characters of "NAME=" have
  // been found, npos in the rest of another variable.
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

std::size_t reserve_from_environment() {
  const char* text = early_environment("WARPHEAP");
  while (text != nullptr && *text != 0) {
    constexpr char key[] = "reserve=";
    if (std::strncmp(text, key, sizeof key - 1) == 0) {
      char* end = nullptr;
      std::size_t bytes = std::strtoull(text + sizeof key - 1, &end, 10);
      unsigned shift = 0;
      switch (*end & ~0x20) {
        case 'K': shift = 10; break;
        case 'M': shift = 20; break;
        case 'G': shift = 30; break;
        case 'T': shift = 40; break;
        default: break;
      }
      if (shift != 0) ++end;
      const bool sound = (*end == 0 || *end == ',') && bytes <= max_reserve_bytes >> shift;
      bytes <<= shift;
      if (sound && bytes >= min_reserve_bytes) return bytes;
    }
    text = std::strchr(text, ',');
    if (text != nullptr) ++text;
  }
  return 0;
}

}  // namespace warpheap
