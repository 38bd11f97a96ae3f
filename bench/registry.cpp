#include "bench/registry.hpp"

#include <algorithm>
#include <csignal>
#include <iterator>
#include <utility>

#include "bench/name_filter.hpp"

namespace warpheap::bench {
namespace {

// Function-local, since registrations run before main() in an order nobody knows.
std::vector<bench_case>& cases() {
  static std::vector<bench_case> all;
  return all;
}
std::vector<backend_hooks>& hooks() {
  static std::vector<backend_hooks> all;
  return all;
}

volatile std::sig_atomic_t stop_requested = 0;

}  // namespace

registration::registration(bench_case one) { cases().push_back(std::move(one)); }

hooks_registration::hooks_registration(backend_hooks one) { hooks().push_back(std::move(one)); }

std::vector<bench_case> select_cases(backend_kind backend, const std::string& filter,
                                     std::string_view suite) {
  const name_filter wanted(filter);
  std::vector<bench_case> out;
  for (const auto& one : cases())
    if (one.backend == backend && (suite == "all" || one.suite == suite)
        && wanted.matches(one.name))
      out.push_back(one);
  const auto place = [](const bench_case& one) {
    const auto* const at = std::find(std::begin(suite_names), std::end(suite_names), one.suite);
    return std::pair(at, one.order);
  };
  std::stable_sort(out.begin(), out.end(),
                   [&](const auto& a, const auto& b) { return place(a) < place(b); });
  return out;
}

const backend_hooks* find_hooks(backend_kind backend) {
  for (const auto& one : hooks())
    if (one.backend == backend) return &one;
  return nullptr;
}

void install_interrupt_handler() {
  struct sigaction action {};
  action.sa_handler = [](int) { stop_requested = 1; };
  action.sa_flags = SA_RESETHAND;  // the second one is the default: end at once
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupt_requested() { return stop_requested != 0; }

void run_context::count(std::uint64_t mallocs, std::uint64_t nulls) const {
  calls->mallocs += mallocs;
  calls->nulls += nulls;
}

void run_context::step(const std::string& what) const {
  if (interrupt_requested()) throw interrupted();
  line.step(what);
}

void run_context::repetition(unsigned i) const {
  step("repetition " + std::to_string(i + 1) + " of " + std::to_string(repetitions()));
}

heap_options run_context::heap_of_case() const {
  heap_options out;
  out.backend = backend;
  out.reserve_bytes = reserve_bytes;
  return out;
}

}  // namespace warpheap::bench
