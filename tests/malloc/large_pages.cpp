// Preloaded beside the library: a system whose pages have 16 KiB. Addresses have to be multiples of
// that, lengths are rounded up to it, as by a kernel that is built so. With LARGE_PAGES_COUNTED in
// the environment it also refuses reservations that could be written, as overcommit mode 2 does.
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

constexpr std::size_t large_page = 16384;

/// The system call at a multiple of a page.
int on_pages(long call, void* start, std::size_t bytes, int argument) {
  if (reinterpret_cast<std::uintptr_t>(start) % large_page != 0) {
    errno = EINVAL;
    return -1;
  }
  const std::size_t rounded = (bytes + large_page - 1) / large_page * large_page;
  return static_cast<int>(syscall(call, start, rounded, argument));
}

bool counted() {
  // Without getenv: the loader has not made the environment known when the first mmap comes.
  static const char name[] = "LARGE_PAGES_COUNTED=";
  for (char** e = environ; e != nullptr && *e != nullptr; ++e) {
    if (std::strncmp(*e, name, sizeof name - 1) == 0) return true;
  }
  return false;
}

}  // namespace

extern "C" {

int madvise(void* start, std::size_t bytes, int advice) noexcept {
  return on_pages(SYS_madvise, start, bytes, advice);
}

int mprotect(void* start, std::size_t bytes, int protection) noexcept {
  return on_pages(SYS_mprotect, start, bytes, protection);
}

void* mmap(void* at, std::size_t bytes, int protection, int flags, int file,
           off_t offset) noexcept {
  constexpr std::size_t most = std::size_t{512} << 20;
  if ((protection & PROT_WRITE) != 0 && bytes > most && counted()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return reinterpret_cast<void*>(syscall(SYS_mmap, at, bytes, protection, flags, file, offset));
}

long sysconf(int name) noexcept {
  if (name == _SC_PAGESIZE) return static_cast<long>(large_page);
  static const auto real = reinterpret_cast<long (*)(int)>(dlsym(RTLD_NEXT, "sysconf"));
  return real(name);
}
}
