#include "bench/model/estimate.hpp"

#include <algorithm>
#include <array>

namespace warpheap::bench::model {
namespace {

constexpr std::array<gpu, 3> gpus = {{{"V100", 1.530, 84, 200, 3133, 900},
                                      {"A100", 1.410, 128, 200, 7219, 1555},
                                      {"H100", 1.755, 144, 200, 8986, 3352}}};

constexpr double sector_bytes = 32;

}  // namespace

std::span<const gpu> known_gpus() { return gpus; }

double call_latency_ns(const gpu& on, const counts& of) {
  return (of.chain_loads + of.chain_atomics) * on.l2_cycles / on.clock_ghz;
}

double kernel_ns(const gpu& on, const counts& of, double calls) {
  const double at_once = std::min(calls, static_cast<double>(resident_warps) * on.multiprocessors);
  if (at_once <= 0) return 0;
  const double by_latency = calls / at_once * call_latency_ns(on, of);
  const double by_bandwidth = calls * of.sectors * sector_bytes / on.l2_bytes_per_ns;
  return std::max(by_latency, by_bandwidth);
}

}  // namespace warpheap::bench::model
