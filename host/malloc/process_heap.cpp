#include "host/malloc/process_heap.hpp"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

#include <warpheap/bits.hpp>
#include <warpheap/layout.hpp>

#include "host/keep_errno.hpp"
#include "host/layers/chain.hpp"
#include "host/malloc/options.hpp"
#include "host/malloc/reserve.hpp"
#include "host/malloc/write_profile.hpp"
#include "host/os_page.hpp"

namespace warpheap {

constinit std::atomic<host_heap*> process_heap::direct_{nullptr};
constinit const free_view no_objects;
constinit std::atomic<const free_view*> process_heap::direct_view_{&no_objects};
constinit std::atomic<object_layer*> process_heap::front_{nullptr};
constinit std::size_t process_heap::max_object_ = 0;

namespace {

/// At once, and not through a stream of the C library, which might allocate a buffer.
void say(const char* line) {
  const keep_errno keep;
  (void)!write(STDERR_FILENO, line, std::strlen(line));
}

void warn_of_option(const char* part, const char* why) {
  char line[320];
  (void)std::snprintf(line, sizeof line, "warpheap: WARPHEAP: \"%.80s\" is ignored: %s\n", part,
                      why);
  say(line);
}

bool make_usable(std::uintptr_t start, std::size_t bytes) {
  const keep_errno keep;
  return mprotect(reinterpret_cast<void*>(start), bytes, PROT_READ | PROT_WRITE) == 0;
}

bool map(void*, std::byte* start, std::size_t bytes) {
  return make_usable(reinterpret_cast<std::uintptr_t>(start), bytes);
}

/// Makes usable the system's pages that hold some of the heap's, which may be smaller. A neighbour
/// in the same system page becomes usable with it; the reservation begins and ends at system pages.
bool commit(void* os_page_bytes, std::byte* start, std::size_t bytes) {
  const auto os_page = reinterpret_cast<std::uintptr_t>(os_page_bytes);
  const auto address = reinterpret_cast<std::uintptr_t>(start);
  const std::uintptr_t first = address / os_page * os_page;
  return make_usable(first, bits::align_up(address + bytes, os_page) - first);
}

bool decommit(void*, std::byte* start, std::size_t bytes) {
  const keep_errno keep;
  return madvise(start, bytes, MADV_DONTNEED) == 0;
}

std::byte* reserve(void*, std::byte* after, std::size_t bytes) {
  const keep_errno keep;
  return reserve_arenas(after, bytes);
}
void unreserve(void*, std::byte* start, std::size_t bytes) {
  const keep_errno keep;
  munmap(start, bytes);
}

alignas(host_heap) constinit std::byte heap_memory[sizeof(host_heap)];
alignas(heap_layer) constinit std::byte bottom_memory[sizeof(heap_layer)];
alignas(layer_chain) constinit std::byte chain_memory[sizeof(layer_chain)];
constinit host_heap* heap = nullptr;
constinit layer_chain* chain = nullptr;  // null: no layers
constinit process_options options;

// So that a child of a fork finds no layer's lock held. The heap's handlers were registered first,
// so its locks are taken after these.
void lock_layers() { chain->top().lock(); }
void unlock_layers() { chain->top().unlock(); }

// Run when all libraries are loaded, and before they are unloaded.
[[gnu::constructor]] void start_profile() {
  // Atomic: clang evaluates constructors at compile time, as if nothing had run before.
  layer_chain* const made = std::atomic_ref(chain).load(std::memory_order_relaxed);
  if (made != nullptr && made->profile() != nullptr) made->profile()->start();
}
[[gnu::destructor]] void finish() {
  if (heap != nullptr) {
    for (const void* p : heap->take_late_double_frees())
      process_heap::report(error_kind::late_double_free, p);
  }
  if (chain == nullptr) return;
  if (chain->profile() != nullptr && *options.profile_file != 0)
    write_process_profile(*chain->profile(), options.profile_file);
  chain->top().drain();
}

}  // namespace

object_layer& process_heap::make() {
  // The first thread makes the heap, others wait for it. Not a lock: a thread that comes here twice
  // would wait for itself.
  static constinit std::atomic<bool> taken{false};
  static constinit thread_local bool making = false;
  if (making) fatal("malloc deadlock: making the heap of the process called malloc");
  if (taken.exchange(true)) {
    object_layer* top = nullptr;
    while ((top = front_.load(std::memory_order_acquire)) == nullptr) sched_yield();
    return *top;
  }
  making = true;
  const keep_errno keep;
  if (!options.read(warn_of_option))
    say("warpheap: WARPHEAP is ignored: it has more than 1023 characters\n");
  const long os_page = sysconf(_SC_PAGESIZE);
  if (const char* wrong = os_page_error(os_page); wrong != nullptr) fatal(wrong);
  const std::size_t most = most_process_bytes();
  const process_reservation r = reserve_process_heap(
      options.reserve_bytes != 0 ? options.reserve_bytes : process_reserve_bytes());
  if (r.base == nullptr) fatal("cannot reserve arena virtual address space");
  if (reinterpret_cast<std::uintptr_t>(r.base) % arena_bytes != 0)
    fatal("misrounded allocation in mallocinit");
  max_object_ = largest_backed_object();
  page_source source;
  source.context = reinterpret_cast<void*>(os_page);
  source.reserve = reserve;
  source.unreserve = unreserve;
  source.most_bytes = options.reserve_bytes != 0 ? options.reserve_bytes : max_reserve_bytes;
  source.most_bytes = std::min(source.most_bytes, most);
  (r.is_counted ? source.commit : source.map) = r.is_counted ? commit : map;
  // A system page larger than the heap's pages may hold live objects beside free pages.
  if (page_size % static_cast<std::size_t>(os_page) == 0) source.decommit = decommit;
  source.needzero_after_decommit = false;
  // Neither is ever destroyed: other threads and late destructors still use them.
  heap = new (heap_memory) host_heap(r.base, r.bytes, source);
  if (options.memory_limit != 0) heap->set_memory_limit(options.memory_limit);
  object_layer* top = nullptr;
  if (options.layers.any()) {
    const layer_reports reports{nullptr,
                                [](void*, error_kind kind, const void* p) { report(kind, p); }};
    chain = new (chain_memory) layer_chain(*heap, options.layers, reports);
    top = &chain->top();
    pthread_atfork(lock_layers, unlock_layers, unlock_layers);
    if (!chain->trace_opened()) say("warpheap: the file for the trace cannot be written\n");
  } else {
    // Not a chain of none: it would touch six pages more.
    top = new (bottom_memory) heap_layer(*heap);
    direct_view_.store(&heap->view(), std::memory_order_release);
    direct_.store(heap, std::memory_order_release);
  }
  front_.store(top, std::memory_order_release);
  making = false;
  return *top;
}

std::size_t process_heap::trim() {
  (void)front();
  return heap->trim();
}

void process_heap::report(free_status status, const void* p) {
  switch (status) {
    case free_status::ok:
    case free_status::null:
    case free_status::zero_size: return;
    case free_status::foreign:
    case free_status::device_page: return report(error_kind::foreign_pointer, p);
    case free_status::interior: return report(error_kind::interior_pointer, p);
    case free_status::double_free: return report(error_kind::double_free, p);
    case free_status::not_allocated: return report(error_kind::not_allocated, p);
  }
}

void process_heap::report(error_kind kind, const void* p) {
  static constinit std::atomic<unsigned> said{0};
  constexpr unsigned most = 8;
  const unsigned number = said.fetch_add(1, std::memory_order_relaxed) + 1;
  if (number > most) return;
  char line[160];
  std::snprintf(line, sizeof line, "warpheap: %s: %p%s\n", to_string(kind), p,
                number == most ? " (further errors are not shown)" : "");
  say(line);
}

}  // namespace warpheap
