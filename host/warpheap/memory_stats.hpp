// Where a heap's memory is, and what it has been used for. (Go: mstats.)
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <warpheap/size_classes.hpp>

namespace warpheap {

/// The calls of heap::reset so far.
struct epoch_stats {
  static constexpr unsigned ring_slots = 256;
  std::uint64_t count = 0;
  std::uint64_t total_ns = 0;  ///< nanoseconds, all of them together
  /// Of the last 256 resets: how long each took, in nanoseconds, and when it ended, in nanoseconds
  /// since 1970. The latest is at (count + 255) % 256.
  std::array<std::uint64_t, ring_slots> duration_ns{};
  std::array<std::uint64_t, ring_slots> end_unix_ns{};
};

/// Figures of a heap, from heap::memory(). In bytes, unless the name says otherwise. A figure whose
/// name ends in _inuse is part of the corresponding one that ends in _sys.
///
/// A snapshot may be taken at any time, while other threads and kernels use the heap. In every
/// snapshot:
/// - sys is the sum of all other figures that end in _sys;
/// - heap_sys = heap_inuse + heap_idle;
/// - quarantined <= heap_released <= heap_idle;
/// - mallocs = tiny_mallocs + the mallocs of all of by_class, and the same holds for frees;
/// - frees <= mallocs in each class;
/// - live_objects = mallocs - frees.
/// Counts of events never decrease from one snapshot to the next. While nothing else runs, all
/// figures are exact, and heap_alloc <= heap_inuse.
struct memory_stats {
  // Memory by use.
  std::uint64_t sys = 0;               ///< the sum of the figures below that end in _sys
  std::uint64_t heap_sys = 0;          ///< pages of host objects, and free ones
  std::uint64_t heap_inuse = 0;        ///< pages of host objects' spans
  std::uint64_t heap_idle = 0;         ///< free pages
  std::uint64_t heap_released = 0;     ///< free pages that hold no memory
  std::uint64_t quarantined = 0;       ///< inaccessible free pages, of regions that ended
  std::uint64_t device_sys = 0;        ///< pages lent to kernels: their objects and their stock
  std::uint64_t stacks_sys = 0;        ///< pages of scratch stacks
  std::uint64_t stacks_inuse = 0;      ///< stacks handed out
  std::uint64_t regions_sys = 0;       ///< pages of regions
  std::uint64_t mspan_sys = 0;         ///< records of spans
  std::uint64_t mspan_inuse = 0;       ///< those of them for spans that have pages
  std::uint64_t mcache_sys = 0;        ///< caches of threads
  std::uint64_t mcache_inuse = 0;      ///< those in use, or kept until a reset's sweep ends
  std::uint64_t tiny_mask_sys = 0;     ///< records of objects below 16 bytes
  std::uint64_t buckhash_sys = 0;      ///< call stacks of the profile
  std::uint64_t page_table_sys = 0;    ///< tables of pages, for the part the heap has grown to
  std::uint64_t device_table_sys = 0;  ///< tables used by kernels, for the whole reservation
  std::uint64_t other_sys = 0;         ///< obtained from the system for records, not yet used

  std::uint64_t reserved = 0;      ///< address space of the heap
  std::uint64_t committed = 0;     ///< pages that hold or may hold memory, see memory_limit
  std::uint64_t memory_limit = 0;  ///< on committed pages and the records; 0: none
  std::uint64_t peak = 0;          ///< most pages ever in use at once, for all uses
  // Memory of free pages given back to the system so far, by cause.
  std::uint64_t scavenged_asked = 0;       ///< by trim
  std::uint64_t scavenged_growth = 0;      ///< because the heap grew
  std::uint64_t scavenged_limit = 0;       ///< because of the memory limit
  std::uint64_t scavenged_background = 0;  ///< because it had not been used for a while

  // Objects of the host.
  std::uint64_t heap_alloc = 0;    ///< bytes of live objects: their slots, blocks and pages
  std::uint64_t total_alloc = 0;   ///< bytes of all objects ever allocated
  std::uint64_t mallocs = 0;       ///< objects ever allocated
  std::uint64_t frees = 0;         ///< objects ever freed
  std::uint64_t live_objects = 0;  ///< objects that exist
  std::uint64_t tiny_mallocs = 0, tiny_frees = 0;  ///< of these, in shared blocks
  std::uint64_t tiny_blocks = 0;                   ///< blocks of 16 bytes that hold such objects
  // Bytes of large objects ever allocated and freed, including what realloc added or removed.
  std::uint64_t large_alloc = 0, large_free = 0;
  std::uint64_t large_mallocs = 0, large_frees = 0;  ///< large objects ever: by_class[0]
  struct class_figures {
    std::uint64_t slot_bytes = 0;  ///< 0: large objects
    std::uint64_t mallocs = 0, frees = 0;
  };
  std::array<class_figures, num_classes> by_class{};
  std::uint64_t out_of_memory = 0;  ///< allocations that found no memory
  std::uint64_t refused = 0;        ///< allocations of impossible sizes and alignments
  std::uint64_t thread_caches = 0;  ///< threads that have a cache of this heap

  epoch_stats epochs;
};

/// Several lines of text for people, with sums.
std::string to_string(const memory_stats& stats);

/// One JSON object. Its member "schema" is the version of the format, raised by any change that
/// readers may notice. Names are those of the struct. "epochs" lists the resets from the oldest to
/// the newest.
std::string to_json(const memory_stats& stats);
inline constexpr int memory_stats_schema = 1;

}  // namespace warpheap
