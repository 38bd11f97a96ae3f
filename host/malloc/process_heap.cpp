#include "host/malloc/process_heap.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>
#include <new>

#include "host/malloc/reserve.hpp"

namespace warpheap {

constinit std::atomic<host_heap*> process_heap::heap_{nullptr};
constinit std::size_t process_heap::max_object_ = 0;

namespace {

// free leaves errno alone, whatever it does on the way.
class keep_errno {
 public:
  ~keep_errno() { errno = value_; }

 private:
  const int value_ = errno;
};

bool commit(void*, std::byte* start, std::size_t bytes) {
  const keep_errno keep;
  return mprotect(start, bytes, PROT_READ | PROT_WRITE) == 0;
}

void decommit(void*, std::byte* start, std::size_t bytes) {
  const keep_errno keep;
  (void)madvise(start, bytes, MADV_DONTNEED);
}

}  // namespace

host_heap& process_heap::make() {
  // The first thread makes the heap, others wait for it. A lock would do, but for one thread that
  // comes here twice: it would wait for itself.
  static constinit std::atomic<bool> taken{false};
  static constinit thread_local bool making = false;
  if (making) fatal("malloc deadlock: making the heap of the process called malloc");
  if (taken.exchange(true)) {
    host_heap* h = nullptr;
    while ((h = heap_.load(std::memory_order_acquire)) == nullptr) sched_yield();
    return *h;
  }
  making = true;
  const keep_errno keep;
  const std::size_t wanted = reserve_from_environment();
  const process_reservation r =
      reserve_process_heap(wanted != 0 ? wanted : process_reserve_bytes());
  if (r.base == nullptr) fatal("cannot reserve arena virtual address space");
  max_object_ = largest_backed_object();
  page_source source;
  if (r.must_commit) source.commit = commit;
  source.decommit = decommit;
  source.needzero_after_decommit = false;
  // Never destroyed: other threads and late destructors go on to use it.
  alignas(host_heap) static std::byte memory[sizeof(host_heap)];
  auto* h = new (memory) host_heap(r.base, r.bytes, source);
  heap_.store(h, std::memory_order_release);
  making = false;
  return *h;
}

void process_heap::report(free_status status, const void* p) {
  const char* what = nullptr;
  switch (status) {
    case free_status::ok:
    case free_status::null:
    case free_status::zero_size: return;
    case free_status::foreign:
    case free_status::device_page: what = "free of a pointer from outside the heap"; break;
    case free_status::interior: what = "free of a pointer into the middle of an object"; break;
    case free_status::double_free: what = "double free"; break;
    case free_status::not_allocated: what = "free of a pointer that is not allocated"; break;
  }
  static constinit std::atomic<unsigned> said{0};
  constexpr unsigned most = 8;
  const unsigned number = said.fetch_add(1, std::memory_order_relaxed) + 1;
  if (number > most) return;
  const keep_errno keep;
  // To a buffer and out at once: a stream of the C library's might allocate its own.
  char line[160];
  const int n = std::snprintf(line, sizeof line, "warpheap: %s: %p%s\n", what, p,
                              number == most ? " (further errors are not shown)" : "");
  if (n > 0) (void)!write(STDERR_FILENO, line, static_cast<std::size_t>(n));
}

}  // namespace warpheap
