#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>
#include <warpheap/error.hpp>
#include <warpheap/heap_view.hpp>
#include <warpheap/options.hpp>

namespace warpheap {

/// A heap's errors: counted, the first few of each kind reported, the latest ones kept.
/// Thread-safe. Reports are made without a lock: the user's on_report may call the heap. Errors
/// arise in free(), and when a process has no memory left, so noting them throws nothing and needs
/// no memory, except for the line that on_report gets; without memory for that, it goes to standard
/// error.
class error_log {
 public:
  /// `options` must outlive the log.
  explicit error_log(const heap_options& options) : options_(options) {}

  /// Reports one line, to on_report or standard error. Throws nothing.
  void say(const std::string& line) const;
  /// Reports "warpheap: ", what and why in one line.
  void say(const char* what, const char* why) const noexcept;
  /// Records an error that the host detected at p.
  void note(error_kind kind, const void* p) noexcept;
  /// note without a report, where on_report must not be called.
  void count(error_kind kind, const void* p) noexcept;
  /// Records a failed allocation of `bytes` while `in_use` bytes of pages were in use. The
  /// allocator counts it, not the log.
  void note_out_of_memory(std::size_t bytes, std::size_t in_use) noexcept;
  /// Takes over what kernels have recorded since the last call.
  void note_device(const device_state& state) noexcept;

  /// For a fork: between the two, no other thread is in here.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

  /// Errors that the host has detected so far, by kind.
  void copy_counts(std::uint64_t (&counts)[error_kinds]) const;
  /// The recent errors since the last call, oldest first.
  std::vector<error_record> take_recent();

 private:
  /// How many errors of a kind are reported.
  static constexpr unsigned most_said = 8;

  void keep(error_record record);
  unsigned next_line(error_kind kind);
  void say(error_kind kind, const char* what, unsigned line) const noexcept;

  const heap_options& options_;
  mutable std::mutex mutex_;                             // guards what follows
  std::array<error_record, error_ring_slots> recent_{};  // error n at n % error_ring_slots
  std::uint64_t kept_ = 0;                               // number of all so far
  std::uint64_t taken_ = 0;                              // of these, taken by take_recent
  std::uint64_t host_errors_[error_kinds] = {};
  std::uint64_t device_errors_seen_ = 0;
  unsigned said_[error_kinds] = {};
};

}  // namespace warpheap
