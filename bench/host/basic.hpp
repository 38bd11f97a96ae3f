#pragma once

#include <vector>

#include "bench/host/workloads.hpp"

namespace warpheap::bench::host {

std::vector<measurement> run_pairs(const setting& how);
std::vector<measurement> run_batches(const setting& how);

std::vector<measurement> run_calloc(const setting& how);
std::vector<measurement> run_aligned(const setting& how);
std::vector<measurement> run_realloc(const setting& how);

}  // namespace warpheap::bench::host
