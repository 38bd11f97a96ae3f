// The cases of the benchmark: each flavour of a .cu file adds its own before main() starts.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <warpheap/options.hpp>

#include "bench/options.hpp"
#include "bench/progress.hpp"
#include "bench/report.hpp"

namespace warpheap::bench {

/// An object of the heap, or a value kept in it, is not what it must be. The text names the object,
/// what was expected and what was found.
class integrity_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The input of a case is not on this machine.
class no_input : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The user asked to stop.
class interrupted : public std::runtime_error {
 public:
  interrupted() : std::runtime_error("interrupted") {}
};

/// What a case gets to work with.
struct run_context {
  const options& wanted;
  progress& line;
  backend_kind backend;
  std::size_t reserve_bytes;  // size of the heap of every case
  unsigned executor_threads;  // 0: kernels do not run on the executor
  std::shared_ptr<call_counts> calls = std::make_shared<call_counts>();

  /// Adds to the calls of the case, which are told even when it fails.
  void count(std::uint64_t mallocs, std::uint64_t nulls) const;
  /// Says what happens now; throws interrupted after Ctrl-C. For use between kernels.
  void step(const std::string& what) const;
  /// step() for repetition i of all those that there are.
  void repetition(unsigned i) const;
  /// All repetitions of a measurement: the cold one, the warm-up, and those that count.
  unsigned repetitions() const { return wanted.repetitions() + wanted.warm_ups(); }
  /// Options for the heap of a case: this run's backend and size.
  heap_options heap_of_case() const;
};

struct bench_case {
  std::string name;
  std::string summary;
  backend_kind backend;
  int order;  // of the cases in a run, then by time of registration
  std::function<result(const run_context&)> run;
  std::string suite = "main";
  bool once = false;  // one pass says it all: counts, and medians of its own
};

/// Adds a case when it is constructed; for static objects.
struct registration {
  explicit registration(bench_case one);
};

/// What a run has to ask a flavour about its backend.
struct backend_hooks {
  backend_kind backend;
  std::function<std::size_t()> available_bytes;   // memory that a heap could take now
  std::function<unsigned(unsigned)> set_threads;  // 0: leaves them; returns how many there are
};

struct hooks_registration {
  explicit hooks_registration(backend_hooks hooks);
};

/// The cases of a backend and a suite ("all": of every suite) whose names match the expression
/// ("": all), in order.
std::vector<bench_case> select_cases(backend_kind backend, const std::string& filter,
                                     std::string_view suite = "all");
/// nullptr if the flavour is not part of this program.
const backend_hooks* find_hooks(backend_kind backend);

/// After the first Ctrl-C run_context::step() throws; the second one ends the program.
void install_interrupt_handler();
bool interrupt_requested();

}  // namespace warpheap::bench
