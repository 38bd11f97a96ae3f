// The public heap: one object on the host that owns memory which host code and kernels share.
//
//   warpheap::heap heap{{.reserve_bytes = 8_GiB}};
//   void* p = heap.malloc(100);                       // host code
//   kernel(heap.device(), p);                         // kernels: device_heap.cuh
//   heap.free(p);                                     // either side frees the other's objects
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
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

/// Objects of one side, exact when nothing of that side runs.
struct side_stats {
  std::uint64_t live_objects = 0;  ///< objects handed out and not freed
  std::uint64_t live_bytes = 0;    ///< bytes of their slots, blocks and pages
  std::uint64_t span_bytes = 0;    ///< bytes of all pages that hold them, free slots included
  std::uint64_t spans = 0;         ///< spans of small objects
};

/// What one size class of the device holds, and what kernels did with it so far.
struct class_stats {
  std::uint32_t slot_bytes = 0;
  std::uint64_t spans = 0;
  std::uint64_t empty_spans = 0;  ///< of these, without an object
  std::uint64_t full_spans = 0;   ///< of these, without a free slot
  std::uint64_t live_slots = 0;
  std::uint64_t free_slots = 0;
  std::uint64_t live_objects = 0;  ///< as live_slots, but for tiny objects and large ones

  std::uint64_t grows = 0;          ///< spans made
  std::uint64_t retires = 0;        ///< spans given back
  std::uint64_t failures = 0;       ///< objects asked for and answered with nullptr
  std::uint64_t words_scanned = 0;  ///< words of free bits that searches have read

  /// Counted in observed kernels only (device_heap.cuh). Where all are, and mallocs of a class that
  /// had no span are in the class of whole pages, mallocs - frees == live_objects. A free by the
  /// host counts, and so does a reset as a free of each object.
  std::uint64_t mallocs = 0;
  std::uint64_t frees = 0;
};

/// Times of calls of observed kernels: in cycles of a multiprocessor on CUDA, in nanoseconds on the
/// executor. Bucket b counts those from 2^(b-1) up to 2^b - 1, the last all longer ones.
struct latency_histogram {
  std::uint64_t buckets[latency_buckets] = {};

  std::uint64_t calls() const;
  /// A time that the share q (0..1) of the calls has not exceeded, to the end of its bucket.
  std::uint64_t quantile(double q) const;
};

/// Figures of a heap, all counted anew by `heap::stats()`; bytes unless the name says otherwise.
struct heap_stats {
  std::uint64_t reserve_bytes = 0;  ///< address space of the heap
  std::uint64_t bytes_in_use = 0;   ///< live bytes of both sides
  std::uint64_t page_bytes = 0;     ///< bytes of pages in spans and large objects of both sides
  std::uint64_t peak_bytes = 0;     ///< most pages ever out of the page allocator at once
  /// bytes_in_use / page_bytes; 1 when no page is in use.
  double utilisation = 1;

  side_stats device;
  std::uint64_t device_tiny_objects = 0;  ///< among the device's live objects: below 16 bytes
  std::uint64_t device_large_objects = 0;
  std::uint64_t stock_bytes = 0;        ///< free pages that the device holds
  std::uint64_t device_grows = 0;       ///< spans made by kernels so far
  std::uint64_t device_retires = 0;     ///< spans given back so far
  std::uint64_t device_pages_home = 0;  ///< pages that kernels sent home to the host so far
  std::uint64_t host_requests = 0;      ///< requests of kernels to the refill service so far
  std::uint64_t host_waits = 0;         ///< times that a warp waited for the service
  std::uint64_t longest_wait_ns = 0;
  /// Index = class 1..67, 68 = tiny objects and their blocks, 69 = objects of whole pages. Of 0,
  /// `frees` are objects of the host that kernels have freed.
  std::vector<class_stats> device_classes;
  latency_histogram device_malloc_latency;   ///< one for each object made
  latency_histogram device_free_latency;     ///< one for each object freed
  latency_histogram device_failure_latency;  ///< one for each answer nullptr

  side_stats host;
  std::uint64_t host_mallocs = 0;
  std::uint64_t host_frees = 0;

  /// Errors detected so far, index = error_kind, both sides.
  std::uint64_t errors[error_kinds] = {};
  /// Words with free slots that no search would find, and free bits outside any span. The first is
  /// always 0 in a sound heap; the second counts marks that frees of dead objects left behind.
  std::uint64_t unreachable_words = 0;
  std::uint64_t phantom_words = 0;
};

/// Several lines for people, sums shown.
std::string to_string(const heap_stats& stats);

