// The survey's tests of speed (allocation, mixed sizes, scaling) and what Gallatin adds to them.
#pragma once

#include <string>
#include <vector>

#include "bench/rounds.cuh"

namespace warpheap::bench {
inline namespace WARPHEAP_BACKEND_NS {
namespace survey {

inline fields at_size(std::uint32_t size, std::size_t objects) {
  return {{"size_bytes", std::uint64_t{size}}, {"objects", std::uint64_t{objects}}};
}

inline std::vector<std::uint32_t> sizes(scale how) {
  return powers(4, 8192, how == scale::quick ? 4 : 2);
}

/// 10,000 and 100,000 objects of one size each.
inline std::vector<point> allocation_points(scale how, granularity each) {
  std::vector<point> out;
  for (const std::size_t objects : {10'000, 100'000}) {
    if (how == scale::quick && objects != 10'000) continue;
    for (const auto size : sizes(how))
      out.push_back({{size, size}, objects, each, at_size(size, objects)});
  }
  return out;
}

/// Sizes uniform in [4, N].
inline std::vector<point> mixed_points(scale how, granularity each) {
  std::vector<point> out;
  for (const std::size_t objects : {10'000, 100'000}) {
    if (how == scale::quick && objects != 10'000) continue;
    for (const auto most : sizes(how))
      out.push_back(
          {{4, most},
           objects,
           each,
           {{"max_size_bytes", std::uint64_t{most}}, {"objects", std::uint64_t{objects}}}});
  }
  return out;
}

/// From one thread to a million, for every size.
inline std::vector<point> scaling_points(scale how, granularity each) {
  std::vector<point> out;
  const std::vector<std::uint32_t> all = how == scale::paper      ? powers(4, 8192)
                                         : how == scale::executor ? powers(16, 4096, 16)
                                                                  : powers(16, 1024, 64);
  const std::uint32_t most = how == scale::paper      ? 1u << 20
                             : how == scale::executor ? 1u << 18
                                                      : 1u << 15;
  for (const auto size : all)
    for (const auto objects : powers(1, most,
                                     how == scale::paper   ? 2
                                     : how == scale::quick ? 8
                                                           : 4))
      out.push_back({{size, size}, objects, each, at_size(size, objects)});
  return out;
}

/// A million threads, 16 to 4096 bytes.
inline std::vector<point> gallatin_points(scale how) {
  std::vector<point> out;
  const std::size_t objects = how == scale::quick      ? 1u << 15
                              : how == scale::executor ? 1u << 18
                                                       : 1000000;
  for (const auto size : powers(16, 4096, how == scale::quick ? 16 : 4))
    out.push_back({{size, size}, objects, granularity::thread, at_size(size, objects)});
  out.push_back({{16, 4096},
                 objects,
                 granularity::thread,
                 {{"min_size_bytes", std::uint64_t{16}},
                  {"max_size_bytes", std::uint64_t{4096}},
                  {"objects", std::uint64_t{objects}}}});
  return out;
}

/// 16-byte objects up to 268 million threads, as far as the heap and the backend go.
inline std::vector<point> large_scaling_points(scale how) {
  std::vector<point> out;
  const std::uint32_t most = how == scale::paper      ? 1u << 28
                             : how == scale::executor ? 1u << 21
                                                      : 1u << 18;
  for (const auto objects : powers(how == scale::paper ? 1u << 20 : 1u << 16, most, 4))
    out.push_back({{16, 16}, objects, granularity::thread, at_size(16, objects)});
  return out;
}

template <allocator_adapter A>
void add_speed_cases() {
  for (const auto each : {granularity::thread, granularity::warp}) {
    const std::string per = granularity_name(each);
    add_case<A>("survey", 1, "survey/allocation/" + per,
                "malloc, write, free of one size, one object a " + per,
                [each](const run_context& run) {
                  return run_points<A>(run, allocation_points(scale_of(run), each));
                });
    add_case<A>("survey", 2, "survey/mixed/" + per, "sizes uniform from 4 to N, one a " + per,
                [each](const run_context& run) {
                  return run_points<A>(run, mixed_points(scale_of(run), each));
                });
    add_case<A>("survey", 3, "survey/scaling/" + per, "from one " + per + " to a million",
                [each](const run_context& run) {
                  return run_points<A>(run, scaling_points(scale_of(run), each));
                });
  }
  add_case<A>(
      "survey", 11, "survey/gallatin-sizes", "a million threads, 16 to 4096 bytes and mixed",
      [](const run_context& run) { return run_points<A>(run, gallatin_points(scale_of(run))); });
  add_case<A>("survey", 12, "survey/gallatin-scaling", "16 bytes, up to 268 million threads",
              [](const run_context& run) {
                return run_points<A>(run, large_scaling_points(scale_of(run)));
              });
}

}  // namespace survey
}  // namespace WARPHEAP_BACKEND_NS
}  // namespace warpheap::bench
