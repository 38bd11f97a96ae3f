// What the passes of a case say together.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench/report.hpp"
#include "bench/statistics.hpp"

namespace warpheap::bench {
namespace {

const operation* find_like(const std::vector<operation>& all, const operation& wanted) {
  const auto at = std::find_if(all.begin(), all.end(), [&](const operation& one) {
    return one.name == wanted.name && one.at == wanted.at;
  });
  return at == all.end() ? nullptr : &*at;
}

/// What the passes have of a figure: its median, nothing where no pass has it.
template <class Get>
std::optional<double> middle(const std::vector<const result*>& passes, Get&& get) {
  std::vector<double> found;
  for (const result* one : passes)
    if (const std::optional<double> value = get(*one)) found.push_back(*value);
  if (found.empty()) return std::nullopt;
  return median(std::move(found));
}

operation merged_operation(const operation& like, const std::vector<const result*>& passes) {
  operation out{like.name, 0, std::nullopt, like.at, {}, {}};
  std::vector<double> times;
  std::vector<double> cold;
  for (const result* pass : passes) {
    const operation* one = find_like(pass->operations, like);
    if (one == nullptr) continue;
    times.push_back(one->ns_per_op);
    if (one->cold_ns_per_op) cold.push_back(*one->cold_ns_per_op);
    out.passes.insert(out.passes.end(), one->passes.begin(), one->passes.end());
    out.cpu_passes.insert(out.cpu_passes.end(), one->cpu_passes.begin(), one->cpu_passes.end());
  }
  out.ns_per_op = median(std::move(times));
  if (!cold.empty()) out.cold_ns_per_op = median(std::move(cold));
  return out;
}

std::optional<double> number_in(const fields& from, const std::string& name) {
  for (const auto& [key, value] : from)
    if (key == name)
      if (const auto* number = std::get_if<double>(&value)) return *number;
  return std::nullopt;
}

}  // namespace

result merged(const std::vector<result>& passes) {
  if (passes.empty()) return {};
  std::optional<call_counts> calls;
  for (const result& one : passes)
    if (one.calls) {
      if (!calls) calls.emplace();
      calls->mallocs += one.calls->mallocs;
      calls->nulls += one.calls->nulls;
    }
  std::vector<const result*> all;
  for (const result& one : passes) {
    if (one.check == check_state::failed) {
      result failed = one;
      failed.calls = calls;
      return failed;
    }
    all.push_back(&one);
  }
  result out = passes.back();
  out.calls = calls;
  for (operation& one : out.operations) one = merged_operation(one, all);
  for (auto& [name, value] : out.metrics)
    if (std::holds_alternative<double>(value))
      value = middle(all, [&key = name](const result& one) {
                return number_in(one.metrics, key);
              }).value_or(std::get<double>(value));
  const auto of_heap = [&](std::optional<double> heap_use::*member) {
    out.heap.*member = middle(all, [&](const result& one) { return one.heap.*member; });
  };
  of_heap(&heap_use::host_requests_per_million_mallocs);
  of_heap(&heap_use::waits_per_million_mallocs);
  of_heap(&heap_use::utilisation);
  return out;
}

}  // namespace warpheap::bench
