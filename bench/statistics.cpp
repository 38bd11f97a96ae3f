#include "bench/statistics.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace warpheap::bench {
namespace {

// The 97.5 % point of Student's distribution by degrees of freedom, from 1; then the normal one's.
constexpr std::array<double, 30> student = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                            2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                                            2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                                            2.060,  2.056, 2.052, 2.048, 2.045, 2.042};
constexpr double normal = 1.960;

}  // namespace

double quantile(std::vector<double> values, double part) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double at = part * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  if (below + 1 >= values.size()) return values.back();
  const double weight = at - static_cast<double>(below);
  return values[below] + (values[below + 1] - values[below]) * weight;
}

double median(std::vector<double> values) { return quantile(std::move(values), 0.5); }

double noise_percent(const std::vector<double>& values) {
  const double middle = median(values);
  if (values.size() < 2 || middle == 0) return 0;
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double deviation = std::sqrt(squares / (count - 1));
  const double factor = values.size() - 2 < student.size() ? student[values.size() - 2] : normal;
  return 100 * factor * deviation * std::sqrt(1 + 1 / count) / std::fabs(middle);
}

}  // namespace warpheap::bench
