// A line on standard error that says what a long run is doing.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace warpheap::bench {

/// "45 s", "12 min", "3 h 20 min".
std::string duration_text(std::chrono::seconds time);

/// On a terminal one line that changes in place; elsewhere a new line every few seconds, so that a
/// log shows the run is alive. Used from one thread.
class progress {
 public:
  progress();
  ~progress();
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  /// The case that runs now, "3 of 12". From the second on the line says how much time is left, if
  /// the cases to come take as long as those before.
  void begin_case(const std::string& name, std::size_t number, std::size_t of);
  /// What it does now.
  void step(const std::string& what);
  /// Takes the line away before something else is printed.
  void clear();

 private:
  bool terminal_;
  bool shown_ = false;
  std::string case_;
  std::chrono::steady_clock::time_point last_;
  std::chrono::steady_clock::time_point started_;
};

}  // namespace warpheap::bench
