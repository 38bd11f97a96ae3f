// The public heap: a host-side object that owns memory shared by host code and kernels.
//
//   warpheap::heap heap{{.reserve_bytes = 8_GiB}};
//   void* p = heap.malloc(100);                       // host code
//   kernel(heap.device(), p);                         // kernels: device_heap.cuh
//   heap.free(p);                                     // each side may free the other's objects
#pragma once

#include <warpheap/version.h>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#include <warpheap/construct.hpp>
#include <warpheap/contents.hpp>
#include <warpheap/error.hpp>
#include <warpheap/free_view.hpp>
#include <warpheap/heap_profile.hpp>
#include <warpheap/heap_view.hpp>
#include <warpheap/memory_stats.hpp>
#include <warpheap/options.hpp>
#include <warpheap/sweep_report.hpp>

namespace warpheap {

/// Objects of one side, the kernels or the host code. Exact while nothing on that side runs.
struct side_stats {
  std::uint64_t live_objects = 0;  ///< objects allocated and not freed
  std::uint64_t live_bytes = 0;    ///< bytes of their slots, blocks and pages
  std::uint64_t span_bytes = 0;    ///< bytes of all pages that hold them, free slots included
  std::uint64_t spans = 0;         ///< spans of small objects
};

/// What one size class of the device holds, and what has been done with it so far.
struct class_stats {
  std::uint32_t slot_bytes = 0;
  std::uint64_t spans = 0;
  std::uint64_t empty_spans = 0;  ///< spans without an object
  std::uint64_t full_spans = 0;   ///< spans without a free slot
  std::uint64_t live_slots = 0;
  std::uint64_t free_slots = 0;
  std::uint64_t live_objects = 0;  ///< equals live_slots, except for tiny and large objects

  std::uint64_t grows = 0;          ///< spans made
  std::uint64_t retires = 0;        ///< spans given back
  std::uint64_t failures = 0;       ///< requests answered with nullptr
  std::uint64_t words_scanned = 0;  ///< words of free bits read by searches

  /// Counted by observed kernels only (device_heap.cuh). If all are observed,
  /// mallocs - frees == live_objects. A malloc that found no span for its size and got whole pages
  /// instead is counted in the class of whole pages, where its object is. Frees by the host are
  /// included. A reset counts as a free of each object.
  std::uint64_t mallocs = 0;
  std::uint64_t frees = 0;
};

/// Durations of calls in observed kernels: in cycles of a multiprocessor on CUDA, in nanoseconds on
/// the executor. Bucket b counts durations from 2^(b-1) to 2^b - 1; the last bucket includes all
/// longer ones.
struct latency_histogram {
  std::uint64_t buckets[latency_buckets] = {};

  std::uint64_t calls() const;
  /// An upper bound on the duration of the fraction q (0..1) of the calls: the end of a bucket. For
  /// the last bucket it is no bound.
  std::uint64_t quantile(double q) const;
};

/// Figures of a heap. `heap::stats()` counts all of them afresh. In bytes unless the name says
/// otherwise.
struct heap_stats {
  std::uint64_t reserve_bytes = 0;  ///< address space of the heap
  std::uint64_t bytes_in_use = 0;   ///< live bytes of both sides
  std::uint64_t page_bytes = 0;     ///< bytes of pages in spans and large objects of both sides
  std::uint64_t peak_bytes = 0;     ///< most bytes of pages ever taken at once
  /// bytes_in_use / page_bytes; 1 when no page is in use.
  double utilisation = 1;

  side_stats device;
  std::uint64_t device_tiny_objects = 0;   ///< live objects of kernels below 16 bytes
  std::uint64_t device_large_objects = 0;  ///< live objects of kernels in whole pages
  std::uint64_t stock_bytes = 0;           ///< free pages that the device holds
  std::uint64_t device_grows = 0;          ///< spans made by kernels so far
  std::uint64_t device_retires = 0;        ///< spans given back so far
  std::uint64_t device_pages_home = 0;     ///< pages that kernels returned to the host so far
  std::uint64_t host_requests = 0;         ///< requests of kernels to the refill service so far
  std::uint64_t host_waits = 0;            ///< times that a warp waited for the service
  std::uint64_t longest_wait_ns = 0;
  /// By size class: 1..67, then 68 for tiny objects and their blocks, 69 for objects of whole
  /// pages. In element 0, `frees` counts host objects that kernels have freed.
  std::vector<class_stats> device_classes;
  latency_histogram device_malloc_latency;   ///< one entry for each object made
  latency_histogram device_free_latency;     ///< one entry for each object freed
  latency_histogram device_failure_latency;  ///< one entry for each nullptr returned