/// One JSON object: what kernels have and did. Its member "schema" is the version of its form, as
/// in the one of memory_stats, which is about the host. Names are those of the struct without
/// "device_"; "classes" has those of which there is something to say, "latency" the buckets of each
/// kind up to the last that is not 0.
std::string to_json(const heap_stats& stats);
inline constexpr int heap_stats_schema = 1;

/// A heap for kernels and host code. On CUDA it belongs to the device that is current for the
/// thread that makes it, and kernels that use it run on that device; its calls may be made from
/// threads with any current device, which they leave as it was.
///
/// malloc, calloc, realloc, aligned_alloc, make, free, destroy, usable_size, acquire_stack,
/// release_stack, memory, set_memory_limit and profile are thread-safe and may be called while
/// kernels run. synchronize, stats, trim, reset, errors, take_device_events, state_text,
/// print_state and the destructor wait for all kernels of the backend and need that no other call
/// and no kernel uses the heap meanwhile. They throw what a failed kernel throws that nobody has
/// synchronised with yet, and can be called again.
///
/// A child of a fork may go on with its parent's heaps on the CPU backend, whatever other threads
/// did at the moment: allocate and free objects of the host, take figures, trim, reset, and end
/// them. It has no refill service and nothing that runs kernels: what it frees of kernels' objects
/// stays, and the calls that wait for kernels come back only if none ran at the fork. Kernels, and
/// heaps made in the child, need threads that only the parent has. Of a heap on CUDA a child has
/// nothing: not the memory, so that objects must not be touched; what allocates answers nullptr,
/// frees do nothing, calls that wait for kernels throw heap_error, and the heap can be ended.
///
/// On CUDA a heap is made after main() has begun, as kernels may not be known before. One of static
/// lifetime may be destroyed after CUDA has ended, with neither a leak report nor a printed state;
/// once exit() has come to objects that are older than the first heap, it must not be used.
class heap {
 public:
  /// Options from the environment variable WARPHEAP and the defaults.
  heap();
  /// The given options; WARPHEAP still has the last word on those that it names.
  /// Throws heap_error when the options make no sense, the backend cannot be used or there is not
  /// enough memory.
  explicit heap(heap_options options);
  /// Reports how many objects are still live (option report_leaks). Their memory goes all the same.
  ~heap();
  heap(heap&&) noexcept;
  heap& operator=(heap&&) noexcept;

  /// As the C functions of these names, on this heap: nullptr when there is no memory. malloc(0)
  /// gives one address that free ignores; realloc(p, 0) frees p and gives that address.
  void* malloc(std::size_t size) noexcept;
  void* calloc(std::size_t count, std::size_t size) noexcept;
  /// nullptr for an alignment that is no power of two.
  void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept;
  /// The same for an object that may hold pointers to others, or may not; the calls above are for
  /// those that hold none. realloc keeps the kind.
  void* malloc(std::size_t size, contents kind) noexcept;
  void* calloc(std::size_t count, std::size_t size, contents kind) noexcept;
  void* aligned_alloc(std::size_t alignment, std::size_t size, contents kind) noexcept;
  /// A T made of the arguments, of the kind contents_of<T>; nullptr when there is no memory. What
  /// its constructor throws is thrown, and nothing is lost. T() is zeroed where it has no
  /// constructor. (Go: newobject.)
  template <class T, class... Args>
  T* make(Args&&... args);
  /// Destroys and frees what make gave; nullptr is ignored.
  template <class T>
  void destroy(T* p) noexcept {
    if (p == nullptr) return;
    p->~T();
    free(p);
  }
  /// Leaves an object where it is while it stays in its class of sizes and shrinks by less than
  /// half. One of more than 32 KiB also when it grows and the pages behind it are free, and when it
  /// shrinks, while it has more than 32 KiB: its last pages go back then. Otherwise it moves, and
  /// is copied; a small one that grows by less than a quarter gets room for a quarter. Host objects
  /// only: for an object made by a kernel, whose size only the device knows, it reports, answers
  /// nullptr and leaves the object as it is.
  void* realloc(void* p, std::size_t size) noexcept;
  /// Frees an object of either side. Objects of kernels are freed in batches, at the latest by the
  /// next synchronize(). Wrong pointers are counted and reported, and change nothing. When two
  /// threads free one object at the same time, the second free may be reported by the next
  /// synchronize() only.
  void free(void* p) noexcept;
  /// Bytes that may be used at p; 0 for what is no live host object.
  std::size_t usable_size(const void* p) const noexcept;

