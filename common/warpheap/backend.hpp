// What the host side needs from a backend: three kinds of memory, and operations on the device's
// data at rest. host/ implements the memory, device/ the operations; this is their interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>
#include <warpheap/heap_view.hpp>
#include <warpheap/options.hpp>

namespace warpheap {

/// The side that uses memory more.
enum class memory_side { kernels, host };

/// Memory of one backend. Calls may come from any host thread except the refill service's.
class memory_backend {
 public:
  virtual ~memory_backend() = default;

  virtual backend_kind kind() const = 0;
  virtual std::string device_name() const = 0;

  /// Largest reservation possible now, in bytes.
  virtual std::size_t max_reserve() const = 0;
  /// Address space for pages, 4 MiB aligned; nullptr when refused. Where the system supports it, a
  /// touch before `map` raises a signal.
  virtual std::byte* reserve(std::size_t bytes) = 0;
  /// Lets touches populate whole chunks of it; false when the system refuses.
  virtual bool map(std::byte* address, std::size_t bytes) noexcept = 0;
  virtual void release(std::byte* base, std::size_t bytes) noexcept = 0;
  /// Whether `discard` is useful on this backend.
  virtual bool can_discard() const = 0;
  /// Gives the memory that backs whole pages back to the system. False when the system refuses or
  /// the backend cannot; the memory then stays.
  virtual bool discard(std::byte* address, std::size_t bytes) noexcept = 0;
  /// Makes every touch of whole pages raise a signal, or ends that; false when the system refuses
  /// or the backend cannot.
  virtual bool forbid(std::byte* address, std::size_t bytes, bool touch) noexcept = 0;
  /// Says which side is going to use whole pages. A hint, given while no kernel uses the heap.
  virtual void advise(std::byte* address, std::size_t bytes, memory_side side) noexcept = 0;
  /// True when discarded pages do not read as zero afterwards.
  virtual bool dirty_after_discard() const = 0;

  /// Zeroed memory for kernels' metadata; nullptr when refused.
  virtual void* allocate_device(std::size_t bytes) = 0;
  virtual void free_device(void* p, std::size_t bytes) noexcept = 0;
  /// Zeroed host memory that kernels can read and write; nullptr when refused.
  virtual void* allocate_pinned(std::size_t bytes) = 0;
  virtual void free_pinned(void* p, std::size_t bytes) noexcept = 0;
  /// Copies into device memory; waits for the copy.
  virtual void copy_to_device(void* device, const void* host, std::size_t bytes) = 0;
  virtual void copy_to_host(void* host, const void* device, std::size_t bytes) = 0;

  /// Number of cache slots for resident warps.
  virtual unsigned warp_slots() const = 0;
  virtual std::uint64_t default_refill_timeout_ns() const = 0;
};

/// Plain mmap; always available.
std::unique_ptr<memory_backend> make_mmap_memory();
/// CUDA managed memory of the calling thread's current device, which need not be current in later
/// calls. Throws heap_error with the reason when no device can be used.
std::unique_ptr<memory_backend> make_cuda_memory();
/// Empty when a CUDA device can be used, else the reason why not.
std::string why_no_cuda();
/// In a build with CUDA: empty when the current device can run the kernels of this build, else
/// CUDA's error, what they are compiled for, and what to do.
std::string why_no_cuda_kernels();

/// Why this process can make no CUDA calls any more, as given by the caller that found out; null
/// while it can. Cleanup that needs CUDA is skipped then: the driver does it, or has done it.
const char* why_cuda_is_gone() noexcept;
void give_up_cuda(const char* why) noexcept;

/// The calling thread's current CUDA device. Throws heap_error when there is none.
int current_cuda_device();

/// Makes a CUDA device the calling thread's current one, and restores the previous one at the end.
/// Throws heap_error when CUDA refuses.
class cuda_device_scope {
 public:
  explicit cuda_device_scope(int device);
  ~cuda_device_scope();
  cuda_device_scope(const cuda_device_scope&) = delete;
  cuda_device_scope& operator=(const cuda_device_scope&) = delete;

