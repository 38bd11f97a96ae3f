// The order in which a run goes through its cases.
#pragma once

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "bench/progress.hpp"

namespace warpheap::bench {

/// Pass after pass over all cases: the repetitions of a case lie as far apart as the run allows, so
/// that what the machine does in the meantime shows as noise. A case that failed or was skipped
/// does not come again, as it would again, nor does one that is run once for all.
class pass_plan {
 public:
  /// once: for each case whether one pass is enough.
  pass_plan(std::vector<bool> once, unsigned passes)
      : once_(std::move(once)), done_(once_.size()), turns_(passes * once_.size()) {}

  /// The case to run now, by its number from 0; nothing at the end. The same until it ran.
  std::optional<std::size_t> next() {
    while (took_.size() < turns_ && done_[current()]) took_.push_back(0);
    return took_.size() < turns_ ? std::optional(current()) : std::nullopt;
  }
  /// It ran. True: that was its last time.
  bool ran(bool ok, double seconds) {
    const std::size_t i = current();
    // What does not come again says nothing of the time that is left.
    took_.push_back(once_[i] ? 0 : seconds);
    done_[i] = once_[i] || !ok || took_.size() + once_.size() > turns_;
    return done_[i];
  }

  /// Which turn it is, from 1, of how many; and seconds to the end, if that is known.
  std::size_t turn() const { return took_.size() + 1; }
  std::size_t turns() const { return turns_; }
  std::optional<double> seconds_left() const {
    return bench::seconds_left(took_, once_.size(), turns_ / once_.size());
  }

 private:
  std::size_t current() const { return took_.size() % once_.size(); }

  std::vector<bool> once_, done_;
  std::vector<double> took_;
  std::size_t turns_;
};

}  // namespace warpheap::bench
