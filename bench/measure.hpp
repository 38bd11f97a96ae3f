// From single timings and snapshots of the heap to what a result reports.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <warpheap/heap.hpp>

#include "bench/report.hpp"
#include "bench/statistics.hpp"
#include "bench/stopwatch.hpp"

namespace warpheap::bench {

/// Times of one operation in nanoseconds, one for each repetition; the first one was cold, and the
/// next `warm_ups` do not count.
class timings {
 public:
  explicit timings(std::string name, unsigned warm_ups = 0, fields at = {})
      : name_(std::move(name)), at_(std::move(at)), warm_ups_(warm_ups) {}

  void add(elapsed took, std::uint64_t operations);
  void add(double ns, std::uint64_t operations) { add(elapsed{ns, std::nullopt}, operations); }
  /// Median of the warm ones; with one repetition that one.
  double ns_per_op() const;
  /// Those that count, in the order they were taken.
  std::vector<double> warm() const;
  operation finish() const;

 private:
  std::string name_;
  fields at_;
  unsigned warm_ups_;
  std::vector<double> warm_of(const std::vector<double>& all) const;

  std::vector<double> per_op_;
  std::vector<double> cpu_per_op_;  // as many, or none
};

/// The figures of a heap that the benchmark uses, at rest.
struct heap_snapshot {
  std::uint64_t live_objects = 0;  // of kernels and of the host
  std::uint64_t host_requests = 0;
  std::uint64_t waits = 0;
  std::uint64_t page_bytes = 0;  // of pages that hold objects
  std::uint64_t bytes_in_use = 0;
  std::uint64_t peak_bytes = 0;       // of pages, those in stock included
  std::uint64_t detected_errors = 0;  // wrong frees; out-of-memory is not one
  std::uint64_t damaged_words = 0;    // free bits out of reach, or outside of any span
};

heap_snapshot snapshot(heap& from);

/// What a result reports of the heap: `full` was taken while `payload_bytes` were live, `last` at
/// the end, after `mallocs` in total.
heap_use usage(const heap_snapshot& full, const heap_snapshot& last, std::uint64_t payload_bytes,
               std::uint64_t mallocs);

/// Throws integrity_error if there are null pointers though memory was there: no more than
/// `live_bytes` were asked for at once, of a heap more than twice as large.
void require_served(std::uint64_t nulls, std::uint64_t mallocs, std::uint64_t live_bytes,
                    std::size_t heap_bytes);

/// Throws integrity_error unless the heap holds no object, has detected no wrong free, and can find
/// every free slot.
void require_empty(heap& checked, const std::string& when);

}  // namespace warpheap::bench
