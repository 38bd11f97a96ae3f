#include "bench/statistics.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <numeric>

namespace warpheap::bench {
namespace {

// The 97.5 % point of Student's distribution by degrees of freedom, from 1; then the normal one's.
constexpr std::array<double, 30> student = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                            2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                                            2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                                            2.060,  2.056, 2.052, 2.048, 2.045, 2.042};
constexpr double normal = 1.960;

// What two runs of one build differ by (95 %) though their passes do not show it: where memory
// happens to lie, what else the machine does. As logarithm; from runs under changing load.
constexpr double between_runs = 0.04;

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

std::vector<double> all_samples(const std::vector<std::vector<double>>& passes) {
  std::vector<double> out;
  for (const auto& pass : passes) out.insert(out.end(), pass.begin(), pass.end());
  return out;
}

std::optional<double> noise_percent(const std::vector<std::vector<double>>& passes) {
  std::vector<double> logarithms;
  for (const auto& pass : passes)
    if (const double middle = median(pass); middle > 0) logarithms.push_back(std::log(middle));
  if (logarithms.size() < 2) return std::nullopt;
  const auto count = static_cast<double>(logarithms.size());
  const double mean = std::accumulate(logarithms.begin(), logarithms.end(), 0.0) / count;
  double squares = 0;
  for (const double value : logarithms) squares += (value - mean) * (value - mean);
  const double deviation = std::sqrt(squares / (count - 1));
  const std::size_t freedom = logarithms.size() - 1;
  const double factor = freedom <= student.size() ? student[freedom - 1] : normal;
  const double of_median = logarithms.size() == 2 ? 1 : std::sqrt(std::numbers::pi / 2);
  return 100
         * std::expm1(
             std::hypot(factor * of_median * deviation * std::sqrt(2 / count), between_runs));
}

}  // namespace warpheap::bench
