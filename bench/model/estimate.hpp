// From counted operations to an estimate of the time on a GPU that is not here.
#pragma once

#include <span>
#include <string_view>

namespace warpheap::bench::model {

/// Published figures of a GPU, and where they are from.
struct gpu {
  std::string_view name;
  double clock_ghz;
  unsigned multiprocessors;
  double l2_cycles;        // latency of a load that hits the L2 cache, and of an atomic there
  double l2_bytes_per_ns;  // bandwidth of the L2 cache
  double memory_bytes_per_ns;
};

/// V100, A100 and H100, from table 3 of Ultrasonics Sonochemistry 99 (2023) 106546 (open access,
/// PMC10448217): clock, multiprocessors, L2 latency, bandwidths of L2 and memory.
std::span<const gpu> known_gpus();

/// Means over the calls of a warp.
struct counts {
  double loads = 0;  // of all lanes
  double atomics = 0;
  double stores = 0;
  double sectors = 0;      // distinct ones
  double chain_loads = 0;  // of the lane that made most
  double chain_atomics = 0;
};

/// One warp alone: every load and atomic of the longest lane waits for the one before it, and hits
/// the L2 cache. Arithmetic and instructions of the warp are not in it. Nanoseconds.
double call_latency_ns(const gpu& on, const counts& of);

/// `calls` warps with resident_warps of them at a time on each multiprocessor: the longest of what
/// latency and the bandwidth of the L2 cache allow. Contention for one word, the launch, and
/// waits for the host are not in it. Nanoseconds.
double kernel_ns(const gpu& on, const counts& of, double calls);

/// Warps that a multiprocessor runs at once, at most, on all three.
inline constexpr unsigned resident_warps = 64;

}  // namespace warpheap::bench::model
