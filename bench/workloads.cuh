// Every workload that runs on any allocator. See adapter.cuh for how to add one.
#pragma once

#include "bench/churn.cuh"
#include "bench/device_lanes.cuh"
#include "bench/device_traffic.cuh"
#include "bench/real.cuh"
#include "bench/survey_graph.cuh"
#include "bench/survey_space.cuh"
#include "bench/survey_speed.cuh"
#include "bench/survey_work.cuh"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {

/// Adds all workloads for an allocator when it is constructed; for static objects.
template <allocator_adapter A>
struct workloads_of {
  workloads_of() {
    survey::add_speed_cases<A>();
    survey::add_space_cases<A>();
    survey::add_work_cases<A>();
    survey::add_graph_cases<A>();
    device_suite::add_lane_cases<A>();
    device_suite::add_traffic_cases<A>();
    churn::add_churn_cases<A>();
    real::add_real_cases<A>();
  }
};

}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