  side_stats host;
  std::uint64_t host_mallocs = 0;
  std::uint64_t host_frees = 0;

  /// Errors of both sides detected so far; the index is the error_kind.
  std::uint64_t errors[error_kinds] = {};
  /// unreachable_words: words with free slots that no search would find; always 0 in a sound heap.
  /// phantom_words: words with free bits outside any span, left behind by frees of dead objects.
  std::uint64_t unreachable_words = 0;
  std::uint64_t phantom_words = 0;
};

/// Several lines of text for people, with sums.
std::string to_string(const heap_stats& stats);

/// One JSON object about the device side; to_json(memory_stats) covers the host side. Its member
/// "schema" is the version of the format. Names are those of the struct without "device_".
/// "classes" leaves out classes without figures. "latency" has the buckets of each kind up to the
/// last one that is not 0.
std::string to_json(const heap_stats& stats);
inline constexpr int heap_stats_schema = 1;

/// A heap for kernels and host code. On CUDA it belongs to the device that is current in the thread
/// that makes it, and kernels that use it must run on that device. Its members may be called with
/// any current device, which they preserve.
///
/// When each member may be called:
/// - At any time, by any thread, even while kernels run: malloc, calloc, realloc, aligned_alloc,
///   make, free, destroy, usable_size, acquire_stack, release_stack, stack_size, mark,
///   mark_reachable, device, memory, set_memory_limit, profile, backend, backend_name,
///   backend_reason, device_name, options.
/// - One at a time, even while kernels run: stop_refill_service, start_refill_service.
/// - At rest, that is, while no kernel and no other call uses the heap: synchronize, stats, trim,
///   reset, sweep, begin_device_marks, sweep_device, errors, take_device_events, state_text,
///   print_state, the destructor, and both moves (the source and the target). Several threads may
///   be in synchronize at the same time.
///
/// The calls at rest, except for the moves, first wait for all kernels of the backend. If a kernel
/// has failed and nothing has reported that yet, they throw what it threw, and can then be called
/// again; the destructor reports it instead.
///
/// Fork, CPU backend: a child may go on using its parent's heaps, whatever other threads were doing
/// at the fork: it can allocate and free host objects, take figures, trim, reset, and destroy the
/// heaps. It has no refill service and cannot run kernels. Its frees of kernels' objects have no
/// effect. Calls that wait for kernels return only if no kernel was running at the fork. Fork,
/// CUDA: a child must not touch objects of its parent's heaps, as the driver takes the memory away.
/// There, allocations return nullptr, frees do nothing, and calls that wait for kernels throw
/// heap_error. The heap can be destroyed.
///
/// Static lifetime, CUDA: a heap must be made after main() has begun, as kernels may not be
/// registered before. It may be destroyed after CUDA has shut down, but then without a leak report
/// or a printed state. Once exit() has begun to destroy objects older than the first heap, no heap
/// may be used.
class heap {
 public:
  /// Options from the environment variable WARPHEAP and the defaults.
  heap();
  /// The given options; the environment variable WARPHEAP overrides those that it names. Throws
  /// heap_error when the options are invalid, the backend cannot be used or there is not enough
  /// memory.
  explicit heap(heap_options options);
  /// Reports how many objects are still live (option report_leaks). Their memory is released all
  /// the same.
  ~heap();
  /// A moved-from heap may only be destroyed or assigned to.
  heap(heap&&) noexcept;
  heap& operator=(heap&&) noexcept;

