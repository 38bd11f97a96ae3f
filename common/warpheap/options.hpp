// All options of a heap.
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

/// Where kernels run, and what the heap's memory is made of.
enum class backend_kind {
  automatic,  ///< CUDA where a device can be used, otherwise the SIMT executor
  cuda,       ///< managed memory, kernels on the GPU
  simt        ///< plain mmap, kernels on the CPU
};

const char* to_string(backend_kind kind);

/// The largest heap_options::device_events: a ring of 32 GiB.
inline constexpr std::size_t max_device_events = std::size_t{1} << 30;

/// Options of a heap. The constructor of `heap` calls `validate()`. The option's key in the
/// environment variable WARPHEAP is given in brackets. A SIZE is a number, optionally followed by
/// K, M, G or T (powers of 1024).
struct heap_options {
  /// Address space of the heap in bytes, rounded down to whole 4 MiB chunks: 8 MiB to 1 TiB, and on
  /// CUDA no more than the device has free beside the other heaps of the process. Memory is taken
  /// from the system as pages are touched. [reserve=SIZE]
  static constexpr std::size_t default_reserve_bytes = std::size_t{1} << 30;
  std::size_t reserve_bytes = default_reserve_bytes;

  /// The least address space, in bytes, that the heap may do with. If there is not enough room for
  /// reserve_bytes (address space, as under `ulimit -v`, or the device's memory), the heap tries a
  /// half, a quarter, ... of it, down to this, and reports the size that it got. 0: 8 MiB if
  /// reserve_bytes has its default, and otherwise reserve_bytes: then the heap is as large as asked
  /// for, or throws. [least_reserve=SIZE]
  std::size_t least_reserve_bytes = 0;

  /// [backend=auto|cuda|simt]
  backend_kind backend = backend_kind::automatic;

  /// Bytes of free pages that the device has from the start, so that the first kernel does not wait
  /// for the host. Rounded down to pages; at most a quarter of the heap. [stock=SIZE]
  std::size_t initial_stock_bytes = std::size_t{4} << 20;

  /// A malloc in a kernel that waits for the refill service returns nullptr when the service has
  /// served no warp for so many nanoseconds. (If it serves others for 64 times as long, too.) 0:
  /// the default of the backend, which is 1 ms on CUDA, and 2 s on the executor, where the service
  /// thread shares the cores with the kernels.
  /// [timeout_us=NUMBER, in microseconds]
  std::uint64_t refill_timeout_ns = 0;

  /// Bytes of memory that the heap's pages and the host's records may have at once; 0: no limit.
  /// Before an allocation would exceed the limit, free pages give their memory back to the system.
  /// If that is not enough, the allocation returns nullptr. On CUDA no memory can be given back:
  /// the limit counts all pages that were ever used. heap::set_memory_limit changes it.
  /// [memory_limit=SIZE]
  std::size_t memory_limit = 0;

  /// Give memory of free pages back to the system in the background: what was not used for two to
  /// four seconds, except for 4 MiB and a tenth of what is in use. The refill service does this, in
  /// 1 % of its time. CPU backend only: on CUDA, discarding managed pages is work in a stream,
  /// which must not meet a running kernel. [scavenge=0|1]
  bool scavenge = true;

  /// Start the thread that serves refill requests. Without it, kernels have only the initial stock.
  /// [service=0|1]
  bool refill_service = true;

  /// Report how many objects were still live when the heap was destroyed. [leaks=0|1]
  bool report_leaks = true;

  /// Called with one line of text for each report (leaks, detected errors, warnings). Empty: the
  /// line goes to standard error. The call may come from any thread that uses the host API and from
  /// the refill service's thread. It may call the heap, should not be slow, and must not destroy
  /// the heap. On the service's thread, stop_refill_service and the calls that wait for kernels
  /// (heap lists them as the calls at rest) throw heap_error, as a kernel may be waiting for that
  /// very thread. An exception from on_report is dropped, with a line on standard error. [no key]
  std::function<void(const std::string&)> on_report = {};

  /// How many events of observed kernels (device_heap.cuh) the heap keeps until
  /// heap::take_device_events() or a trace takes them. Later ones are counted and lost. 32 bytes
  /// each; at most max_device_events. 0: none, but 2^20 in a heap with a trace_file or a
  /// profile_rate. [events=SIZE]
  std::size_t device_events = 0;
  /// File for heap::state_text() when the heap is destroyed; "-": standard error.
  /// [print_state=FILE]
  std::string print_state_file = {};

  // Profile and debug modes of host objects. They can be combined. With any of them, calls on
  // objects go through layers, in the order of host/layers/chain.hpp. With none, they cost nothing.
  // Their findings are reported like other errors, and kept for heap::errors(). Red zones and
  // efence keep their records when an object is freed, so that a second free is detected.

  /// Mean bytes between the allocations that heap::profile() samples with their call stacks. 1:
  /// all; 0: none. Costs some nanoseconds a call, and a stack a sample. [profile=SIZE]
  std::size_t profile_rate = 0;
  /// File for the profile when the heap is destroyed: folded stacks if the name ends in ".folded",
  /// otherwise in the format of pprof. If profile_rate is 0, Go's rate is used (512 KiB).
  /// [profile_file=FILE]
  std::string profile_file = {};
  /// File for a log of every allocation and free, one line each; host/layers/trace.hpp has the
  /// format. [trace=FILE]
  std::string trace_file = {};
  /// Tells AddressSanitizer, ThreadSanitizer or Valgrind, whichever is running, about each object,
  /// its end and its free, which counts as a write for ThreadSanitizer. 16 bytes and a record for
  /// each object. [annotate=0|1]
  bool annotate = false;
  /// Bytes of freed objects that are held back, and checked for writes before they are used again.
  /// A second free meanwhile is always detected. [quarantine=SIZE]
  std::size_t quarantine_bytes = 0;
  /// Puts at least 16 bytes on both sides of each object, and checks them for writes when it is
  /// freed. 32 bytes and a record for each object. [red_zones=0|1]
  bool red_zones = false;
  /// Overwrites freed objects with 0xdeadbeef. [clobberfree=0|1]
  bool clobber_free = false;
  /// Each object ends at a page without access, and freed objects lose theirs: an invalid access
  /// raises SIGSEGV at its instruction. 16 KiB for each object. CPU backend. [efence=0|1]
  bool efence = false;
  /// Objects are never freed, and their addresses rise. [sbrk=0|1]
  bool sbrk = false;

  /// Throws heap_error with what was asked for and what is possible.
  void validate() const;

  /// These options, changed by the environment variable WARPHEAP: "key=value,key=value" with the
  /// keys above. Unknown keys and bad values are ignored, and reported on standard error once per
  /// process.
  heap_options with_environment() const;
  static heap_options from_environment();

  /// The defaults, changed by a text of that form. `warn` is called once for each part that could
  /// not be parsed.
  static heap_options parse(const std::string& text,
                            const std::function<void(const std::string&)>& warn);
};

/// Parses "64M", "2G", "4096" or "1.5G" into bytes. Throws heap_error, which names the text.
std::size_t parse_size(const std::string& text);

/// "1.5 GiB", "640 KiB", "12 B".
std::string format_bytes(std::uint64_t bytes);

}  // namespace warpheap
