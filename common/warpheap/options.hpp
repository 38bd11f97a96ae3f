// Every option of a heap in one table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <warpheap/error.hpp>

namespace warpheap {

inline namespace literals {
constexpr std::size_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr std::size_t operator""_MiB(unsigned long long n) { return n << 20; }
constexpr std::size_t operator""_GiB(unsigned long long n) { return n << 30; }
}  // namespace literals

/// Where kernels run and what the heap's memory is made of.
enum class backend_kind {
  automatic,  ///< CUDA where a device can be used, else the SIMT executor
  cuda,       ///< managed memory, kernels on the GPU
  simt        ///< plain mmap, kernels on the CPU
};

const char* to_string(backend_kind kind);

/// The largest heap_options::device_events: a ring of 32 GiB.
inline constexpr std::size_t max_device_events = std::size_t{1} << 30;

/// Options of a heap. `validate()` is called by the constructor of `heap`.
struct heap_options {
  /// Address space of the heap in bytes, rounded down to whole 4 MiB chunks. Memory is taken from
  /// the system as pages are touched. At least 8 MiB, at most 1 TiB; on CUDA no more than the
  /// device has free beside the other heaps of the process.
  static constexpr std::size_t default_reserve_bytes = std::size_t{1} << 30;
  std::size_t reserve_bytes = default_reserve_bytes;

  /// Where the system has not so much address space, as under `ulimit -v`, or the device not so
  /// much memory, a half, a quarter, ... of reserve_bytes is tried down to this, and a report says
  /// what the heap has. 0: whatever a heap can have where reserve_bytes is the default, and else
  /// reserve_bytes, so that a heap is as large as was asked for, or an error.
  std::size_t least_reserve_bytes = 0;

  backend_kind backend = backend_kind::automatic;

  /// Bytes that the device's stock of free pages holds from the start, so that the first kernel
  /// does not wait for the host. Rounded to pages, capped at a quarter of the heap.
  std::size_t initial_stock_bytes = std::size_t{4} << 20;

  /// The longest time a kernel waits for the refill service before its malloc answers nullptr, in
  /// nanoseconds. 0 = the backend's own: 1 ms on CUDA; 2 s on the executor, where the
  /// service thread shares the cores with the kernels.
  std::uint64_t refill_timeout_ns = 0;

  /// Bytes of memory that the heap's pages and the host's records may have at once; 0: no limit.
  /// Before an allocation would exceed it, free pages give their memory back to the system; if that
  /// is not enough, the answer is nullptr, as when the reservation is used up. On CUDA nothing can
  /// be given back, and it is a limit for pages ever used. Can be changed by
  /// heap::set_memory_limit.
  std::size_t memory_limit = 0;

  /// The refill service gives the memory of free pages back to the system that was not used for two
  /// to four seconds, but for a tenth of what is in use and 4 MiB, in 1 % of its time. CPU backend:
  /// CUDA's discard of managed pages is work in a stream, which must not meet a running kernel, and
  /// leaves their contents indeterminate.
  bool scavenge = true;

  /// Start the thread that serves refill requests. Without it kernels live on the initial stock.
  bool refill_service = true;

  /// Say on standard error how many objects were still live when the heap was destroyed.
  bool report_leaks = true;

  /// Called with one line of text for each report (leaks, detected errors, warnings); empty = the
  /// line goes to standard error. May be called from any thread that uses the host API and from the
  /// refill service's. It may call the heap, but should not be slow. On the service's thread, what
  /// waits for kernels (synchronize, stats, trim, reset, sweep, errors, take_device_events,
  /// state_text, print_state) and stop_refill_service throw heap_error: a kernel may be waiting
  /// for that thread. The heap must not be destroyed in it. Exceptions from it are dropped, with a
  /// line on standard error.
  std::function<void(const std::string&)> on_report = {};

  /// Events of observed kernels (device_heap.cuh) that are kept until the host takes them, by
  /// heap::take_device_events() or into the trace; later ones are counted and lost. 32 bytes each,
  /// at most max_device_events. With a trace_file or a profile_rate and none asked for, a million.
  std::size_t device_events = 0;
  /// heap::state_text() is written there when the heap is destroyed; "-": to standard error.
  std::string print_state_file = {};

  // Profile and debug modes of host objects; they can be combined. With any of them, calls on
  // objects go through layers, in the order of host/layers/chain.hpp; with none, they cost nothing.
  // What they find is reported as other errors are, and kept for heap::errors(). Red zones and
  // efence keep their records when an object goes, so that a second free is told.

  /// Mean bytes between the allocations that heap::profile() samples with their call stacks; 1 =
  /// all, 0 = none. Costs some nanoseconds a call, and a stack a sample.
  std::size_t profile_rate = 0;
  /// The profile is written there when the heap is destroyed: as folded stacks if the name ends in
  /// ".folded", else for pprof. Without a rate, that of Go is taken (512 KiB).
  std::string profile_file = {};
  /// Every allocation and free is logged there, a line each; host/layers/trace.hpp says which.
  std::string trace_file = {};
  /// Tells AddressSanitizer, ThreadSanitizer and Valgrind, whichever runs, of each object, of its
  /// end and of its free, which to ThreadSanitizer is a write. 16 bytes and a record an object.
  bool annotate = false;
  /// Bytes of freed objects that are held back, and looked at for writes before they are used
  /// again. A second free meanwhile is told for certain.
  std::size_t quarantine_bytes = 0;
  /// Bytes around each object, 16 and more on both sides, are looked at for writes when it is
  /// freed. 32 bytes and a record an object.
  bool red_zones = false;
  /// Freed objects are overwritten by 0xdeadbeef.
  bool clobber_free = false;
  /// Each object ends at a page that cannot be touched, and freed ones cannot be: SIGSEGV at the
  /// instruction. 16 KiB an object. CPU backend.
  bool efence = false;
  /// Objects are never freed and their addresses rise.
  bool sbrk = false;

  /// Throws heap_error with what was asked and what is possible.
  void validate() const;

  /// These options, changed by the environment variable WARPHEAP ("key=value,key=value"). Keys:
  /// reserve, least_reserve, stock, memory_limit, events, profile, quarantine (numbers with K, M,
  /// G), backend
  /// (auto|cuda|simt), timeout_us, profile_file, trace, print_state (names of files), service,
  /// scavenge, leaks, annotate, red_zones, clobberfree, efence, sbrk (0|1). An unknown key or a bad
  /// value is ignored; a process says so once, on standard error.
  heap_options with_environment() const;
  static heap_options from_environment();

  /// Defaults, changed by a text of that form; `warn` is called once for each part that was not
  /// understood.
  static heap_options parse(const std::string& text,
                            const std::function<void(const std::string&)>& warn);
};

/// Parses "64M", "2G", "4096", "1.5G" into bytes. Throws heap_error naming the text.
std::size_t parse_size(const std::string& text);

/// "1.5 GiB", "640 KiB", "12 B".
std::string format_bytes(std::uint64_t bytes);

}  // namespace warpheap
