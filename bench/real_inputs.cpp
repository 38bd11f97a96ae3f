#include "bench/real_inputs.hpp"

#include <cstdlib>
#include <string>
#include <vector>

#include "bench/debian_packages.hpp"
#include "bench/graph_makers.hpp"
#include "bench/graph_reader.hpp"

namespace warpheap::bench {
namespace {

std::uint64_t most_events(const run_context& run) { return run.wanted.quick ? 50'000 : 1'000'000; }

/// bad_input is the user's mistake: the case fails by name instead of the run.
template <class Read>
auto read_or_fail(const std::string& option, const std::string& path, Read&& read) {
  if (path.empty()) throw no_input("no file was given with " + option);
  try {
    return read(path);
  } catch (const bad_input& error) {
    throw integrity_error(error.what());
  }
}

}  // namespace

graph_rows debian_graph(const run_context& run) {
  run.step("reads the package lists");
  static const package_graph graph = load_package_graph({}, run.wanted.quick ? 20'000 : 1'000'000);
  if (graph.edges() == 0)
    throw no_input("no packages in /var/lib/apt/lists and /var/lib/dpkg/status");
  return graph;
}

graph_rows rmat_graph(const run_context& run) {
  return make_rmat(run.wanted.quick ? 13 : run.backend == backend_kind::cuda ? 20 : 16, 8, 2);
}

graph_rows road_graph(const run_context& run) {
  const std::uint32_t side = run.wanted.quick                    ? 100
                             : run.backend == backend_kind::cuda ? 2000
                                                                 : 300;
  return make_roads(side, side, 3);
}

graph_rows file_graph(const run_context& run) {
  return read_or_fail("--graph", run.wanted.graph_file, read_graph);
}

const trace& perl_trace(const run_context& run) {
  run.step("records perl");
  ::setenv("PERL_HASH_SEED", "0", 0);  // the same calls in every run
  static const trace recorded = record_trace(
      {"perl", "-e",
       "for (@ARGV) { open F, $_ or next; while (<F>) { push @{$w{lc $_}}, $. for /\\w+/g } }"
       " my $n = 0; $n += @{$w{$_}} for sort keys %w; print \"$n\\n\"",
       "/usr/share/common-licenses/GPL-3", "/usr/share/common-licenses/LGPL-2.1"},
      most_events(run), find_recorder());
  return recorded;
}

const trace& compiler_trace(const run_context& run) {
  run.step("records a compiler");
  static const trace recorded = [&] {
    const std::string recorder = find_recorder();
    // The input comes from the command line: -include of a header, and no file to compile.
    for (const char* compiler : {"c++", "g++", "clang++", "cc"}) {
      trace one = record_trace(
          {compiler, "-x", "c++", "-std=c++20", "-fsyntax-only", "-include", "vector", "/dev/null"},
          most_events(run), recorder);
      if (!one.events.empty()) return one;
    }
    return trace{};
  }();
  return recorded;
}

const trace& file_trace(const run_context& run) {
  static const trace read = read_or_fail("--trace", run.wanted.trace_file, read_trace);
  return read;
}

void require_events(const trace& what) {
  if (!what.events.empty()) return;
  throw no_input(what.source.empty()
                     ? "no trace: the recorder or the program that it is to record is not here"
                     : "no allocation is in the trace '" + what.source + "'");
}

}  // namespace warpheap::bench
