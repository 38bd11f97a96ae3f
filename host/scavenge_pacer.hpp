#pragma once

// When pages have been free for long enough, and how fast their memory is given back. (Go: the
// pacing of bgscavenge.)

#include <algorithm>
#include <chrono>
#include <cstddef>

namespace warpheap {

/// Makes the decisions of the thread that gives memory back in the background; its caller provides
/// the time.
///
/// It keeps as much memory as was in use at once in the last window of time, and some more, so that
/// a program that frees and allocates again in turn finds its memory in place. The rest goes in
/// small steps that take one hundredth of the time. Not thread-safe.
class scavenge_pacer {
 public:
  using clock = std::chrono::steady_clock;
  /// Memory that was not in use for one to two windows is given back.
  static constexpr std::chrono::nanoseconds window = std::chrono::seconds(2);
  /// Size of a step, for which the page allocator's lock is held.
  static constexpr std::size_t step_pages = 64;
  /// Kept beyond what was in use: a tenth of that, plus this.
  static constexpr std::size_t slack_pages = 512;
  static constexpr int part_of_time = 100;

  /// The most pages to give back now. peak: the most pages in use since the last call; committed:
  /// pages that hold memory.
  std::size_t due(clock::time_point now, std::size_t peak, std::size_t committed) {
    if (!started_) {
      started_ = true;
      window_end_ = now + window;
    }
    peak_ = std::max(peak_, peak);
    if (now >= window_end_) {
      keep_ = std::max(peak_, last_peak_);
      last_peak_ = peak_;
      peak_ = peak;
      window_end_ = now + window;
      seen_whole_window_ = true;
    }
    if (!seen_whole_window_ || now < rest_end_) return 0;
    const std::size_t in_use = std::max(keep_, peak_);
    const std::size_t keep = in_use + in_use / 10 + slack_pages;
    return committed > keep ? std::min(committed - keep, step_pages) : 0;
  }

  /// A step from `start` to `now` gave `pages` pages back.
  void done(clock::time_point start, clock::time_point now, std::size_t pages) {
    // The memory that is left is in threads' caches: it is no use to try again at once.
    rest_end_ = pages == 0 ? now + window : now + (now - start) * (part_of_time - 1);
  }

 private:
  bool started_ = false;
  bool seen_whole_window_ = false;
  clock::time_point window_end_, rest_end_;
  std::size_t peak_ = 0;       // of this window
  std::size_t last_peak_ = 0;  // of the one before
  std::size_t keep_ = 0;       // of the last two whole ones
};

}  // namespace warpheap
