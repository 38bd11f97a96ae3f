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

#include "host/arena_hints.hpp"

namespace warpheap {

namespace {

/// The first number in a file of /proc, 0 if there is none.
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

void* map_at(void* wanted, std::size_t bytes) {
  return mmap(wanted, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

std::byte* map(std::size_t bytes) {
  void* p = map_at(nullptr, bytes + arena_bytes);
  if (p == MAP_FAILED) return nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  const std::size_t head = bits::align_up(address, arena_bytes) - address;
  auto* base = static_cast<std::byte*>(p) + head;
  if (head != 0) munmap(p, head);
  if (head != arena_bytes) munmap(base + bytes, arena_bytes - head);
  return base;
}

}  // namespace

std::size_t most_process_bytes() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return max_reserve_bytes;
  const std::size_t used =
      first_number("/proc/self/statm") * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t left = limit.rlim_cur > used ? limit.rlim_cur - used : 0;
  return left < max_reserve_bytes ? left : max_reserve_bytes;
}

std::size_t process_reserve_bytes() {
  const std::size_t most = most_process_bytes();
  return most == max_reserve_bytes ? most : most / 2 / chunk_bytes * chunk_bytes;
}

process_reservation reserve_process_heap(std::size_t bytes) {
  // Mode 2 counts every page that may be written, whether it is used or not.
  const bool counted = first_number("/proc/sys/vm/overcommit_memory") == 2;
  for (bytes = bytes / chunk_bytes * chunk_bytes; bytes >= min_reserve_bytes;
       bytes = bytes / 2 / chunk_bytes * chunk_bytes) {
    if (std::byte* base = map(bytes); base != nullptr) return {base, bytes, counted};
  }
  return {};
}

std::byte* reserve_arenas(std::byte* after, std::size_t bytes) {
  void* p = nullptr;
  // Not over what is there already: without MAP_FIXED the system takes the address as a hint.
  const auto lies_at = [&](void* wanted) {
    p = map_at(wanted, bytes);
    if (p == MAP_FAILED || p == wanted) return true;
    munmap(p, bytes);
    return false;
  };
  if ((after != nullptr && lies_at(after)) || arena_hints::find(lies_at))
    return p == MAP_FAILED ? nullptr : static_cast<std::byte*>(p);
  return map(bytes);
}

std::size_t largest_backed_object() {
  struct sysinfo info {};
  if (first_number("/proc/sys/vm/overcommit_memory") == 1 || sysinfo(&info) != 0)
    return static_cast<std::size_t>(PTRDIFF_MAX);
  return (info.totalram + info.totalswap) * info.mem_unit;
}

}  // namespace warpheap
