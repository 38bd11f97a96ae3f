// The suite "host": the same program with each allocator's malloc, in turn, in one run; for Go's
// runtime one in Go.
#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "bench/command.hpp"
#include "bench/host/workloads.hpp"
#include "bench/measure.hpp"
#include "bench/registry.hpp"

#ifndef WARPHEAP_BENCH_HOST_GO
#define WARPHEAP_BENCH_HOST_GO ""
#endif

namespace warpheap::bench {
namespace {

/// Whose malloc: a library to preload, found by the loader, or a program of its own.
struct allocator {
  std::string name;
  std::string preload;  // empty: the program's own
  std::string program = WARPHEAP_BENCH_HOST_PROGRAM;

  /// Whether it is known to be here; of others the program says so when it is started.
  bool must_run() const {
    return name == "warpheap" || (preload.empty() && std::filesystem::exists(program));
  }
};

const std::vector<allocator>& allocators() {
  static const std::vector<allocator> all = {
      {"warpheap", WARPHEAP_BENCH_MALLOC},      {"glibc", ""},
      {"mimalloc", "libmimalloc.so.2"},         {"jemalloc", "libjemalloc.so.2"},
      {"tcmalloc", "libtcmalloc_minimal.so.4"}, {"go", "", WARPHEAP_BENCH_HOST_GO},
  };
  return all;
}

/// What a program in Go says of its runtime.
struct go_runtime {
  std::string version;  // empty: the program is not in Go
  std::uint64_t threads = 0, collections = 0;
};

/// What one run of the program printed.
struct child_result {
  bool ran = false;
  std::vector<host::measurement> measurements;
  std::size_t start_kib = 0, peak_kib = 0, end_kib = 0;
  call_counts calls;
  go_runtime go;
};

child_result run_child(const std::string& workload, const host::setting& how,
                       const allocator& whose) {
  child_result out;
  if (whose.program.empty()) return out;
  // Settings of Go's runtime that the user may have.
  std::vector<std::string> command = {"env", "-u",      "GOGC", "-u",        "GOMEMLIMIT",
                                      "-u",  "GODEBUG", "-u",   "GOMAXPROCS"};
  if (!whose.preload.empty()) command.push_back("LD_PRELOAD=" + whose.preload);
  for (const std::string& word : {whose.program, workload, std::to_string(how.threads),
                                  std::string(how.touch ? "1" : "0"), std::to_string(how.scale)}) {
    command.push_back(word);
  }
  if (!whose.preload.empty()) {
    command.push_back(std::filesystem::path(whose.preload).filename().string());
  }
  std::string text;
  out.ran = read_command(command, [&](std::string_view piece) {
    text += piece;
    return true;
  });
  std::istringstream lines(text);
  for (std::string kind; lines >> kind;) {
    if (kind == "op") {
      host::measurement m;
      lines >> m.bytes >> m.ns_per_op >> m.cpu_ns_per_op;
      out.measurements.push_back(m);
    } else if (kind == "calls") {
      lines >> out.calls.mallocs >> out.calls.nulls;
    } else if (kind == "rss") {
      lines >> out.start_kib >> out.peak_kib >> out.end_kib;
    } else if (kind == "go") {
      lines >> out.go.version >> out.go.threads >> out.go.collections;
    }
  }
  return out;
}

/// An allocator's row at each size, and its memory: the most that any repetition took.
struct record {
  std::vector<operation> at_size;
  std::size_t peak_kib = 0, end_kib = 0;
};

std::string at_bytes(std::size_t bytes) { return bytes == 0 ? "" : "_" + std::to_string(bytes); }

/// Times of warpheap over those of the best other one, and over mimalloc in memory.
void add_ratios(result& out, const std::map<std::string, record>& by_name,
                const std::vector<host::measurement>& sizes) {
  const auto own = by_name.find("warpheap");
  if (own == by_name.end() || by_name.size() < 2) return;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    double best = 0;
    std::string whose;
    for (const auto& [name, r] : by_name) {
      if (name == "warpheap") continue;
      const double ns = r.at_size[i].ns_per_op;
      if (whose.empty() || ns < best) best = ns, whose = name;
    }
    out.metrics.emplace_back("time_over_best" + at_bytes(sizes[i].bytes),
                             own->second.at_size[i].ns_per_op / best);
    out.metrics.emplace_back("best_other" + at_bytes(sizes[i].bytes), whose);
  }
}

result run_workload(const run_context& run, const std::string& workload, unsigned threads,
                    bool touch) {
  host::setting how;
  how.threads = threads;
  how.touch = touch;
  how.scale = run.wanted.quick ? 0.2 : 1;
  std::map<std::string, record> by_name;
  std::vector<host::measurement> sizes;
  std::string missing;
  go_runtime go;
  result out;
  // Each process is a fresh one: none of them is the cold one that does not count.
  for (unsigned i = 0; i + 1 < std::max(run.repetitions(), 2u); ++i) {
    run.repetition(i);
    // All in turn, so that what the machine does besides meets all of them.
    for (const allocator& whose : allocators()) {
      host::setting one = how;
      // Go's operations take up to a hundred times as long as others'.
      if (run.wanted.quick && whose.program == WARPHEAP_BENCH_HOST_GO) one.scale /= 4;
      const child_result got = run_child(workload, one, whose);
      if (!got.ran) {
        if (whose.must_run())
          throw integrity_error(workload + " failed with the malloc of " + whose.name);
        if (i == 0) missing += (missing.empty() ? "" : ", ") + whose.name;
        continue;
      }
      sizes = got.measurements;
      run.count(got.calls.mallocs, got.calls.nulls);
      record& r = by_name[whose.name];
      for (std::size_t k = 0; k < sizes.size(); ++k) {
        if (r.at_size.size() == k) {
          fields at;
          if (sizes[k].bytes != 0) at.emplace_back("bytes", std::uint64_t{sizes[k].bytes});
          r.at_size.push_back({whose.name, 0, std::nullopt, std::move(at), {{}}, {{}}});
        }
        operation& one = r.at_size[k];
        one.passes.front().push_back(sizes[k].ns_per_op);
        one.cpu_passes.front().push_back(sizes[k].cpu_ns_per_op);
        one.ns_per_op = median(one.passes.front());
      }
      r.peak_kib = std::max(r.peak_kib, got.peak_kib);
      r.end_kib = std::max(r.end_kib, got.end_kib);
      if (!got.go.version.empty()) go = got.go;
    }
  }
  out.params = {{"threads", std::uint64_t{threads}}, {"touched", touch}};
  for (std::size_t k = 0; k < sizes.size(); ++k) {
    for (const allocator& whose : allocators()) {
      const auto at = by_name.find(whose.name);
      if (at != by_name.end()) out.operations.push_back(at->second.at_size[k]);
    }
  }
  add_ratios(out, by_name, sizes);
  for (const auto& [name, r] : by_name) {
    out.metrics.emplace_back(name + "_peak_rss_kib", std::uint64_t{r.peak_kib});
    out.metrics.emplace_back(name + "_end_rss_kib", std::uint64_t{r.end_kib});
  }
  if (!go.version.empty()) {
    out.metrics.emplace_back("go_version", go.version);
    out.metrics.emplace_back("go_max_threads", go.threads);
    out.metrics.emplace_back("go_collections", go.collections);
  }
  if (!missing.empty()) out.metrics.emplace_back("not_on_this_machine", missing);
  return out;
}

/// The suite needs no kernel: its cases are there whatever the backend.
struct registrations {
  registrations() {
    for (const host::workload& w : host::workloads()) {
      const std::string name = w.name;
      const bool basic = name == "pairs" || name == "batches";
      for (const unsigned threads : {1u, 2u}) {
        for (const bool touch : basic ? std::vector<bool>{false, true} : std::vector<bool>{true}) {
          std::string full = "host/" + name + "/" + std::to_string(threads);
          if (basic) full += touch ? "/touched" : "/untouched";
          for (const backend_kind backend : {backend_kind::simt, backend_kind::cuda}) {
            add({full, w.summary, backend, 0,
                 [=](const run_context& run) { return run_workload(run, name, threads, touch); },
                 "host"});
          }
        }
      }
    }
  }
  static void add(bench_case one) { const registration registered(std::move(one)); }
};
const registrations registered;

}  // namespace
}  // namespace warpheap::bench
