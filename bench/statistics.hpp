// Median, quantiles and noise of repeated measurements.
#pragma once

#include <vector>

namespace warpheap::bench {

/// 0 for no values.
double median(std::vector<double> values);

/// The value below which `part` (0 to 1) of the values lie, interpolated between neighbours; 0 for
/// no values.
double quantile(std::vector<double> values, double part);

/// How far another repetition is to be expected from these, in per cent of their median: half the
/// width of the interval that holds one further value of a normal distribution with 95 %
/// (Student's t, so few repetitions state much noise). 0 with fewer than two values.
double noise_percent(const std::vector<double>& values);

}  // namespace warpheap::bench
