#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>
#include <warpheap/error.hpp>
#include <warpheap/heap_view.hpp>
#include <warpheap/options.hpp>

namespace warpheap {

/// A heap's errors: counted, the first few reported, the last ones kept. Thread-safe. Reports are
/// made without a lock: the user's on_report may call the heap.
class error_log {
 public:
  /// `options` has to outlive the log.
  explicit error_log(const heap_options& options) : options_(options) {}

  /// One line, to on_report or standard error. Throws nothing.
  void say(const std::string& line) const;
  /// An error that the host detected at p.
  void note(error_kind kind, const void* p);
  /// An allocation of so many bytes failed, while pages of `in_use` bytes were in use. Counted by
  /// who failed, not here. Throws nothing: there may be no memory for a record.
  void note_out_of_memory(std::size_t bytes, std::size_t in_use) noexcept;
  /// Takes over what kernels have recorded since the last time.
  void note_device(const device_state& state);

  /// Errors that the host detected so far, by kind.
  void copy_counts(std::uint64_t (&counts)[error_kinds]) const;
  /// The recent errors since the last call, oldest first.
  std::vector<error_record> take_recent();

 private:
  void keep(error_record record, std::vector<std::string>& lines);
  void keep(error_record record, const std::string& what, std::vector<std::string>& lines);

  const heap_options& options_;
  mutable std::mutex mutex_;  // guards what follows
  std::deque<error_record> recent_;
  std::uint64_t host_errors_[error_kinds] = {};
  std::uint64_t device_errors_seen_ = 0;
  unsigned said_ = 0;
};

}  // namespace warpheap