  /// A scratch stack: `bytes` rounded up to a power of two, at least 2 KiB, aligned as asked, up to
  /// a page (8 KiB). Contents are indeterminate. nullptr when there is no room, and for another
  /// alignment. It is no object: free refuses it and reset leaves it; it has to be released before
  /// the heap goes. Sizes below 32 KiB come from a cache of the thread, without a lock.
  /// warpheap/scratch_stack.hpp has an owner for it. Method: the Go runtime's stack pools.
  void* acquire_stack(std::size_t bytes, std::size_t alignment = 16) noexcept;
  /// bytes and alignment as in acquire_stack, by any thread; nullptr is ignored. Aborts when there
  /// is no such stack at p.
  void release_stack(void* p, std::size_t bytes, std::size_t alignment = 16) noexcept;
  /// Bytes that acquire_stack gives; 0 for an alignment or a size that it does not.
  static std::size_t stack_size(std::size_t bytes, std::size_t alignment = 16) noexcept;

  /// The heap as kernels see it: pass it by value as `warpheap::device_heap`. Throws heap_error in
  /// a build that has no kernels (WARPHEAP_SIMT off and no CUDA).
  heap_view device() const;

  /// Waits for kernels, and applies all frees that are on their way from one side to the other.
  /// Several threads may do so at once.
  void synchronize();
  /// Counts everything. O(pages in use).
  heap_stats stats();
  /// Where the memory is and what was done with it, of the host's side: at any time, also while
  /// kernels run and other threads use the heap. O(threads), takes the locks of the slow paths.
  memory_stats memory() const;
  /// heap_options::memory_limit from now on; 0: none. At any time.
  void set_memory_limit(std::size_t bytes) noexcept;
  /// Gives everything empty back: spans to pages, pages of the device to the host, memory of free
  /// pages to the system. Returns the bytes given back to the system.
  std::size_t trim();
  /// Frees every object of both sides at once. On the host's side in a time that does not depend on
  /// their number: its spans are put in order later, when they are needed again or the service has
  /// time. From the start, a free of a pointer from before is told as a double free, or as one of
  /// what is not allocated where no object began, as long as the slot has no new owner.
  void reset();
  /// Marks an object, so that it outlives the next sweep: one of the host sweep(), one of kernels
  /// sweep_device(). Thread-safe beside malloc and free.
  mark_status mark(const void* p);
  /// Marks the object at p and all that can be reached from it: every word of an object that may
  /// hold pointers is taken for one, also into the middle of another. Nothing may write to these
  /// objects meanwhile. What became of the first mark; no_memory when any had no room.
  mark_status mark_reachable(const void* p);
  /// Frees every host object without a mark, takes all marks off, and says what it found, with at
  /// most `listed` objects one by one. What was made after the first mark lives on without one, as
  /// do objects of kernels. Needs the heap at rest, as reset does. Throws heap_error in a heap with
  /// a profile or debug modes, whose objects are surrounded by others; mark does as well.
  sweep_report sweep(std::size_t listed = 1000);
  /// The same two for objects of kernels, each for itself. From begin_device_marks() on,
  /// device_heap::mark marks them in kernels; mark() does for the host, at any time, and answers
  /// mark_status::device. sweep_device frees those without a mark: also what kernels have made
  /// since, unless they mark it themselves. It lists a million objects at most, and is no event of
  /// observed kernels. Both need the heap at rest. Marks take an eighth of reserve_bytes, on CUDA
  /// of the device's memory, on the CPU as touched, until the heap goes; heap_error where there is
  /// no room, and as of sweep().
  void begin_device_marks();
  sweep_report sweep_device(std::size_t listed = 1000);
  /// The recent errors that were detected since the last call, oldest first.
  std::vector<error_record> errors();

  /// The calls of observed kernels since the last time; empty without heap_options::device_events.
  /// With a trace or a profile, synchronize() and what calls it take them for these. At rest.
  device_events take_device_events();
  /// The whole heap as text for people: both sides, every class with its spans and counters, the
  /// stock, the queue of refills, latencies and events, and the text of memory(). For reading, not
  /// for parsing: that is what to_json is for. At rest.
  std::string state_text();
  void print_state(std::FILE* to = stderr);

  /// The host's allocations sampled so far; empty without profile_rate. May be called at any time.
  heap_profile profile() const;

  backend_kind backend() const noexcept;
  /// "cuda" or "simt".
  std::string backend_name() const;
  /// Why this backend was chosen, a phrase for people.
  std::string backend_reason() const;
  /// Name of the GPU or CPU that runs the kernels.
  std::string device_name() const;
  const heap_options& options() const noexcept;

  /// The thread that serves kernels' requests for pages. Stopped, kernels get nullptr instead of
  /// more pages, at once; the heap works on with what the device has. stop_refill_service throws
  /// heap_error when that thread itself calls it, from heap_options::on_report.
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
  free_view direct_;  // none where layers are to see each call
};

template <class T, class... Args>
T* heap::make(Args&&... args) {
  static_assert(!std::is_array_v<T>, "an array has no constructor: use malloc");
  // Slots are aligned to the largest power of two up to 16 that divides their size.
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
