// What the heap's refill service costs and what becomes of kernels without it; and how often they
// ask the host, over time. This heap alone has one.
#include <chrono>
#include <string>
#include <thread>

#include "bench/rounds.cuh"

namespace warpheap::bench {
namespace {

/// A population that grows for a while and then stays, round by round: requests and waits so far.
result run_requests(const run_context& run) {
  const scale how = scale_of(run);
  const std::size_t a_round = how == scale::paper      ? 1u << 20
                              : how == scale::executor ? 1u << 17
                                                       : 1u << 15;
  constexpr unsigned growing = 8;
  constexpr unsigned steady = 16;
  const size_plan sizes{16, 256};
  warpheap_adapter allocator(run.reserve_bytes);
  std::vector<std::unique_ptr<object_rounds<warpheap_adapter>>> live;
  series requests{"host_requests", "million mallocs", "requests to the host so far", {}};
  series waits{"host_waits", "million mallocs", "waits for the host so far", {}};
  series speed{"malloc_ns", "million mallocs", "malloc (ns/op)", {}};
  timings grow("malloc", 0, {{"phase", std::string("growing")}});
  timings stay("malloc", 0, {{"phase", std::string("steady")}});
  std::uint64_t mallocs = 0;
  heap_snapshot after_growth;
  for (unsigned round = 0; round < growing + steady; ++round) {
    run.step("round " + std::to_string(round + 1));
    const bool is_steady = round >= growing;
    if (is_steady) {  // the oldest round goes before a new one comes
      live.front()->verify();
      live.front()->give();
      live.erase(live.begin());
    }
    live.push_back(std::make_unique<object_rounds<warpheap_adapter>>(allocator, a_round));
    const elapsed took = live.back()->take(a_round, sizes);
    (is_steady ? stay : grow).add(took, a_round);
    live.back()->write();
    run.count(a_round, live.back()->nulls());
    require_served(live.back()->nulls(), a_round, payload_of(sizes, a_round) * growing,
                   run.reserve_bytes);
    mallocs += a_round;
    const heap_snapshot now = snapshot(allocator.tested());
    if (round + 1 == growing) after_growth = now;
    const double millions = static_cast<double>(mallocs) / 1e6;
    requests.points.emplace_back(millions, now.host_requests);
    waits.points.emplace_back(millions, now.waits);
    speed.points.emplace_back(millions, took.ns / static_cast<double>(a_round));
  }
  const heap_snapshot full = snapshot(allocator.tested());
  for (auto& one : live) {
    one->verify();
    one->give();
  }
  rest(allocator);
  const double steady_millions = static_cast<double>(steady * a_round) / 1e6;
  result out;
  out.params = {{"objects_per_round", std::uint64_t{a_round}},
                {"growing_rounds", std::uint64_t{growing}},
                {"steady_rounds", std::uint64_t{steady}}};
  out.operations = {grow.finish(), stay.finish()};
  out.heap = usage(full, full, 0, mallocs);
  out.heap.utilisation.reset();
  out.metrics = {
      {"steady_host_requests_per_million_mallocs",
       static_cast<double>(full.host_requests - after_growth.host_requests) / steady_millions},
      {"steady_waits_per_million_mallocs",
       static_cast<double>(full.waits - after_growth.waits) / steady_millions}};
  out.curves = {std::move(requests), std::move(waits), std::move(speed)};
  return out;
}

/// Growth with the service running, paused in the middle of a kernel, and stopped before it.
result run_service(const run_context& run) {
  const std::size_t count = scale_of(run) == scale::paper ? 1u << 20 : 1u << 15;
  const size_plan plan{256, 256};
  result out;
  for (const std::string state : {"running", "paused", "stopped"}) {
    timings take("malloc", 0, {{"service", state}});
    std::uint64_t nulls = 0;
    const point_clock clock(run);
    unsigned i = 0;
    for (; clock.wants(i); ++i) {
      run.repetition(i);
      warpheap_adapter allocator(run.reserve_bytes);
      object_rounds<warpheap_adapter> rounds(allocator, count);
      heap& tested = allocator.tested();
      if (state == "stopped") tested.stop_refill_service();
      std::thread pause;
      if (state == "paused")
        pause = std::thread([&] {
          tested.stop_refill_service();
          std::this_thread::sleep_for(std::chrono::microseconds(500));
          tested.start_refill_service();
        });
      take.add(rounds.take(count, plan), count);
      if (pause.joinable()) pause.join();
      rounds.write();
      rounds.verify();
      nulls += rounds.nulls();
      run.count(count, rounds.nulls());
      rounds.give();
      if (state == "stopped") tested.start_refill_service();
      rest(allocator);
    }
    if (state == "running" && nulls != 0)
      throw integrity_error("with the service running: expected memory for every object, found "
                            + std::to_string(nulls) + " null pointers");
    out.operations.push_back(take.finish());
    out.metrics.emplace_back(state + "_served_ratio",
                             1 - static_cast<double>(nulls) / static_cast<double>(count * i));
  }
  out.params = {{"objects", std::uint64_t{count}}, {"size_bytes", std::uint64_t{256}}};
  return out;
}

const registration of_requests({"device/requests/warpheap",
                                "requests to the host and waits for it, over time", this_backend, 8,
                                run_requests, "device"});
const registration of_service({"device/service/warpheap",
                               "the refill service running, paused, stopped", this_backend, 9,
                               run_service, "device"});

}  // namespace
}  // namespace warpheap::bench