 private:
  const int before_;
  const bool changed_;
};

/// What a slow recount of a heap's device side finds.
struct device_counts {
  std::uint64_t spans[span_classes] = {};        ///< live spans
  std::uint64_t free_slots[span_classes] = {};   ///< free bits in them
  std::uint64_t empty_spans[span_classes] = {};  ///< those without an object
  std::uint64_t full_spans[span_classes] = {};   ///< those without a free slot
  std::uint64_t tiny_objects = 0;                ///< live objects below 16 bytes
  std::uint64_t large_objects = 0;
  std::uint64_t large_pages = 0;
  std::uint64_t stock_pages = 0;
  std::uint64_t unreachable_words = 0;  ///< words with free bits that no search would find
  std::uint64_t phantom_words = 0;      ///< free bits in pages outside live spans: double frees
};

/// What a sweep of kernels' objects finds. Classes are indexed as for the counters.
struct device_sweep {
  struct object {
    std::uint64_t address;
    std::uint64_t bytes;
    std::uint32_t cls;
  };
  std::uint64_t kept_objects = 0, kept_bytes = 0;
  std::uint64_t leaked_objects[counted_classes] = {};
  std::uint64_t leaked_bytes[counted_classes] = {};
  std::vector<object> leaks;                     ///< the first of them, in no particular order
  std::uint64_t dangling = 0;                    ///< marks of addresses without a live object
  std::vector<std::uint64_t> dangling_pointers;  ///< the first of them
};

/// Operations on the device's data, done in bulk with Thrust on the backend. `free_batch` may be
/// used while kernels run. All others first wait for the kernels of this backend, and must not run
/// concurrently with each other or with a kernel that uses the heap.
class device_operations {
 public:
  virtual ~device_operations() = default;

  virtual void synchronize() = 0;
  /// Frees device objects for the host, in kernels on a separate stream, without waiting for them.
  /// Takes pointers from the end of the vector, and sorts them so that lanes with the same word
  /// combine; false when there was no buffer for the rest.
  virtual bool free_batch(std::vector<void*>& pointers) = 0;
  /// Takes the pointers of host objects that kernels have freed so far. On the executor it may be
  /// called while kernels run, with `at_rest` false, on the thread that lends pages to the device;
  /// it then takes some, and leaves the flag set when there are more. `is_lent`: whether the host
  /// has lent a page to the device.
  virtual std::vector<void*> take_host_frees(const std::function<bool(page_index)>& is_lent,
                                             bool at_rest) = 0;
  virtual device_counts recount() = 0;
  /// Closes the open tiny blocks and gives the pages of empty spans to the stock.
  virtual void retire_empty_spans() = 0;
  /// Takes all pages out of the stock, as runs, lowest first.
  virtual std::vector<page_run> take_stock() = 0;
  /// Puts pages into the stock.
  virtual void give_stock(page_run run) = 0;
  /// Forgets every object, span and stock page of the device.
  virtual void reset() = 0;
  /// From now on objects can be marked, in zeroed device memory: a bit for each byte of the heap.
  virtual void begin_marks(std::uint32_t* marks) = 0;
  /// Marks objects for the host. With sweep, after begin_marks.
  virtual void mark(const std::vector<const void*>& pointers) = 0;
  /// Frees every object without a mark, clears all marks, and returns what it found, listing at
  /// most `listed` objects.
  virtual device_sweep sweep(std::size_t listed) = 0;
  virtual device_state read_state() = 0;
  /// Takes the events that kernels have written so far out of their ring.
  virtual device_events take_events() = 0;
  /// Repairs the refill state in case a kernel was aborted in the middle of a request. The refill
  /// service must not serve meanwhile.
  virtual void repair_refill() = 0;
};

std::unique_ptr<device_operations> make_simt_operations(const heap_view& view);
/// On the calling thread's current device, which need not be current in later calls.
std::unique_ptr<device_operations> make_cuda_operations(const heap_view& view);

}  // namespace warpheap
