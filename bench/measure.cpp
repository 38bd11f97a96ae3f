#include "bench/measure.hpp"

#include <algorithm>

#include "bench/registry.hpp"

namespace warpheap::bench {

void timings::add(elapsed took, std::uint64_t operations) {
  if (operations == 0) return;
  const auto count = static_cast<double>(operations);
  if (took.cpu_ns && cpu_per_op_.size() == per_op_.size())
    cpu_per_op_.push_back(*took.cpu_ns / count);
  per_op_.push_back(took.ns / count);
}

std::vector<double> timings::warm_of(const std::vector<double>& all) const {
  if (all.size() <= 1) return all;
  const std::size_t left_out = std::min<std::size_t>(1 + warm_ups_, all.size() - 1);
  return {all.begin() + static_cast<std::ptrdiff_t>(left_out), all.end()};
}

std::vector<double> timings::warm() const { return warm_of(per_op_); }

double timings::ns_per_op() const { return median(warm()); }

operation timings::finish() const {
  operation out{name_, ns_per_op(), std::nullopt, at_, {warm()}, {}};
  if (cpu_per_op_.size() == per_op_.size()) out.cpu_passes = {warm_of(cpu_per_op_)};
  if (!per_op_.empty()) out.cold_ns_per_op = per_op_.front();
  return out;
}

heap_snapshot snapshot(heap& from) {
  const heap_stats stats = from.stats();
  heap_snapshot out;
  out.live_objects = stats.device.live_objects + stats.host.live_objects;
  out.host_requests = stats.host_requests;
  out.waits = stats.host_waits;
  out.page_bytes = stats.page_bytes;
  out.bytes_in_use = stats.bytes_in_use;
  out.peak_bytes = stats.peak_bytes;
  for (unsigned kind = 0; kind < error_kinds; ++kind)
    if (kind != static_cast<unsigned>(error_kind::out_of_memory))
      out.detected_errors += stats.errors[kind];
  out.damaged_words = stats.unreachable_words + stats.phantom_words;
  return out;
}

heap_use usage(const heap_snapshot& full, const heap_snapshot& last, std::uint64_t payload_bytes,
               std::uint64_t mallocs) {
  heap_use out;
  const double millions = static_cast<double>(mallocs) / 1e6;
  if (mallocs != 0) {
    out.host_requests_per_million_mallocs = static_cast<double>(last.host_requests) / millions;
    out.waits_per_million_mallocs = static_cast<double>(last.waits) / millions;
  }
  out.bytes_in_use = full.bytes_in_use;
  out.peak_bytes = last.peak_bytes;
  if (full.page_bytes != 0)
    out.utilisation = static_cast<double>(payload_bytes) / static_cast<double>(full.page_bytes);
  return out;
}

void require_served(std::uint64_t nulls, std::uint64_t mallocs, std::uint64_t live_bytes,
                    std::size_t heap_bytes) {
  // A quarter more than twice: a class rounds up by an eighth, and spans are taken as a whole.
  if (nulls == 0 || live_bytes > heap_bytes / 9 * 4) return;
  throw integrity_error("expected memory for " + std::to_string(mallocs) + " objects, at most "
                        + std::to_string(live_bytes) + " bytes at once in a heap of "
                        + std::to_string(heap_bytes) + ", found " + std::to_string(nulls)
                        + " null pointers");
}

void require_empty(heap& checked, const std::string& when) {
  const heap_snapshot now = snapshot(checked);
  if (now.live_objects != 0)
    throw integrity_error("the heap " + when + ": expected 0 live objects, found "
                          + std::to_string(now.live_objects));
  if (now.detected_errors != 0)
    throw integrity_error("the heap " + when + ": expected no wrong frees, found "
                          + std::to_string(now.detected_errors) + " reported");
  if (now.damaged_words != 0)
    throw integrity_error("the heap " + when + ": expected all free slots within reach, found "
                          + std::to_string(now.damaged_words) + " words that are not");
}

}  // namespace warpheap::bench
