// The command line of warpheap_bench.
#pragma once

#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <warpheap/options.hpp>

namespace warpheap::bench {

/// What --suite takes. A case belongs to one of them; "all" runs every case.
inline constexpr std::string_view suite_names[] = {"main",  "host", "device",   "survey",
                                                   "churn", "real", "hardware", "all"};

/// What the user asked for. Every member has the value of a run without arguments.
struct options {
  backend_kind backend = backend_kind::automatic;
  std::string suite = "main";                // one of suite_names
  std::string filter;                        // POSIX extended regular expression; empty: every case
  std::optional<unsigned> repeat;            // repetitions of each measurement in a pass
  std::optional<unsigned> passes;            // how often all cases are run, one after the other
  std::optional<unsigned> threads;           // OS threads of the SIMT executor
  std::optional<std::size_t> reserve_bytes;  // heap size of every case
  std::optional<unsigned> warm_up;           // repetitions before those that count
  std::string json_file;
  std::string csv_file;
  std::string graph_file;  // of the suite "real"
  std::string trace_file;  // of the suite "real"
  bool suite_given = false;
  bool quick = false;
  bool list = false;
  bool help = false;
  bool version = false;

  unsigned repetitions() const { return repeat.value_or(2u); }
  unsigned pass_count() const { return passes.value_or(5u); }
  unsigned warm_ups() const { return warm_up.value_or(quick ? 0u : 1u); }
};

/// A command line that can't be followed: says what was asked and what is possible.
class usage_error : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// Reads the arguments (without the program's name). Throws usage_error.
options parse_options(const std::vector<std::string>& arguments);

/// The text of --help.
std::string usage_text();

/// "simt", "cuda" or "auto".
std::string_view backend_option_name(backend_kind kind);

}  // namespace warpheap::bench