  /// Like the C functions of these names, on this heap; nullptr when there is no memory. Contents
  /// are indeterminate; calloc's are zero. malloc(0) always returns the same address, which free
  /// ignores. realloc(p, 0) frees p and returns that address.
  ///
  /// Alignment: 16, with two exceptions. An object of 17..24 bytes is aligned to 8. One of 1..15
  /// bytes without pointers is aligned to the largest power of two that divides its size, as Go
  /// aligns tiny objects: malloc(12) to 4, malloc(9) to 1; with contents::pointers, one of 1..8
  /// bytes is aligned to 8. An object that realloc leaves in place keeps its alignment.
  void* malloc(std::size_t size) noexcept;
  void* calloc(std::size_t count, std::size_t size) noexcept;
  /// nullptr also for an alignment that is not a power of two.
  void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept;
  /// With the kind of the object: whether it may hold pointers to other objects. The calls without
  /// a kind are for objects without pointers. realloc preserves the kind.
  void* malloc(std::size_t size, contents kind) noexcept;
  void* calloc(std::size_t count, std::size_t size, contents kind) noexcept;
  void* aligned_alloc(std::size_t alignment, std::size_t size, contents kind) noexcept;
  /// A T constructed from the arguments, of the kind contents_of<T>; nullptr when there is no
  /// memory. If the constructor throws, the memory is freed and the exception propagates. A T
  /// without a constructor is zeroed by make<T>(). (Go: newobject.)
  template <class T, class... Args>
  T* make(Args&&... args);
  /// Destroys and frees what make returned; nullptr is ignored.
  template <class T>
  void destroy(T* p) noexcept {
    if (p == nullptr) return;
    p->~T();
    free(p);
  }
  /// An object stays where it is while its slot is large enough and the new size is more than half
  /// of the slot. One of more than 32 KiB also stays when it grows and the pages behind it are
  /// free, and when it shrinks but keeps more than 32 KiB: its last pages are then freed. Otherwise
  /// the contents move to a new object; a small object that grows by less than a quarter then gets
  /// room for a quarter more. For host objects only, as the size of a kernel's object is known to
  /// the device alone: for such an object realloc reports an error, returns nullptr and changes
  /// nothing.
  void* realloc(void* p, std::size_t size) noexcept;
  /// Frees an object of either side. Objects of kernels are freed in batches, at the latest by the
  /// next synchronize(). A wrong pointer is counted and reported, and otherwise has no effect. When
  /// two threads free one object at the same time, the second free may go unreported until the next
  /// synchronize().
  void free(void* p) noexcept;
  /// Usable bytes at p; 0 when no live host object begins there.
  std::size_t usable_size(const void* p) const noexcept;

  /// A scratch stack of `bytes` rounded up to a power of two, at least 2 KiB. `alignment` is a
  /// power of two up to a page (8 KiB). Contents are indeterminate. nullptr when there is no room,
  /// or for another alignment. A stack is not an object: free refuses it, reset leaves it alone,
  /// and it must be released before the heap is destroyed. Sizes below 32 KiB come from a
  /// per-thread cache, without a lock. warpheap/scratch_stack.hpp has an owning class for it.
  /// Method: the Go runtime's stack pools.
  void* acquire_stack(std::size_t bytes, std::size_t alignment = 16) noexcept;
  /// `bytes` and `alignment` must be those passed to acquire_stack. Any thread may release a stack.
  /// nullptr is ignored. Aborts when there is no such stack at p.
  void release_stack(void* p, std::size_t bytes, std::size_t alignment = 16) noexcept;
  /// Size in bytes of the stack that acquire_stack returns; 0 if no stack has this size or
  /// alignment.
  static std::size_t stack_size(std::size_t bytes, std::size_t alignment = 16) noexcept;

  /// The heap as kernels see it: pass it by value as `warpheap::device_heap`. Throws heap_error in
  /// a build without kernels (WARPHEAP_SIMT off and no CUDA).
  heap_view device() const;

