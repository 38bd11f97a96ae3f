// What a case measured, and how it is shown: a table on a stream, JSON in a file.
#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "bench/options.hpp"

namespace warpheap::bench {

using field_value = std::variant<std::int64_t, std::uint64_t, double, bool, std::string>;
using fields = std::vector<std::pair<std::string, field_value>>;

/// One timed operation. Those that nothing but the name sets apart also are JSON metrics:
/// <name>_ops_per_s, <name>_ns_per_op and, with a cold time, cold_<name>_ns_per_op.
struct operation {
  std::string name;
  double ns_per_op = 0;                  // median of the passes' medians; see pass_medians()
  std::optional<double> cold_ns_per_op;  // first repetition, on a fresh heap: median of the passes
  fields at = {};  // what sets it apart from others of its name: size, threads
  // Warm ns per operation of each pass, in the order they were taken.
  std::vector<std::vector<double>> passes = {};
  // The same in CPU time of the whole process; empty where the work is not on the CPU.
  std::vector<std::vector<double>> cpu_passes = {};
};

/// A curve: values over time, over size, over rounds. `x` and `y` are names with their units.
struct series {
  std::string name;
  std::string x;
  std::string y;
  std::vector<std::pair<double, double>> points;
};

/// What the heap reported while the objects of the case were live.
struct heap_use {
  std::optional<double> host_requests_per_million_mallocs;
  std::optional<double> waits_per_million_mallocs;
  std::optional<std::uint64_t> bytes_in_use;
  std::optional<std::uint64_t> peak_bytes;
  std::optional<double> utilisation;  // live payload / bytes of pages in use
};

/// The mallocs of a case, in all of its repetitions, and how many of them returned a null pointer.
struct call_counts {
  std::uint64_t mallocs = 0;
  std::uint64_t nulls = 0;
};

enum class check_state { ok, failed, skipped };

struct result {
  std::string name;
  fields params;
  std::vector<operation> operations;
  heap_use heap;
  fields metrics;  // whatever else was measured; units are part of the names
  check_state check = check_state::ok;
  std::string detail;  // why it failed or was skipped
  std::vector<series> curves = {};
  std::string suite = {};
  std::optional<call_counts> calls = {};  // nothing for a case that does not allocate
};

/// One result of several passes of a case: operations keep all that was measured, other figures
/// that are not whole numbers become medians, calls are added up, and the rest is that of the
/// latest pass. One failed pass fails the result.
result merged(const std::vector<result>& passes);

/// What the run ran on; the head of the table and of the JSON file.
struct machine {
  std::string backend;            // "simt" or "cuda"
  std::string device;             // name of the GPU or of the CPU
  std::string reason;             // why this backend
  std::string revision;           // of the source
  std::size_t reserve_bytes = 0;  // size of the heap of every case
  unsigned threads = 0;           // OS threads of the SIMT executor, 0: it is not used
  fields environment = {};        // how it was built, and on what; see environment.hpp
};

/// The number with three significant digits and a unit prefix: "12.3 M".
std::string format_rate(double per_second);
/// A plain number of at most 7 characters for the table.
std::string format_number(double number);

/// Prints the rows of results as they come.
class table {
 public:
  /// `name_width`: of the column of names.
  table(std::ostream& out, std::size_t name_width);
  void header();
  void rows(const result& one, std::string_view backend);

 private:
  std::ostream& out_;
  std::size_t name_width_;
};

/// Collects results and keeps the JSON and CSV files up to date: complete after every add().
class report {
 public:
  /// Throws usage_error if a file that is asked for can't be written.
  report(machine where, options wanted, std::ostream& out, std::size_t name_width = 16);

  /// Another pass of the case of this name, or its first one. Its rows are printed after the last.
  void add(result one, bool last_pass = true);
  /// Prints the rows that wait for more passes, the summary and writes the files for the last time.
  /// Throws std::runtime_error if that fails.
  void finish(bool interrupted);

  bool any_failed() const;
  const std::vector<result>& results() const { return results_; }
  std::string json(bool complete) const;
  /// One line for each operation, with a line of titles.
  std::string csv() const;

 private:
  /// A file that the results go to. A regular file is replaced after every result, another one
  /// (a pipe, /dev/null) is written once.
  struct target {
    std::string name;
    bool rewritable = false;
  };
  static target open_target(const std::string& name, const char* option);
  static void write(const target& to, const std::string& text);
  void write_files(bool complete, bool last);

  machine where_;
  options wanted_;
  std::ostream& out_;
  table table_;
  std::vector<result> results_;              // merged
  std::vector<std::vector<result>> passes_;  // of each
  std::vector<bool> printed_;
  std::chrono::steady_clock::time_point written_{};
  std::chrono::steady_clock::duration writing_took_{};
  target json_;
  target csv_;
};

}  // namespace warpheap::bench
