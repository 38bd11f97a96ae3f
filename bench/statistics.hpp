// Median, quantiles and noise of repeated measurements.
#pragma once

#include <optional>
#include <vector>

namespace warpheap::bench {

/// 0 for no values.
double median(std::vector<double> values);

/// The value below which `part` (0 to 1) of the values lie, interpolated between neighbours; 0 for
/// no values.
double quantile(std::vector<double> values, double part);

/// The samples of all passes in one list.
std::vector<double> all_samples(const std::vector<std::vector<double>>& passes);

/// How far the figure of another run like this one is to be expected from this one's, in per cent
/// of it, with 95 %, where the figure is the median of the passes' medians. The unit is the pass:
/// samples of one pass share its luck. With passes normal on the scale of logarithms, the medians
/// of two runs of n passes differ by less than t(n - 1) * sqrt(pi / 2) * deviation * sqrt(2 / n)
/// (Student's t, so few passes state much noise; sqrt(pi / 2) is what a median is worse than a
/// mean, at the most). Nothing with fewer than two passes.
std::optional<double> noise_percent(const std::vector<std::vector<double>>& passes);

}  // namespace warpheap::bench
