// A line on standard error that says what a long run is doing.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace warpheap::bench {

/// "45 s", "12 min", "3 h 20 min".
std::string duration_text(std::chrono::seconds time);

/// What is left of a run of `passes` over `cases` cases each, of which the first ones `took` these
/// seconds: a case takes as long as the last time, and one that was not there yet as long as the
/// mean of the others. Nothing before the first one has ended.
std::optional<double> seconds_left(const std::vector<double>& took, std::size_t cases,
                                   std::size_t passes);

/// On a terminal one line that changes in place; elsewhere a new line every few seconds, so that a
/// log shows the run is alive. Used from one thread.
class progress {
 public:
  progress();
  ~progress();
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  /// The case that runs now, "3 of 12", and how much time is left, if that is known.
  void begin_case(const std::string& name, std::size_t number, std::size_t of,
                  std::optional<double> seconds_left);
  /// What it does now.
  void step(const std::string& what);
  /// Takes the line away before something else is printed.
  void clear();

 private:
  bool terminal_;
  bool shown_ = false;
  std::string case_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace warpheap::bench