  /// Waits for kernels, and applies all frees in transit between the two sides.
  void synchronize();
  /// Counts everything. O(pages in use).
  heap_stats stats();
  /// Where the host's memory is and what it has been used for. O(threads); takes the locks of the
  /// slow paths.
  memory_stats memory() const;
  /// Sets heap_options::memory_limit; 0: none.
  void set_memory_limit(std::size_t bytes) noexcept;
  /// Gives back everything that is unused: empty spans become free pages, free pages of the device
  /// go to the host, and the memory of free pages goes to the system. Returns the bytes given back
  /// to the system.
  std::size_t trim();
  /// Frees every object of both sides at once. On the host side the time does not depend on their
  /// number: spans are swept later, when they are needed again or the service has time. A free of a
  /// pointer from before the reset is reported at once as long as its slot has not been reused: as
  /// a double free, or as "not allocated" where no object began.
  void reset();
  /// Marks an object so that it survives the next sweep: sweep() for a host object, sweep_device()
  /// for a kernel's.
  mark_status mark(const void* p);
  /// Marks the object at p and everything reachable from it. Every word of an object that may hold
  /// pointers is taken for a pointer, possibly into the middle of another object. Nothing may write
  /// to these objects meanwhile. Returns the status of the mark at p, or no_memory when there was
  /// no room for one of the marks.
  mark_status mark_reachable(const void* p);
  /// Frees every host object without a mark, removes all marks, and returns what it found, listing
  /// at most `listed` objects individually. Objects made after the first mark survive without a
  /// mark, as do objects of kernels. mark, mark_reachable and sweep throw heap_error in a heap with
  /// a profile or debug modes, where other data surrounds the objects.
  sweep_report sweep(std::size_t listed = 1000);
  /// Prepares a sweep of kernels' objects. From then on device_heap::mark marks them in kernels;
  /// mark() does so on the host, even before this call, and returns mark_status::device. Marks take
  /// an eighth of reserve_bytes until the heap is destroyed: device memory on CUDA; on the CPU,
  /// memory as it is touched. Throws heap_error when there is no room for them, and in a heap with
  /// a profile or debug modes.
  void begin_device_marks();
  /// Frees every object of kernels without a mark, including those made since begin_device_marks().
  /// Lists a million objects at most. The events of observed kernels do not include these frees.
  /// Throws as begin_device_marks does.
  sweep_report sweep_device(std::size_t listed = 1000);
  /// The most recent errors detected since the last call, oldest first.
  std::vector<error_record> errors();

  /// The calls of observed kernels since the previous take; empty without
  /// heap_options::device_events. In a heap with a trace or a profile, synchronize() and the calls
  /// that include it take the events, to feed the trace and the profile.
  device_events take_device_events();
  /// The whole heap as text for people: both sides, every class with its spans and counters, the
  /// stock, the queue of refills, latencies and events, and the text of memory(). It is not meant
  /// to be parsed: use to_json for that.
  std::string state_text();
  /// Writes state_text() to a file.
  void print_state(std::FILE* to = stderr);

  /// The allocations sampled so far; empty without profile_rate.
  heap_profile profile() const;

  backend_kind backend() const noexcept;
  /// "cuda" or "simt".
  std::string backend_name() const;
  /// Why this backend was chosen, as a phrase for people.
  std::string backend_reason() const;
  /// Name of the GPU or CPU that runs the kernels.
  std::string device_name() const;
  const heap_options& options() const noexcept;

  /// Stops and starts the thread that serves kernels' requests for pages. While it is stopped,
  /// kernels have only the pages that the device already holds, and a malloc that needs more
  /// returns nullptr at once. stop_refill_service throws heap_error when heap_options::on_report
  /// calls it on that very thread.
  void stop_refill_service();
  void start_refill_service();

 private:
  friend class region;
  void free_tiny(void* p) noexcept;
  void free_slow(void* p) noexcept;
  std::byte* take_region_chunk(std::size_t bytes) noexcept;
  void give_region_chunk(std::byte* start) noexcept;
  void region_out_of_memory(std::size_t bytes) noexcept;

  struct impl;
  std::unique_ptr<impl> impl_;
  free_view direct_;  // empty where layers must see each call
};

template <class T, class... Args>
T* heap::make(Args&&... args) {
  static_assert(!std::is_array_v<T>, "an array has no constructor: use malloc");
  // sizeof(T) is a multiple of alignof(T), so malloc aligns this size sufficiently, up to 16.
  void* p = alignof(T) <= 16 ? malloc(sizeof(T), contents_of<T>)
                             : aligned_alloc(alignof(T), sizeof(T), contents_of<T>);
  if (p == nullptr) return nullptr;
  struct freed_on_throw {
    heap* self;
    void* p;
    ~freed_on_throw() {
      if (p != nullptr) self->free(p);
    }
  } guard{this, p};
  T* const made = construct<T>(p, std::forward<Args>(args)...);
  guard.p = nullptr;
  return made;
}

}  // namespace warpheap
