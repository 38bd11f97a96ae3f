// warpheap_bench: what --help says.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <new>
#include <set>
#include <string>
#include <vector>

#include <warpheap/heap.hpp>

#include "bench/environment.hpp"
#include "bench/name_filter.hpp"
#include "bench/options.hpp"
#include "bench/pass_plan.hpp"
#include "bench/progress.hpp"
#include "bench/registry.hpp"
#include "bench/report.hpp"
#include "bench/stopwatch.hpp"

#ifndef WARPHEAP_REVISION
#define WARPHEAP_REVISION "unknown"
#endif

namespace warpheap::bench {
namespace {

enum exit_status { all_ok = 0, check_failed = 1, bad_usage = 2, cannot_run = 3, stopped = 130 };

constexpr std::size_t probe_reserve = std::size_t{64} << 20;

/// The backend that `wanted` leads to on this machine, and why.
struct chosen_backend {
  backend_kind kind;
  std::string name;
  std::string reason;
  std::string device;
  std::size_t reserve_bytes;  // 0: the environment names none
};

chosen_backend choose_backend(backend_kind wanted) {
  heap_options options;
  options.backend = wanted;
  options.reserve_bytes = probe_reserve;
  const heap probe(options);
  const std::size_t got = probe.options().reserve_bytes;
  return {probe.backend(), probe.backend_name(), probe.backend_reason(), probe.device_name(),
          got == probe_reserve ? 0 : got};
}

void list_cases(const std::string& suite) {
  std::set<std::string> seen;
  for (const auto kind : {backend_kind::simt, backend_kind::cuda})
    for (const auto& one : select_cases(kind, "", suite))
      if (seen.insert(one.name).second)
        std::cout << std::left << std::setw(8) << one.suite << std::setw(36) << one.name << ' '
                  << one.summary << '\n';
}

void print_version(backend_kind wanted) {
  std::cout << "warpheap_bench " << WARPHEAP_REVISION << "\nkernels ";
  for (const auto kind : {backend_kind::simt, backend_kind::cuda})
    if (find_hooks(kind) != nullptr) std::cout << ' ' << backend_option_name(kind);
  std::cout << std::endl;
  const chosen_backend backend = choose_backend(wanted);
  std::cout << "backend  " << backend.name << " (" << backend.reason << ")\ndevice   "
            << backend.device << '\n';
}

/// On a GPU a quarter of what is free, at most 16 GiB: the heap of CUDA's own malloc, which is of
/// that size too, stays for as long as the process. On the executor half, or enough for every case.
std::size_t default_reserve(const backend_hooks& hooks, bool quick) {
  const bool gpu = hooks.backend == backend_kind::cuda;
  const std::size_t most = gpu     ? std::size_t{16} << 30
                           : quick ? std::size_t{1} << 30
                                   : std::size_t{2} << 30;
  return std::clamp(hooks.available_bytes() / (gpu ? 4 : 2), probe_reserve, most);
}

std::size_t longest_name(const std::vector<bench_case>& cases) {
  std::size_t longest = 0;
  for (const auto& one : cases) longest = std::max(longest, one.name.size());
  return longest;
}

/// Throws usage_error for an input file that cannot be read, or that no case of the run reads;
/// those in the suite "real" do whose names `readers` matches.
void check_input(const char* option, const std::string& path, const std::vector<bench_case>& cases,
                 const std::string& readers) {
  if (path.empty()) return;
  const name_filter wanted(readers);
  if (std::none_of(cases.begin(), cases.end(),
                   [&](const bench_case& one) { return wanted.matches(one.name); }))
    throw usage_error(std::string(option) + ": only the cases '" + readers
                      + "' of the suite 'real' read it, and none of them is in this run");
  std::ifstream file(path);
  if (file.peek() == std::ifstream::traits_type::eof())
    throw usage_error(std::string(option) + ": '" + path + "' is empty or cannot be read");
}

/// `no_heap` is set when the case could not have its heap.
result run_case(const bench_case& one, const run_context& run, bool& no_heap) {
  result out;
  try {
    out = one.run(run);
  } catch (const integrity_error& error) {
    out.check = check_state::failed;
    out.detail = error.what();
  } catch (const std::bad_alloc&) {
    out.check = check_state::failed;
    out.detail = "the memory of the machine is out";
  } catch (const no_input& error) {
    out.check = check_state::skipped;
    out.detail = error.what();
  } catch (const heap_error& error) {
    // Others need less, or find more: what a case has left behind may go later.
    no_heap = true;
    out.check = check_state::skipped;
    out.detail = error.what();
  }
  out.name = one.name;
  out.suite = one.suite;
  if (run.calls->mallocs != 0) out.calls = *run.calls;
  return out;
}

int run(const options& wanted) {
  const chosen_backend backend = choose_backend(wanted.backend);
  const backend_hooks* hooks = find_hooks(backend.kind);
  if (hooks == nullptr)
    throw std::runtime_error("this program was built without kernels for the backend '"
                             + backend.name + "'");
  const std::vector<bench_case> cases = select_cases(backend.kind, wanted.filter, wanted.suite);
  if (cases.empty())
    throw usage_error("no case of the suite '" + wanted.suite + "' matches '" + wanted.filter
                      + "'; --list names them all, with their suites");

  check_input("--graph", wanted.graph_file, cases, "^real/graph-file/");
  check_input("--trace", wanted.trace_file, cases, "^real/trace-(host-)?file/");

  const unsigned threads = hooks->set_threads(wanted.threads.value_or(0));
  // The environment variable WARPHEAP has the last word on a heap's options.
  const std::size_t reserve =
      backend.reserve_bytes != 0
          ? backend.reserve_bytes
          : wanted.reserve_bytes.value_or(default_reserve(*hooks, wanted.quick));
  heap_options checked;
  checked.reserve_bytes = reserve;
  checked.validate();
  report results({backend.name, backend.device, backend.reason, WARPHEAP_REVISION, reserve, threads,
                  describe_environment()},
                 wanted, std::cout, longest_name(cases));
  install_interrupt_handler();
  progress line;
  bool interrupted_run = false, no_heap = false, any_ok = false;
  try {
    std::vector<bool> once;
    for (const bench_case& one : cases) once.push_back(one.once);
    pass_plan plan(once, wanted.pass_count());
    for (auto i = plan.next(); i && !interrupted_run; i = plan.next()) {
      line.begin_case(cases[*i].name, plan.turn(), plan.turns(), plan.seconds_left());
      const stopwatch clock;
      result one = run_case(cases[*i], {wanted, line, backend.kind, reserve, threads}, no_heap);
      line.clear();
      const bool ok = one.check == check_state::ok;
      any_ok |= ok;
      const bool last = plan.ran(ok, clock.read().ns / 1e9);
      results.add(std::move(one), last);
      interrupted_run = interrupt_requested();
    }
  } catch (const interrupted&) {
    interrupted_run = true;
    line.clear();
  } catch (...) {
    line.clear();
    results.finish(true);
    throw;
  }
  results.finish(interrupted_run);
  if (interrupted_run) return stopped;
  if (results.any_failed()) return check_failed;
  return no_heap && !any_ok ? cannot_run : all_ok;
}

int guarded(const std::vector<std::string>& arguments) {
  try {
    const options wanted = parse_options(arguments);
    if (wanted.help) {
      std::cout << usage_text();
      return all_ok;
    }
    if (wanted.list) {
      list_cases(wanted.suite_given ? wanted.suite : "all");
      return all_ok;
    }
    if (wanted.version) {
      print_version(wanted.backend);
      return all_ok;
    }
    return run(wanted);
  } catch (const usage_error& error) {
    std::cerr << "warpheap_bench: " << error.what() << '\n';
    return bad_usage;
  } catch (const std::exception& error) {
    std::cerr << "warpheap_bench: " << error.what() << '\n';
    return cannot_run;
  }
}

}  // namespace
}  // namespace warpheap::bench

int main(int argc, char** argv) {
  return warpheap::bench::guarded(std::vector<std::string>(argv + 1, argv + argc));
}
