#include "bench/options.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <utility>

#include "bench/name_filter.hpp"

namespace warpheap::bench {
namespace {

constexpr std::array<std::string_view, 16> known_options = {
    "--backend", "--suite",   "--filter", "--passes", "--repeat", "--warm-up",
    "--threads", "--quick",   "--list",   "--json",   "--csv",    "--graph",
    "--trace",   "--reserve", "--help",   "--version"};

std::string quoted(std::string_view text) { return "'" + std::string(text) + "'"; }

std::string list_of_options() {
  std::string out;
  for (const auto name : known_options) {
    if (!out.empty()) out += ' ';
    out += name;
  }
  return out;
}

unsigned parse_count(std::string_view text, std::string_view option, unsigned most,
                     unsigned least = 1) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most)
    throw usage_error(std::string(option) + ": " + quoted(text) + " is not a whole number from "
                      + std::to_string(least) + " to " + std::to_string(most));
  return value;
}

backend_kind parse_backend(std::string_view text) {
  if (text == "auto") return backend_kind::automatic;
  if (text == "simt") return backend_kind::simt;
  if (text == "cuda") return backend_kind::cuda;
  throw usage_error("--backend: " + quoted(text) + " is not a backend; possible: auto simt cuda");
}

std::string parse_suite(const std::string& text) {
  if (std::find(std::begin(suite_names), std::end(suite_names), text) == std::end(suite_names)) {
    std::string all;
    for (const auto name : suite_names) (all += ' ') += name;
    throw usage_error("--suite: " + quoted(text) + " is not a suite; possible:" + all);
  }
  return text;
}

std::size_t parse_reserve(const std::string& text) {
  std::size_t bytes = 0;
  std::string why = "is not a positive size";
  try {
    bytes = parse_size(text);
  } catch (const heap_error& error) {
    why = std::string("can't be used: ") + error.what();
  }
  if (bytes == 0)
    throw usage_error("--reserve: " + quoted(text) + ' ' + why
                      + "; possible: bytes with an optional unit, such as 67108864, 512M, 8G");
  return bytes;
}

}  // namespace

std::string_view backend_option_name(backend_kind kind) {
  switch (kind) {
    case backend_kind::simt: return "simt";
    case backend_kind::cuda: return "cuda";
    case backend_kind::automatic: break;
  }
  return "auto";
}

options parse_options(const std::vector<std::string>& arguments) {
  options out;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string name = arguments[i];
    std::optional<std::string> attached;
    if (const auto equals = name.find('='); name.starts_with("--") && equals != name.npos) {
      attached = name.substr(equals + 1);
      name.resize(equals);
    }
    if (name == "-h") name = "--help";
    if (std::find(known_options.begin(), known_options.end(), name) == known_options.end())
      throw usage_error("unknown option " + quoted(arguments[i])
                        + "; possible: " + list_of_options());

    const std::pair<std::string_view, bool*> switches[] = {{"--quick", &out.quick},
                                                           {"--list", &out.list},
                                                           {"--help", &out.help},
                                                           {"--version", &out.version}};
    const auto* const found = std::find_if(std::begin(switches), std::end(switches),
                                           [&](const auto& one) { return one.first == name; });
    if (found != std::end(switches)) {
      if (attached) throw usage_error(name + " takes no value, got " + quoted(*attached));
      *found->second = true;
      continue;
    }
    if (!attached) {
      if (i + 1 == arguments.size()) throw usage_error(name + " needs a value; see --help");
      attached = arguments[++i];
    }
    if (name == "--backend") {
      out.backend = parse_backend(*attached);
    } else if (name == "--filter") {
      name_filter{*attached};
      out.filter = *attached;
    } else if (name == "--repeat") {
      out.repeat = parse_count(*attached, name, 1'000'000);
    } else if (name == "--passes") {
      out.passes = parse_count(*attached, name, 1000);
    } else if (name == "--threads") {
      out.threads = parse_count(*attached, name, 1024);
    } else if (name == "--reserve") {
      out.reserve_bytes = parse_reserve(*attached);
    } else if (name == "--suite") {
      out.suite = parse_suite(*attached);
      out.suite_given = true;
    } else if (name == "--warm-up") {
      out.warm_up = parse_count(*attached, name, 1'000'000, 0);
    } else {
      if (attached->empty()) throw usage_error(name + ": an empty file name");
      (name == "--json"    ? out.json_file
       : name == "--csv"   ? out.csv_file
       : name == "--graph" ? out.graph_file
                           : out.trace_file) = *attached;
    }
  }
  return out;
}

std::string usage_text() {
  return R"(usage: warpheap_bench [options]

Runs the workloads, checks every result and prints one row per operation.

  --backend auto|simt|cuda  where kernels run: CUDA device, SIMT executor on the CPU, or the
                            first of the two that works (auto, the default)
  --suite NAME              which cases: main (the default), host, device, survey, churn, real,
                            hardware, all
  --filter REGEX            only the cases whose name matches (POSIX extended, anywhere in it)
  --passes N                how often all cases are run (5): the noise comes from how far
                            apart the passes lie, minutes after each other
  --repeat N                repetitions of each measurement in a pass (2); the first one, on a fresh
                            heap, is reported as "cold", the median of the others counts
  --warm-up N               repetitions between the cold one and those that count, in the suites
                            besides main (1; quick: 0)
  --threads N               operating system threads of the SIMT executor (default: one per core)
  --reserve SIZE            heap size of every case, e.g. 512M or 8G (default: by workload)
  --quick                   smaller inputs: the main job in less than a minute
  --list                    print the names of the cases and stop
  --json FILE               write the results to FILE, after every finished case
  --csv FILE                the same as one line for each operation
  --graph FILE              a graph for the suite real: MatrixMarket (.mtx) or a list of edges
  --trace FILE              a trace for the suite real, in the CSV form of RMM's logs
  --version                 print the revision, and where kernels would run
  --help                    this text

Exit status: 0 every check passed, 1 a check failed, 2 bad usage, 3 the backend or another part
could not be used, 130 interrupted.
)";
}

}  // namespace warpheap::bench
