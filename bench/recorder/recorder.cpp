// Records what a program allocates, in the CSV form of RMM's logs:
//
//   LD_PRELOAD=libwarpheap_recorder.so WARPHEAP_TRACE=/tmp/trace program
//
// writes /tmp/trace.PID, one file for each process. WARPHEAP_TRACE_EVENTS limits the number of
// events (default: no limit). Needs the GNU C library, whose own malloc it calls by its internal
// names: asking the dynamic linker for the next malloc would itself allocate.
//
// Thread-safe. A process that ends by _exit or a signal loses its last 64 KiB.
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* p, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* p);
}

namespace {

constexpr std::size_t buffer_bytes = 64 * 1024;
constexpr std::size_t longest_line = 160;

char buffer[buffer_bytes];
std::size_t used = 0;
int file = -1;
std::uint64_t events_left = ~std::uint64_t{0};
// A lock of its own: a mutex of the library might allocate under a sanitizer or a profiler.
std::atomic_flag busy = ATOMIC_FLAG_INIT;
std::atomic<bool> recording{false};

class guard {
 public:
  guard() {
    while (busy.test_and_set(std::memory_order_acquire)) {
    }
  }
  ~guard() { busy.clear(std::memory_order_release); }
};

void flush() {
  for (std::size_t at = 0; at < used;) {
    const ssize_t written = ::write(file, buffer + at, used - at);
    if (written < 0 && errno != EINTR) break;
    if (written > 0) at += static_cast<std::size_t>(written);
  }
  used = 0;
}

void line(const char* action, const void* p, std::size_t bytes) {
  const int error = errno;  // malloc and free may set it for their own reasons only
  {
    const guard held;
    if (events_left != 0) {
      --events_left;
      timespec now{};
      ::clock_gettime(CLOCK_REALTIME, &now);
      const auto day = static_cast<unsigned long>(now.tv_sec) % 86400;
      if (used + longest_line > buffer_bytes) flush();
      const int length = std::snprintf(
          buffer + used, longest_line, "%ld,%02lu:%02lu:%02lu.%06ld,%s,0x%llx,%zu,0x0\n",
          static_cast<long>(::syscall(SYS_gettid)), day / 3600, day / 60 % 60, day % 60,
          now.tv_nsec / 1000, action,
          static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(p)), bytes);
      if (length > 0) used += static_cast<std::size_t>(length);
    }
  }
  errno = error;
}

void allocated(const void* p, std::size_t bytes) {
  if (recording.load(std::memory_order_relaxed))
    line(p != nullptr ? "allocate" : "allocate failure", p, bytes);
}

void freed(const void* p) {
  if (p != nullptr && recording.load(std::memory_order_relaxed)) line("free", p, 0);
}

/// Without snprintf's and the environment's help nothing here allocates; open is the C library's.
void open_file() {
  const char* name = std::getenv("WARPHEAP_TRACE");
  if (name == nullptr) return;
  char path[4096];
  const int length =
      std::snprintf(path, sizeof path, "%s.%ld", name, static_cast<long>(::getpid()));
  if (length < 0 || static_cast<std::size_t>(length) >= sizeof path) return;
  file = ::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return;
  if (const char* most = std::getenv("WARPHEAP_TRACE_EVENTS"))
    events_left = std::strtoull(most, nullptr, 10);
  used = static_cast<std::size_t>(
      std::snprintf(buffer, longest_line, "Thread,Time,Action,Pointer,Size,Stream\n"));
  recording.store(true, std::memory_order_relaxed);
}

// A child of fork has the parent's buffer: what is in it, the parent writes.
void before_fork() {
  while (busy.test_and_set(std::memory_order_acquire)) {
  }
}
void in_parent() { busy.clear(std::memory_order_release); }
void in_child() {
  used = 0;
  recording.store(false, std::memory_order_relaxed);
  if (file >= 0) ::close(file);
  file = -1;
  busy.clear(std::memory_order_release);
  open_file();
}

__attribute__((constructor)) void begin() {
  ::pthread_atfork(before_fork, in_parent, in_child);
  open_file();
}

__attribute__((destructor)) void end() {
  recording.store(false, std::memory_order_relaxed);
  const guard held;
  if (file >= 0) flush();
}

}  // namespace

extern "C" {

void* malloc(std::size_t size) {
  void* p = __libc_malloc(size);
  allocated(p, size);
  return p;
}

void free(void* p) {
  freed(p);  // before it: afterwards another thread may have the address already
  __libc_free(p);
}

void* calloc(std::size_t count, std::size_t size) {
  void* p = __libc_calloc(count, size);
  allocated(p, count * size);
  return p;
}

void* realloc(void* p, std::size_t size) {
  freed(p);
  void* moved = __libc_realloc(p, size);
  if (moved != nullptr)
    allocated(moved, size);
  else if (size != 0)  // refused: the old one is there as before, of a size that nobody knows
    allocated(p, size);
  return moved;
}

void* memalign(std::size_t alignment, std::size_t size) {
  void* p = __libc_memalign(alignment, size);
  allocated(p, size);
  return p;
}

void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }

int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  if (alignment % sizeof(void*) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0)
    return EINVAL;
  void* p = memalign(alignment, size);
  if (p == nullptr) return ENOMEM;
  *out = p;
  return 0;
}

}  // extern "C"
