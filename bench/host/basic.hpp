#pragma once

#include <vector>

#include "bench/host/workloads.hpp"

namespace warpheap::bench::host {

std::vector<measurement> run_pairs(const setting& how);
std::vector<measurement> run_batches(const setting& how);

}  // namespace warpheap::bench::host
